package logs

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/access"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// add pushes lines.
func (l *accessLog) add(lines []byte) { l.push(&accessLine{text: bytes.Clone(lines)}) }

// accessParams are those of a request.
type accessParams map[string]string

func (p accessParams) Get(name string) string { return p[name] }

func accessTo(t *testing.T, o AccessOptions) *Logs {
	t.Helper()
	l, err := New(Options{Level: "info", Format: "json", Access: o})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.access.set(new(AccessOptions), nil) })
	return l
}

func contents(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The lines are there when Flush returns, in the format of the moment, and in the file of
// the moment.
func TestAccess(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access")
	l := accessTo(t, AccessOptions{Output: file})
	if !l.HasAccess() {
		t.Error("there is no access log")
	}
	line := &access.Line{Pool: "p", Status: 200, Params: accessParams{"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/a"}}
	l.Access(line)
	l.Flush()
	if got := contents(t, file); !strings.HasPrefix(got, "{") || !strings.Contains(got, `"pool":"p"`) {
		t.Errorf("got %q", got)
	}
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	l.Access(line)
	if _, failed := l.Reopen(); failed != nil {
		t.Fatal(failed)
	}
	f, err := access.Parse("%m %r %s")
	if err != nil {
		t.Fatal(err)
	}
	commit, _, err := l.Prepare(Options{Level: "info", Access: AccessOptions{Output: file, Format: f}})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	l.Access(line)
	l.Flush()
	if got := contents(t, file+".1") + contents(t, file); strings.Count(got, `"pool":"p"`) != 2 || !strings.HasSuffix(got, "GET /a 200\n") {
		t.Errorf("got %q", got)
	}
	l.access.set(new(AccessOptions), nil)
	l.Access(line)
	if l.HasAccess() {
		t.Error("there is an access log")
	}
}

// As php-fpm's access.suppress_path: nothing but a plain request that went well is left out.
func TestSuppress(t *testing.T) {
	o := AccessOptions{Suppress: []string{"/ping", "/health"}}
	base := func() *access.Line {
		return &access.Line{Status: 200, Params: accessParams{"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/ping"}}
	}
	if !o.suppresses(base()) {
		t.Error("it is not left out")
	}
	front := base()
	front.Params = accessParams{"REQUEST_METHOD": "HEAD", "SCRIPT_NAME": "/index.php", "REQUEST_URI": "/health"}
	if !o.suppresses(front) {
		t.Error("one behind a front controller is not left out")
	}
	for name, change := range map[string]func(*access.Line){
		"path":      func(l *access.Line) { l.Params.(accessParams)["SCRIPT_NAME"] = "/ping/x" },
		"query":     func(l *access.Line) { l.Params.(accessParams)["QUERY_STRING"] = "x" },
		"method":    func(l *access.Line) { l.Params.(accessParams)["REQUEST_METHOD"] = "POST" },
		"body":      func(l *access.Line) { l.In = 1 },
		"status":    func(l *access.Line) { l.Status = 404 },
		"no status": func(l *access.Line) { l.Status = 0 },
		"reason":    func(l *access.Line) { l.Reason = errors.New("gave up") },
	} {
		l := base()
		change(l)
		if o.suppresses(l) {
			t.Errorf("another %s: it is left out", name)
		}
	}
}

// A sink is what an access log of a test writes to.
type sink struct {
	mu    sync.Mutex // guards the fields below
	got   strings.Builder
	said  []string
	write func(p []byte) (int, error) // nil takes all
}

// text is what was written.
func (s *sink) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.String()
}

// takes says what becomes of lines from now on.
func (s *sink) takes(write func(p []byte) (int, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write = write
}

func (s *sink) log() *accessLog {
	l := newAccessLog(func(_ slog.Level, message string, fields ...any) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.said = append(s.said, fmt.Sprint(append([]any{message}, fields[2:]...)...))
	})
	l.write = func(_ *os.File, p []byte, patience time.Duration) (n int, err error) {
		n = len(p)
		s.mu.Lock()
		write := s.write
		s.mu.Unlock()
		if write != nil {
			n, err = write(p)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			time.Sleep(patience)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.got.Write(p[:n])
		return n, err
	}
	l.set(&AccessOptions{Output: "x"}, os.Stderr)
	return l
}

// Lines are written together, no later than accessDelay, and sooner when they are many.
func TestAccessDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		var writes atomic.Int32
		s.takes(func(p []byte) (int, error) { writes.Add(1); return len(p), nil })
		l := s.log()
		began := time.Now()
		for range 3 {
			l.add([]byte("line\n"))
		}
		time.Sleep(accessDelay - 1)
		synctest.Wait()
		if len(s.text()) > 0 {
			t.Error("it was written at once")
		}
		time.Sleep(1 * time.Nanosecond)
		synctest.Wait()
		if got := s.text(); got != "line\nline\nline\n" || writes.Load() != 1 || time.Since(began) != accessDelay {
			t.Errorf("%d writes of %q", writes.Load(), got)
		}
		for range accessFull/5 + 1 {
			l.add([]byte("line\n"))
		}
		synctest.Wait()
		if len(s.text()) != 15+(accessFull/5+1)*5 || time.Since(began) != accessDelay {
			t.Errorf("%d bytes after %v", len(s.text()), time.Since(began))
		}
	})
}

// Who adds a line waits for nothing. Of lines that are not taken some wait; what there is
// no room for is dropped, counted and told of.
func TestAccessTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sink
		s.takes(func(p []byte) (int, error) { return min(3, len(p)), os.ErrDeadlineExceeded })
		l := s.log()
		began := time.Now()
		l.add([]byte("first\n"))
		time.Sleep(time.Second)
		s.takes(func([]byte) (int, error) { return 0, os.ErrDeadlineExceeded })
		line := []byte(strings.Repeat("x", 1023) + "\n")
		time.Sleep(3 * time.Second)
		before := time.Now()
		for range accessRoom/len(line) + 10 {
			l.add(line)
		}
		if time.Since(before) > 0 {
			t.Errorf("adding took %v", time.Since(before))
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if len(s.said) != 1 || !strings.HasPrefix(s.said[0], "a log takes nothing") {
			t.Errorf("said %q", s.said)
		}
		l.flush() // which gives up
		s.takes(nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		l.flush()
		got := s.text()
		if whole := "first\n" + strings.Repeat(string(line), (len(got)-6)/len(line)); got != whole || len(got) < accessRoom-2*len(line) {
			t.Errorf("%d bytes after %v, which are not what was added: %.20q", len(got), time.Since(began), got)
		}
		lost := accessRoom/len(line) + 10 - (len(got)-6)/len(line)
		if len(s.said) != 2 || s.said[1] != fmt.Sprint("a log has dropped records", "records", lost) || l.lost.Load() != int64(lost) {
			t.Errorf("said %q, counted %d, lost were %d", s.said, l.lost.Load(), lost)
		}
	})
}

// What has failed is not written again, and told of once.
func TestAccessCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sink{write: func([]byte) (int, error) { return 0, errors.New("no space") }}
		l := s.log()
		for range 3 {
			l.add([]byte("a\nb\n"))
			l.flush()
		}
		s.takes(nil)
		l.add([]byte("c\n"))
		l.flush()
		if s.text() != "c\n" || len(s.said) != 2 || s.said[1] != "a log has dropped recordsrecords6" || l.lost.Load() != 6 {
			t.Errorf("wrote %q, said %q, counted %d", s.text(), s.said, l.lost.Load())
		}
	})
}

// What follows a line that was written in part is a line of its own, in the same file.
func TestAccessIsCut(t *testing.T) {
	full := errors.New("no space")
	for name, tt := range map[string]struct {
		taken []int // of each write, until there is room
		want  string
		lost  int
	}{
		"in a line":       {[]int{7}, "one\ntwo\nnext\n", 1},
		"in the first":    {[]int{3}, "one\nnext\n", 2},
		"between lines":   {[]int{4}, "one\nnext\n", 1},
		"before any":      {[]int{0}, "next\n", 2},
		"then not at all": {[]int{6, 0}, "one\ntw\nnext\n", 3},
		"then one byte":   {[]int{6, 1}, "one\ntw\nnext\n", 3},
		"then in a line":  {[]int{6, 4}, "one\ntw\none\nnext\n", 3},
		"then a line":     {[]int{6, 5}, "one\ntw\none\nnext\n", 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var s sink
				l := s.log()
				for _, n := range tt.taken {
					s.takes(func([]byte) (int, error) { return n, full })
					l.add([]byte("one\ntwo\n"))
					l.flush()
				}
				s.takes(nil)
				l.add([]byte("next\n"))
				l.flush()
				lost := fmt.Sprint("a log has dropped records", "records", tt.lost)
				if s.text() != tt.want || len(s.said) != 2 || s.said[1] != lost {
					t.Errorf("wrote %q, want %q; said %q, want %q", s.text(), tt.want, s.said, lost)
				}
			})
		})
	}
}

func temporary(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := open(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// It is the same file when it was opened anew, and another is not.
func TestAccessIsCutAndReopened(t *testing.T) {
	for name, want := range map[string]string{"same": "one\ntw\nnext\n", "other": "one\ntwnext\n"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := sink{write: func([]byte) (int, error) { return 6, errors.New("no space") }}
				l, f := s.log(), temporary(t, "x")
				next := temporary(t, "y")
				if name == "same" {
					next = f
				}
				again, err := open(next.Name())
				if err != nil {
					t.Fatal(err)
				}
				l.set(&AccessOptions{Output: "x"}, f)
				l.add([]byte("one\ntwo\n"))
				l.flush()
				l.set(&AccessOptions{Output: "x"}, again)
				s.takes(nil)
				l.add([]byte("next\n"))
				l.flush()
				if s.text() != want {
					t.Errorf("wrote %q, want %q", s.text(), want)
				}
			})
		})
	}
}

// A line that does not get in, and one of which the rest gets in later, are no reason for more.
func TestAccessIsCutAndStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sink{write: func([]byte) (int, error) { return 2, errors.New("no space") }}
		l := s.log()
		l.add([]byte("one\n"))
		l.flush()
		l.add([]byte("two\nnext\n"))
		for _, n := range []int{0, 1, 2, 0, 3} { // "\n", "tw", "o\nn"
			s.takes(func([]byte) (int, error) { return n, os.ErrDeadlineExceeded })
			time.Sleep(logPatience)
			synctest.Wait()
		}
		s.takes(nil)
		time.Sleep(2 * logPatience)
		synctest.Wait()
		if s.text() != "on\ntwo\nnext\n" {
			t.Errorf("wrote %q", s.text())
		}
	})
}

// Another file gets whole lines only.
func TestAccessGoesElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := sink{write: func(p []byte) (int, error) { return 2, os.ErrDeadlineExceeded }}
		l := s.log()
		l.add([]byte("line\n"))
		time.Sleep(accessDelay + 1)
		synctest.Wait() // it is being written
		l.set(&AccessOptions{Output: "y"}, temporary(t, "y"))
		s.takes(nil)
		time.Sleep(2 * logPatience)
		synctest.Wait()
		if got := s.text(); got != "liline\n" {
			t.Errorf("wrote %q", got)
		}
	})
}

// To a pipe that others write to as well go whole lines at once.
func TestAccessLinesAreNotMixed(t *testing.T) {
	name, reader := newFIFO(t)
	f, err := open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := strings.Repeat(strings.Repeat("x", 1500)+"\n", 3)
	n, err := writeLines(f, []byte(lines), 10*time.Millisecond)
	if n != 2*1501 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("wrote %d, %v", n, err)
	}
	got := make([]byte, pipeSize)
	if k, _ := reader.Read(got); string(got[:k]) != lines[:n] {
		t.Errorf("read %d bytes", k)
	}
}

func BenchmarkAccess(b *testing.B) {
	l, err := New(Options{Level: "info", Format: "json", Access: AccessOptions{Output: filepath.Join(b.TempDir(), "access")}})
	if err != nil {
		b.Fatal(err)
	}
	line := &access.Line{Pool: "p", ID: []byte("0123456789abcdef"), Status: 200, Params: accessParams{
		"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/a", "REQUEST_URI": "/a?b=c", "REMOTE_ADDR": "192.0.2.1",
	}}
	b.ReportAllocs()
	defer wiretest.CPUTime(b)()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.Access(line)
		}
	})
	l.Flush()
	l.access.set(new(AccessOptions), nil)
}

// Lines that many add at once are all written, whole, and each one's in its order.
func TestAccessOfMany(t *testing.T) {
	const writers, each = 16, 2000
	output := filepath.Join(t.TempDir(), "access")
	l, err := New(Options{Level: "info", Format: "json", Access: AccessOptions{Output: output}})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for n := range each {
				l.access.add(fmt.Appendf(nil, "%d %d %s\n", w, n, strings.Repeat("x", n%50)))
				if n%500 == 0 {
					l.Flush()
				}
			}
		})
	}
	all.Wait()
	l.Flush()
	text, err := os.ReadFile(output)
	if err != nil {
		t.Fatal(err)
	}
	var next [writers]int
	for line := range strings.Lines(string(text)) {
		var w, n int
		if _, err := fmt.Sscan(line, &w, &n); err != nil || n != next[w] || !strings.HasSuffix(line, " "+strings.Repeat("x", n%50)+"\n") {
			t.Fatalf("line %q: %v, want number %d", line, err, next[w])
		}
		next[w]++
	}
	for w, n := range next {
		if n != each {
			t.Errorf("of writer %d %d lines are there", w, n)
		}
	}
	if n := l.access.waiting.Load(); n != 0 || l.access.lost.Load() > 0 {
		t.Errorf("%d bytes wait, %d lines are lost", n, l.access.lost.Load())
	}
	l.access.set(new(AccessOptions), nil)
}

package runner_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// TestMain is also the main function of the helper programs: HELPER names one.
func TestMain(m *testing.M) {
	if helper := helpers[os.Getenv("HELPER")]; helper != nil {
		os.Exit(helper())
	}
	// What the tests were started with is not theirs; the daemon does the same.
	unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT)
	goleak.VerifyTestMain(m)
}

// Options of the programs under test.
type options = runner.ProcessOptions

// A program is a script with the Process that runs it.
type program struct {
	*runner.Process
	path string
}

// shell makes a shell script. It is given to /bin/sh: to exec a file that was
// just written fails while some child that is being forked still has it open.
func shell(t testing.TB, text string, change ...func(*options)) *program {
	t.Helper()
	script := write(t, filepath.Join(tempDir(t), "script.sh"), text, 0o644)
	opt := options{
		Roots: []string{filepath.Dir(script)}, Interpreters: map[string]string{".sh": "/bin/sh"},
		KillGrace: patience, Software: "fcgid/test",
	}
	for _, f := range change {
		f(&opt)
	}
	return &program{runner.NewProcess(opt), script}
}

// helperProgram makes the test binary a CGI program. Under the race detector it
// would sleep for a second before it exits.
func helperProgram(t testing.TB, change ...func(*options)) *program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(self))
	if err != nil {
		t.Fatal(err)
	}
	opt := options{Roots: []string{dir}, KillGrace: patience, Env: []string{"GORACE=atexit_sleep_ms=0"}}
	for _, f := range change {
		f(&opt)
	}
	return &program{runner.NewProcess(opt), filepath.Join(dir, filepath.Base(self))}
}

// params are pairs of names and values.
func params(pairs ...string) (p protocol.Params) {
	for i := 0; i < len(pairs); i += 2 {
		p.Add(pairs[i], pairs[i+1])
	}
	return p
}

// A call is one request to a program.
type call struct {
	protocol.Request
	out, errs output
	cancel    context.CancelFunc
	done      chan struct{}
	status    uint32 // valid once done
	err       error  // valid once done
}

func (p *program) call(pairs ...string) *call {
	c := &call{done: make(chan struct{})}
	c.Params = params(append([]string{"SCRIPT_FILENAME", p.path}, pairs...)...)
	c.Stdout, c.Stderr = &c.out, &c.errs
	return c
}

// start runs the call in the background.
func (c *call) start(t testing.TB, p *program) *call {
	ctx, cancel := context.WithCancel(t.Context())
	c.cancel = cancel
	go func() {
		defer close(c.done)
		c.status, c.err = p.Run(ctx, &c.Request)
	}()
	t.Cleanup(func() { cancel(); <-c.done })
	return c
}

// wait waits for the end of a call that was started.
func (c *call) wait(t testing.TB) *call {
	t.Helper()
	select {
	case <-c.done:
	case <-time.After(patience):
		t.Fatal("Run does not return")
	}
	return c
}

// run is a call from its start to its end.
func (c *call) run(t testing.TB, p *program) *call {
	t.Helper()
	return c.start(t, p).wait(t)
}

// want compares how a call has ended.
func (c *call) want(t testing.TB, status uint32, stdout string) {
	t.Helper()
	if c.err != nil || c.status != status {
		t.Errorf("Run returned %d, %v; want %d", c.status, c.err, status)
	}
	if got := c.out.String(); got != stdout {
		t.Errorf("stdout is %.300q, want %.300q", got, stdout)
	}
}

// wantRefusal compares the answer to a call that did not start a program.
func (c *call) wantRefusal(t testing.TB, httpStatus int, appStatus uint32, text string) {
	t.Helper()
	var ref *protocol.Refusal
	if !errors.As(c.err, &ref) {
		t.Fatalf("Run returned %d, %v; want a refusal", c.status, c.err)
	}
	if ref.HTTPStatus != httpStatus || ref.AppStatus != appStatus || !strings.Contains(ref.Error(), text) {
		t.Errorf("refused with %d [%d], %q; want %d [%d], %q",
			ref.HTTPStatus, ref.AppStatus, ref.Error(), httpStatus, appStatus, text)
	}
}

// An output collects what is written and tells who waits for it.
type output struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{}
	writes  int
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writes++
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// await waits until text was written, and returns all that was.
func (o *output) await(t testing.TB, text string) string {
	t.Helper()
	timeout := time.After(patience)
	for {
		o.mu.Lock()
		all := o.buf.String()
		if o.changed == nil {
			o.changed = make(chan struct{})
		}
		changed := o.changed
		o.mu.Unlock()
		if strings.Contains(all, text) {
			return all
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("output is %.300q, want %q in it", all, text)
		}
	}
}

// A life is a fifo that programs hold open for writing.
type life struct {
	path string
	file *os.File
}

func newLife(t testing.TB) *life {
	t.Helper()
	path := filepath.Join(tempDir(t), "life")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &life{path, f}
}

// isHeld reports whether somebody has it open.
func (l *life) isHeld(t testing.TB) bool {
	t.Helper()
	rc, err := l.file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	rc.Control(func(fd uintptr) { n, err = unix.Read(int(fd), make([]byte, 1)) })
	return n != 0 || err == unix.EAGAIN
}

// awaitEnd waits until nobody has it open any more.
func (l *life) awaitEnd(t testing.TB) {
	t.Helper()
	l.file.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, l.file); err != nil {
		t.Fatalf("a program lives on: %v", err)
	}
}

// killLater ends what a test leaves behind on purpose.
func killLater(t testing.TB, pid string) {
	var n int
	if _, err := fmt.Sscan(pid, &n); err != nil || n < 2 {
		t.Fatalf("%q is no pid", pid)
	}
	t.Cleanup(func() { syscall.Kill(n, syscall.SIGKILL) })
}

// tempDir is t.TempDir without symbolic links.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// write makes a file, with its folder, and returns its name.
func write(t testing.TB, path, content string, mode os.FileMode) string {
	t.Helper()
	mustDo(t, os.MkdirAll(filepath.Dir(path), 0o755))
	mustDo(t, os.WriteFile(path, []byte(content), mode))
	mustDo(t, os.Chmod(path, mode))
	return path
}

func mustDo(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// background is what a test gives to Run when nothing ends it.
var background = context.Background()

// poll waits until what is wanted is there, for half a minute at most.
func poll(t testing.TB, what string, there func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !there(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

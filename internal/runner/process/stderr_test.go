package process_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fcgid/fcgid/internal/logtest"
	"github.com/fcgid/fcgid/internal/protocol"
)

// logged is an option that keeps the log.
func logged(mode string) (func(*options), *logtest.Entries) {
	log, logs := logtest.New()
	return func(o *options) { o.Log, o.Stderr = log, mode }, logs
}

func logLines(logs *logtest.Entries) (lines []string) {
	for _, entry := range logs.All() {
		lines = append(lines, entry.Fields["line"].(string))
	}
	return lines
}

// What a script writes at once is one entry, as far as a pipe can tell.
func TestStderrEntries(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 1024) // 16 KiB
	for name, test := range map[string]struct {
		script string
		want   []string
	}{
		"lines at once":    {`printf 'a\nb c\n' >&2`, []string{"a\nb c"}},
		"two writes":       {`echo a >&2; echo b >&2`, []string{"a", "b"}},
		"Python's trace":   {`echo 'Traceback (most recent call last):' >&2; echo '  f()' >&2; echo 'KeyError: 1' >&2; echo b >&2`, []string{"Traceback (most recent call last):\n  f()\nKeyError: 1", "b"}},
		"a line in two":    {`printf a >&2; printf 'b\n' >&2`, []string{"ab"}},
		"no final newline": {`printf 'a\nb' >&2`, []string{"a\nb"}},
		"nothing":          {`:`, nil},
		"not UTF-8":        {`printf 'a\377b\n' >&2`, []string{"a\xffb"}},
		"very long":        {`printf '` + long + long + `x\n' >&2`, []string{long, long, "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			change, logs := logged("log")
			p := shell(t, test.script+"; printf out", change)
			c := p.call().run(t, p)
			c.want(t, 0, "out")
			if got := logLines(logs); !slices.Equal(got, test.want) {
				t.Errorf("logged %.200q, want %.200q", got, test.want)
			}
			if got := c.errs.String(); got != "" {
				t.Errorf("the client got %.200q", got)
			}
		})
	}
}

func TestStderrFields(t *testing.T) {
	change, logs := logged("")
	p := shell(t, "echo oops >&2", change)
	c := p.call("SCRIPT_FILENAME", p.path+"/x", "HTTP_X_REQUEST_ID", "a-1")
	c.Serial, c.ID = 42, protocol.Identify(&c.Params)
	var pid int
	c.Started = func(n int, _ string) { pid = n }
	c.run(t, p).want(t, 0, "")
	entry := logs.All()[0]
	got := fmt.Sprint(entry.Level, " ", entry.Message, " ", entry.Fields)
	want := fmt.Sprintf("INFO script stderr map[id:%s line:oops pid:%d request:42 script:%s]", c.ID.String(), pid, p.path)
	if got != want {
		t.Errorf("logged %s, want %s", got, want)
	}
}

func TestStderrModes(t *testing.T) {
	for mode, want := range map[string]struct {
		lines  []string
		client string
	}{
		"":       {[]string{"a\n\nb"}, ""},
		"log":    {[]string{"a\n\nb"}, ""},
		"client": {nil, "a\r\n\nb"},
		"both":   {[]string{"a\n\nb"}, "a\r\n\nb"},
	} {
		change, logs := logged(mode)
		p := shell(t, `printf 'a\r\n\nb' >&2`, change)
		c := p.call().run(t, p)
		if got := logLines(logs); !slices.Equal(got, want.lines) || c.errs.String() != want.client {
			t.Errorf("mode %q: logged %q, to the client %q; want %+v", mode, got, c.errs.String(), want)
		}
	}
}

// Much of both, in turn and at once, and nobody waits for the other.
func TestStderrAndStdout(t *testing.T) {
	p := shell(t, `
		for i in 1 2 3 4 5; do head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; done
		head -c 300000 /dev/zero >&2 & head -c 300000 /dev/zero; wait`, func(o *options) { o.Stderr = "client" })
	c := p.call().run(t, p)
	if c.err != nil || len(c.out.String()) != 1_800_000 || len(c.errs.String()) != 1_800_000 {
		t.Errorf("%v: %d bytes of stdout, %d of stderr", c.err, len(c.out.String()), len(c.errs.String()))
	}
}

// A client that takes no STDERR is no reason to end the script.
func TestStderrIsNotTaken(t *testing.T) {
	change, logs := logged("both")
	p := shell(t, "echo a >&2; echo b >&2; printf ok", change)
	c := p.call()
	c.Stderr = failing{Err: fmt.Errorf("refused")}
	c.run(t, p).want(t, 0, "ok")
	if got := logLines(logs); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("logged %q", got)
	}
}

// What was written before the exit is not lost when it is taken slowly and
// somebody holds the pipe.
func TestStderrOfBackground(t *testing.T) {
	p := shell(t, "sleep 1000 & echo $!; head -c 60000 /dev/zero >&2; printf end >&2", func(o *options) { o.Stderr = "client" })
	c := p.call()
	c.Stderr = writerFunc(func(b []byte) (int, error) {
		if c.errs.String() == "" {
			time.Sleep(300 * time.Millisecond) // longer than lingering
		}
		return c.errs.Write(b)
	})
	c.run(t, p)
	killLater(t, c.out.String())
	if got := c.errs.String(); len(got) != 60003 || !strings.HasSuffix(got, "end") {
		t.Errorf("%d bytes of stderr, the end %.20q", len(got), got[max(0, len(got)-20):])
	}
}

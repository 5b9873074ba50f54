package process_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fcgid/fcgid/internal/logtest"
	"github.com/fcgid/fcgid/internal/protocol"
)

// What a script leaves in the background holds the request for a moment only,
// and lives on.
func TestBackground(t *testing.T) {
	for name, script := range map[string]string{
		"holds all":            "(exec 9>$LIFE; exec sleep 1000) & echo $!",
		"holds stdout":         "(exec 9>$LIFE; exec sleep 1000) <&- 2>&- & echo $!",
		"holds stderr":         "(exec 9>$LIFE; exec sleep 1000) <&- >&- & echo $!",
		"holds stdin":          "(exec 9>$LIFE; exec sleep 1000) >&- 2>&- & echo $!",
		"outside of the group": "setsid sh -c 'exec 9>$LIFE; echo $$; exec sleep 1000' & until [ -e $LIFE.go ]; do sleep .01; done",
		"daemon":               "(setsid sh -c 'exec 9>$LIFE; exec sleep 1000' </dev/null >/dev/null 2>&1 & echo $!)",
	} {
		t.Run(name, func(t *testing.T) {
			l := newLife(t)
			p := shell(t, script+"; until [ -e $LIFE.go ]; do sleep .01; done")
			c := p.call("LIFE", l.Path)
			c.Stdin = random(1 << 20)
			c.start(t, p)
			pid := c.out.Await(t, "\n")
			killLater(t, pid)
			poll(t, "the background process to hold its file", func() bool { return l.IsHeld(t) })
			write(t, l.Path+".go", "", 0o600)
			c.wait(t).want(t, 0, pid)
			if !l.IsHeld(t) {
				t.Error("what was left in the background is gone")
			}
		})
	}
}

// A script that is over at once holds its request no longer for somebody who has its STDIN.
func TestBackgroundHasInput(t *testing.T) {
	p := shell(t, "exec 3<&0; sleep 1000 <&3 3<&- >&- 2>&- & echo $!")
	for range 5 {
		c := p.call()
		c.Stdin = random(1 << 20)
		c.run(t, p)
		killLater(t, c.out.String())
		c.want(t, 0, c.out.String())
	}
}

// A cancel that comes when the script has exited does not end what it has left
// behind either.
func TestCancelWhileLingering(t *testing.T) {
	l := newLife(t)
	p := shell(t, "(exec 9>$LIFE; exec sleep 1000) & echo $!; until [ -e $LIFE.go ]; do sleep .01; done")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := p.call("LIFE", l.Path)
	in := &closing{Reader: neverReader{Closed: make(chan struct{})}, closed: make(chan struct{})}
	c.Stdin = in
	done := make(chan uint32)
	go func() {
		status, _ := p.Run(ctx, &c.Request)
		done <- status
	}()
	killLater(t, c.out.Await(t, "\n"))
	poll(t, "the background process to hold its file", func() bool { return l.IsHeld(t) })
	write(t, l.Path+".go", "", 0o600)
	<-in.closed // so it has exited
	cancel()
	close(in.Reader.(neverReader).Closed)
	if status := <-done; status != 0 {
		t.Errorf("status is %d", status)
	}
	if !l.IsHeld(t) {
		t.Error("what was left in the background is gone")
	}
}

// All that was written before the exit is delivered, also when somebody holds
// the pipe and the client is slower than the time that we wait.
func TestBackgroundWithSlowClient(t *testing.T) {
	p := shell(t, "sleep 1000 & echo $! >&2; head -c 65536 /dev/zero; printf end", func(o *options) { o.Stderr = "client" })
	for _, pause := range []time.Duration{0, 300 * time.Millisecond} { // longer than lingering
		c := p.call()
		c.Stdout = writerFunc(func(b []byte) (int, error) {
			if c.out.String() == "" {
				time.Sleep(pause)
			}
			return c.out.Write(b)
		})
		c.run(t, p).want(t, 0, strings.Repeat("\x00", 65536)+"end")
		killLater(t, c.errs.String())
	}
}

// A script that has exited is read on for as long as something comes; a silence ends
// it, which is logged, and nothing is killed.
func TestOutputAfterTheExit(t *testing.T) {
	for name, test := range map[string]struct {
		script, want string
		linger       time.Duration
		cut          bool
	}{
		"a child goes on with the page":  {"(for i in 1 2 3 4; do sleep .1; echo $i; done) & echo head", "head\n1\n2\n3\n4\n", patience, false},
		"a filter":                       {"exec 3>&1; (cat >&3) <<EOF &\n$(head -c 50000 /dev/zero | tr '\\0' x)\nEOF\nexec 3>&-", strings.Repeat("x", 50000) + "\n", patience, false},
		"a child of another group":       {"setsid sh -c 'sleep .3; echo late' & echo head", "head\nlate\n", patience, false},
		"a child that is silent":         {"sleep 1000 & echo $! >&2; echo head", "head\n", 50 * time.Millisecond, true},
		"a child that is silent at last": {"(echo more; exec sleep 1000) & echo $! >&2", "more\n", 2 * time.Second, true},
		"no lingering":                   {"sleep 1000 & echo $! >&2; echo head", "head\n", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			log, logs := logtest.New()
			p := shell(t, test.script, func(o *options) { o.Linger, o.Log, o.Stderr = test.linger, log, "client" })
			c := p.call()
			c.run(t, p).want(t, 0, test.want)
			cuts := logs.Containing("cut").All()
			if !test.cut {
				if len(cuts) != 0 {
					t.Errorf("logged %v", cuts)
				}
				return
			}
			killLater(t, c.errs.String())
			if len(cuts) != 1 || cuts[0].Level != slog.LevelWarn || cuts[0].Fields["linger"] != test.linger || cuts[0].Fields["script"] != p.path {
				t.Errorf("logged %v", cuts)
			}
			var pid int
			fmt.Sscan(c.errs.String(), &pid)
			if err := syscall.Kill(pid, 0); err != nil {
				t.Errorf("what was left in the background: %v", err)
			}
		})
	}
}

// What writes for ever is read until the request has to end.
func TestBackgroundThatWrites(t *testing.T) {
	p := shell(t, "yes & echo $! >&2", func(o *options) { o.Linger, o.Stderr = patience, "client" })
	c := p.call()
	exited := make(chan struct{})
	c.Exited = func() { close(exited) }
	c.start(t, p)
	killLater(t, c.errs.Await(t, "\n"))
	<-exited
	size := len(c.out.String())
	poll(t, "more output", func() bool { return len(c.out.String()) > size })
	c.cancel()
	if c.wait(t); c.status != 0 || c.err != nil {
		t.Errorf("Run returned %d, %v", c.status, c.err)
	}
}

// The time in which the client takes nothing is no silence.
func TestSlowClientAfterTheExit(t *testing.T) {
	p := shell(t, "exec 3>&1; (exec cat) <$BIG >&3 & exec 3>&-", func(o *options) { o.Linger = time.Second }) // which cat has to begin
	big := write(t, filepath.Join(tempDir(t), "big"), strings.Repeat("x", 300_000), 0o600)
	c := p.call("BIG", big)
	writes := 0
	c.Stdout = writerFunc(func(b []byte) (int, error) {
		if writes++; writes%40 == 1 {
			time.Sleep(1100 * time.Millisecond) // more than is waited for
		}
		return c.out.Write(b)
	})
	c.run(t, p)
	if got := len(c.out.String()); got != 300_000 || c.err != nil {
		t.Errorf("%d bytes, %v", got, c.err)
	}
}

// A wholeOutput knows how long the answer is to be.
type wholeOutput struct {
	*output
	size int
}

func (w wholeOutput) IsWhole() bool { return len(w.String()) >= w.size }

// What was announced ends the answer at the exit, whoever has the pipe; what is
// missing is waited for.
func TestAnnouncedLength(t *testing.T) {
	log, logs := logtest.New()
	p := shell(t, "(sleep .2; echo more; exec sleep 1000) & echo $! >&2; echo head", func(o *options) { o.Linger, o.Log, o.Stderr = time.Hour, log, "client" })
	for size, want := range map[int]string{5: "head\n", 10: "head\nmore\n"} {
		c := p.call()
		c.Stdout = wholeOutput{&c.out, size}
		c.run(t, p).want(t, 0, want)
		killLater(t, c.errs.String())
	}
	if n := logs.Len(); n != 0 {
		t.Errorf("logged %v", logs.All())
	}
}

// A script that closes its STDOUT has answered, and works on.
func TestAnswerEndsWithStdout(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		status uint32
		early  bool
	}{
		"closes all":         {"exec <&- >&- 2>&-; until [ -e $GO ]; do sleep .01; done; exit 3", 3, true},
		"closes STDOUT":      {"exec >&-; until [ -e $GO ]; do sleep .01; done; echo late >&2", 0, true},
		"hands it to nobody": {"exec </dev/null >/dev/null 2>&1; until [ -e $GO ]; do sleep .01; done; exit 1", 1, true},
		"exits soon":         {"exec >&-; exit 4", 4, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := shell(t, "echo ok; "+test.script)
			start := filepath.Join(tempDir(t), "go")
			answered, exited := make(chan uint32, 1), make(chan struct{})
			c := p.call("GO", start)
			c.Answered, c.Exited = func(status uint32) { answered <- status }, func() { close(exited) }
			c.start(t, p)
			if test.early {
				if status := <-answered; status != 0 {
					t.Errorf("answered with %d", status)
				}
				select {
				case <-exited:
					t.Error("it has exited")
				case <-c.done:
					t.Error("Run has returned")
				default:
				}
				write(t, start, "", 0o600)
			}
			c.wait(t).want(t, test.status, "ok\n")
			if len(answered) > 0 {
				t.Error("it has answered before its exit")
			}
		})
	}
}

// It is under the timeout still, and its end is told of: nobody else would.
func TestTimeoutAfterTheAnswer(t *testing.T) {
	log, logs := logtest.New()
	p := shell(t, "echo ok; exec >&-; exec sleep 1000", func(o *options) { o.Log = log })
	ctx, cancel := context.WithCancelCause(t.Context())
	c := p.call()
	c.Answered = func(uint32) { cancel(protocol.ErrTimeout) }
	if status, err := p.Run(ctx, &c.Request); status != 143 || err != nil {
		t.Errorf("Run returned %d, %v", status, err)
	}
	all := logs.All()
	if len(all) != 1 || all[0].Level != slog.LevelWarn || all[0].Fields["reason"] != protocol.ErrTimeout {
		t.Errorf("logged %v", all)
	}
}

// Nor does the lingering of the one whose output has ended cost time.
func TestNoLinger(t *testing.T) {
	p := shell(t, "", func(o *options) { o.Linger = time.Hour })
	for range 20 {
		p.call().start(t, p).wait(t).want(t, 0, "")
	}
}

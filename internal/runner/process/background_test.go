package process_test

import (
	"context"
	"strings"
	"testing"
	"time"
)

// quick is how soon Run has to return when something in the background lives
// on; much less than patience, and more than linger on a busy machine.
const quick = 5 * time.Second

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
			exited := time.Now()
			c.wait(t).want(t, 0, pid)
			if took := time.Since(exited); took > quick {
				t.Errorf("Run returned %v after the exit", took)
			}
			if !l.IsHeld(t) {
				t.Error("what was left in the background is gone")
			}
		})
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

// What a grandchild writes for ever does not hold the request for ever.
func TestBackgroundThatWrites(t *testing.T) {
	p := shell(t, "yes & echo $! >&2; printf ok", func(o *options) { o.Stderr = "client" })
	c := p.call()
	began := time.Now()
	c.run(t, p)
	killLater(t, c.errs.String())
	if c.status != 0 || c.err != nil || time.Since(began) > quick {
		t.Errorf("Run returned %d, %v after %v", c.status, c.err, time.Since(began))
	}
}

// Nor does the lingering of the one whose output has ended cost time.
func TestNoLinger(t *testing.T) {
	p := shell(t, "")
	began := time.Now()
	for range 20 {
		p.call().run(t, p).want(t, 0, "")
	}
	if took := time.Since(began); took > 20*100*time.Millisecond {
		t.Errorf("20 runs took %v", took)
	}
}

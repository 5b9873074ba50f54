package process_test

import (
	"context"
	"math/rand"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// shortGrace is a KillGrace that is over before a test is tired of it.
func shortGrace(o *options) { o.KillGrace = 50 * time.Millisecond }

// The whole group gets TERM, and what ignores it gets KILL.
func TestCancel(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		status uint32
		change func(*options)
	}{
		"program":               {"printf ok; exec sleep 1000", 143, nil},
		"program with a child":  {"sleep 1000 & printf ok; wait", 143, nil},
		"exit status of a trap": {"trap 'exit 5' TERM; printf ok; while :; do sleep .01; done", 5, nil},
		"deaf":                  {"trap '' TERM; printf ok; while :; do sleep 1; done", 137, shortGrace},
		"deaf child":            {"(trap '' TERM; printf ok; while :; do sleep 1; done) & wait", 143, shortGrace},
		"child with other output, deaf": {
			"(trap '' TERM; printf ok; exec >/dev/null 2>&1; while :; do sleep 1; done) & wait", 143, shortGrace,
		},
		"in a loop":          {"printf ok; while :; do :; done", 143, nil},
		"waits for stdin":    {"printf ok; read -r x", 143, nil},
		"no grace":           {"trap '' TERM; printf ok; while :; do sleep 1; done", 137, func(o *options) { o.KillGrace = 0 }},
		"many descendants":   {"for i in 1 2 3 4 5; do (sleep 1000 & sleep 1000) & done; printf ok; wait", 143, nil},
		"output that blocks": {"printf ok; exec yes", 143, nil},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLife(t)
			reason := ""
			p := shell(t, "exec 9>$LIFE; "+test.script, func(o *options) {
				o.Hooks.Exited = func(r string, _ *syscall.Rusage) { reason = r }
				if test.change != nil {
					test.change(o)
				}
			})
			c := p.call("LIFE", l.Path)
			if strings.Contains(name, "stdin") {
				c.Stdin = neverReader{Closed: make(chan struct{})}
			}
			c.start(t, p)
			c.out.Await(t, "ok")
			c.cancel()
			if c.wait(t); c.err != nil || c.status != test.status {
				t.Errorf("Run returned %d, %v; want %d", c.status, c.err, test.status)
			}
			l.AwaitEnd(t)
			if reason != "terminated" {
				t.Errorf("reason is %q", reason)
			}
		})
	}
}

// A program that was stopped goes on to take its TERM.
func TestCancelOfStopped(t *testing.T) {
	p := shell(t, "trap 'printf trap; exit 6' TERM; kill -STOP $$; sleep 1000")
	c := p.call()
	pid := make(chan int, 1)
	c.Started = func(n int, _ string) { pid <- n }
	c.start(t, p)
	var info unix.Siginfo
	mustDo(t, unix.Waitid(unix.P_PID, <-pid, &info, unix.WSTOPPED|unix.WNOWAIT, nil))
	c.cancel()
	c.wait(t).want(t, 6, "trap")
}

// One that is asked to end has its grace for what it still wants to say, and so
// has its child.
func TestLastWords(t *testing.T) {
	p := shell(t, "(trap 'sleep .3; printf child; exit' TERM; printf ok; while :; do sleep .01; done) & wait")
	c := p.call().start(t, p)
	c.out.Await(t, "ok")
	c.cancel()
	c.wait(t).want(t, 143, "okchild")
}

// A program that has put itself into another group is found all the same.
func TestLeaderLeavesItsGroup(t *testing.T) {
	p := shell(t, `exec perl -e '$| = 1; setpgrp(0, getpgrp(getppid())) or print "no: $!\n"; print "ok\n"; sleep 1000'`)
	c := p.call().start(t, p)
	c.out.Await(t, "ok\n")
	c.cancel()
	c.wait(t).want(t, 143, "ok\n")
}

// What has left the group is ended too, and holds Run no longer than the grace.
func TestCancelWithOutsider(t *testing.T) {
	l := newLife(t)
	p := shell(t, "setsid sh -c 'exec 9>$LIFE; echo $$; exec sleep 1000' & wait", shortGrace)
	c := p.call("LIFE", l.Path).start(t, p)
	killLater(t, c.out.Await(t, "\n"))
	c.cancel()
	if c.wait(t); c.status != 143 || c.err != nil {
		t.Errorf("Run returned %d, %v", c.status, c.err)
	}
	l.AwaitEnd(t)
}

// The end of ctx may come at any moment of a run.
func TestCancelAtAnyMoment(t *testing.T) {
	p := shell(t, "printf ok", shortGrace)
	outcomes := map[string]int{}
	for i := range 400 {
		ctx, cancel := context.WithCancel(t.Context())
		c := p.call()
		if i%2 == 0 {
			c.Stdin = strings.NewReader("text")
		}
		if i%5 == 0 { // as soon as it has started
			c.Started = func(int, string) { cancel() }
		} else {
			defer time.AfterFunc(time.Duration(rand.Intn(2000))*time.Microsecond, cancel).Stop()
		}
		status, err := p.Run(ctx, &c.Request)
		cancel()
		switch {
		case err == context.Canceled && status == 0:
			outcomes["not started"]++
		case err == nil && status == 0 && c.out.String() == "ok":
			outcomes["ok"]++
		case err == nil && status == 143:
			outcomes["terminated"]++
		default:
			t.Errorf("Run returned %d, %v; stdout %q", status, err, c.out.String())
		}
	}
	t.Log(outcomes)
}

package daemon

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/pool"
	"github.com/fcgid/fcgid/internal/status"
)

// What has not changed is not told again, and at most so often.
func TestStatusLineIsToldWhenItChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := make(chan string, 100)
		var text atomic.Pointer[string]
		say := func(s string) { text.Store(&s) }
		say("one")
		stopping, over, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
		l := &statusLine{text: func() string { return *text.Load() }, tell: func(s string) { told <- s }, stopping: stopping}
		go func() { defer close(ended); l.run(over) }()
		want := func(after time.Duration, what string) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			var got []string
			for len(told) > 0 {
				got = append(got, <-told)
			}
			if what == "" && len(got) > 0 || what != "" && !slices.Equal(got, []string{what}) {
				t.Errorf("told %q, want %q", got, what)
			}
		}
		want(time.Second, "one")
		want(time.Hour, "")
		say("two")
		want(time.Second, "")
		say("three")
		want(statusEvery, "three")
		say("stopping")
		close(stopping)
		want(time.Millisecond, "stopping")
		say("stopping for a second")
		want(stoppingEvery, "stopping for a second")
		close(over)
		<-ended
	})
}

func TestStatusLineOfPools(t *testing.T) {
	for want, pools := range map[string][]pool.Brief{
		"1 pool; requests: 0 running, 0 waiting, 0 served": {{Name: "cgi", State: status.Serving}},
		"2 pools; requests: 3 running, 4 waiting, 12 served; degraded: php": {
			{Name: "cgi", State: status.Serving, Running: 1, Served: 2},
			{Name: "php", State: status.Serving, Running: 2, Waiting: 4, Served: 10, Degraded: true},
		},
		"2 pools; requests: 1 running, 0 waiting, 0 served; paused: a; drained: b; draining: old": {
			{Name: "a", State: status.Paused}, {Name: "b", State: status.Drained}, {Name: "old", State: status.Draining, Running: 1},
		},
	} {
		if got := servingLine(pools); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestStatusLineOfAStop(t *testing.T) {
	open := map[string]int{"cgi": 2, "functions": 1}
	oldest := func(pool string) (status.Request, int) {
		if pool == "cgi" {
			return status.Request{ID: 7, Stage: "running", Script: "/srv/a\n\xff.cgi", PID: 71, Age: 12.9}, open[pool]
		}
		return status.Request{ID: 8, Stage: "params", Age: 1}, open[pool]
	}
	pools := []pool.Brief{{Name: "cgi"}, {Name: "functions"}, {Name: "idle"}, {Name: "php", Workers: 3}}
	const want = `stopping, waits for pool cgi: 2 requests, the oldest "/srv/a\n\xff.cgi" (pid 71, running for 12s)` +
		"; pool functions: 1 request, the oldest request 8 (params for 1s); pool php: 3 workers"
	if got := stoppingLine(pools, oldest); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := stoppingLine(nil, oldest); got != "stopping" {
		t.Errorf("with nothing left: %s", got)
	}
}

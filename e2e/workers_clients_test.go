//go:build e2e

package e2e

import (
	"context"
	"crypto/md5"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
)

// Clients that only hold on, and requests that come in part, take no worker:
// php-fpm's are taken by all three.
func TestWorkerIsNotHeld(t *testing.T) {
	s := newWorkerSite(t, cPool(t, "scale: static, max: 1"))
	path := s.dir + "/cgi" + appScript
	for range 20 { // idle, after an answer
		p := connect(t, s.address)
		p.send(request(1, params(path), ""))
		if r := p.reply(1); r.status() != 200 {
			t.Fatalf("%v", r)
		}
	}
	half := pairs(1, params(path))
	for i := range 20 {
		p := connect(t, s.address)
		p.send(begin(1, protocol.RoleResponder, true))
		if i%2 == 0 { // a part of a record
			p.send(half[:len(half)/2])
		} else { // a stream that has not ended
			p.send(half[:len(half)-protocol.HeaderLen])
		}
	}
	body, _ := randomBytes(2 << 20)
	post := params(path, "REQUEST_METHOD", "POST", "QUERY_STRING", "echo", "CONTENT_LENGTH", fmt.Sprint(len(body)))
	slow := connect(t, s.address)
	whole := request(1, post, string(body))
	slow.send(whole[:len(whole)/2])
	small := connect(t, s.address)
	few := request(1, params(path, "REQUEST_METHOD", "POST", "QUERY_STRING", "echo", "CONTENT_LENGTH", "1000"), strings.Repeat("b", 1000))
	small.send(few[:len(few)-500])
	await(t, "all of them", func() bool { return len(s.status(t).Pools[0].Requests) == 22 })

	pid := s.asked("").pid
	if a := s.asked("echo", body...); a.pid != pid || a.rest != fmt.Sprint(len(body), " ")+string(body) {
		t.Errorf("an upload meanwhile: %d of pid %d", len(a.rest), a.pid)
	}
	slow.send(whole[len(whole)/2:])
	if a, err := parseWorker(slow.reply(1).stdout); err != nil || a.pid != pid || !strings.HasSuffix(a.rest, string(body)) {
		t.Errorf("the slow upload: %v, %d bytes", err, len(a.rest))
	}
	small.send(few[len(few)-500:])
	if a, err := parseWorker(small.reply(1).stdout); err != nil || a.pid != pid || len(a.rest) != 1005 {
		t.Errorf("the small upload: %v, %d bytes", err, len(a.rest))
	}
	if w := s.workers(); w.Starts != 1 {
		t.Errorf("workers are %+v", w)
	}
}

// leaves sends a query, waits until it is at the gate, and goes: by closing its
// connection, or through nginx, or with ABORT_REQUEST.
func (s *site) leaves(g *gate, query, how string) {
	s.t.Helper()
	ctx, leave := context.WithCancel(s.t.Context())
	defer leave()
	path := s.dir + "/cgi" + appScript
	switch how {
	case "nginx":
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			res, err := http.DefaultClient.Do(s.request("GET", appScript+"?"+query, nil).WithContext(ctx))
			if err == nil {
				res.Body.Close()
			}
		}()
		g.arrive(1)
		leave()
		wait(s.t, "the client to notice", gone)
	case "close":
		c := s.askLater(ctx, path, "QUERY_STRING", query)
		g.arrive(1)
		leave()
		wait(s.t, "the client to notice", c)
	case "abort":
		p := connect(s.t, s.address)
		p.send(request(1, params(path, "QUERY_STRING", query), ""))
		g.arrive(1)
		p.send(protocol.AppendRecord(nil, protocol.TypeAbortRequest, 1, nil))
	}
}

// A worker that does not hear that its client has gone is replaced.
func TestWorkerClientLeaves(t *testing.T) {
	for _, test := range []struct{ program, how string }{
		{"c", "close"}, {"c", "nginx"}, {"c", "abort"}, {"php", "close"},
	} {
		t.Run(test.program+" "+test.how, func(t *testing.T) {
			t.Parallel()
			s := newWorkerSite(t, "worker: {command: "+workerCommand(t, test.program)+", scale: static, max: 1, stop_grace: 100ms}, on_client_abort: kill"+workerEnv("a"))
			s.nginx(keepAlive)
			g := newGate(t, s.dir)
			first := s.asked("").pid
			s.leaves(g, "gate", test.how)
			if a := s.asked(""); a.pid == first {
				t.Errorf("%d answers again", first)
			}
			awaitGone(t, []int{first})
			await(t, "the exit to be counted", func() bool { return s.workers().Exits["abort"] == 1 })
			if w := s.workers(); w.Starts != 2 {
				t.Errorf("workers are %+v", w)
			}
			s.awaitIdle()
		})
	}
}

// With on_client_abort: ignore, and with close, which is the default, the request runs to
// its end, and the worker stays.
func TestWorkerClientLeavesAndItGoesOn(t *testing.T) {
	for _, test := range []struct{ how, keys string }{
		{"close", ", on_client_abort: ignore"}, {"nginx", ", on_client_abort: ignore"}, {"close", ""}, {"nginx", ""},
	} {
		t.Run(test.how+test.keys, func(t *testing.T) {
			how := test.how
			s := newWorkerSite(t, cPool(t, "scale: static, max: 1")+test.keys)
			s.nginx(keepAlive)
			g := newGate(t, s.dir)
			first := s.asked("")
			s.leaves(g, "gate", how)
			await(t, "the connection to be gone", func() bool { return s.status(t).Pools[0].Connections <= 1 }) // nginx keeps one
			next := s.later("")
			await(t, "the next to wait", func() bool { return s.status(t).Pools[0].Queued == 1 })
			g.release(1)
			if a := next.answer(); a.pid != first.pid || a.count != first.count+2 {
				t.Errorf("got %+v after %+v", a, first)
			}
			if w := s.workers(); w.Starts != 1 {
				t.Errorf("workers are %+v", w)
			}
		})
	}
}

// A script that has ignore_user_abort does its work to the end, and its worker stays,
// whatever body the request had and wherever that stands.
func TestWorkerClientLeavesAfterAnUpload(t *testing.T) {
	body, _ := randomBytes(300_000)
	for limits, n := range map[string]int{
		"{queue: 10}": 1000, "{}": len(body), "{body_memory: 1MiB}": len(body), "{request_buffering: false}": len(body),
	} {
		t.Run(limits, func(t *testing.T) {
			t.Parallel()
			s := newWorkerSite(t, "worker: {command: "+workerCommand(t, "php")+", scale: static, max: 1, stop_grace: 100ms}, limits: "+limits+workerEnv("a"))
			g := newGate(t, s.dir)
			p := connect(t, s.address)
			p.send(request(1, params(s.dir+"/cgi/leave.php", "REQUEST_METHOD", "POST", "CONTENT_LENGTH", fmt.Sprint(n)), string(body[:n])))
			pid := g.arrive(1)[0]
			p.Close()
			await(t, "the connection to be gone", func() bool { return s.status(t).Pools[0].Connections == 0 })
			g.release(1)
			if a := s.asked(""); a.pid != pid {
				t.Errorf("%d answers after %d", a.pid, pid)
			}
			if got, want := read(t, s.dir+"/done"), fmt.Sprintf("%x", md5.Sum(body[:n])); got != want {
				t.Errorf("its work is %q, want %q", got, want)
			}
		})
	}
}

// One that leaves while it waits is not done at all.
func TestWorkerClientLeavesQueue(t *testing.T) {
	s := newWorkerSite(t, cPool(t, "scale: static, max: 1"))
	g := newGate(t, s.dir)
	first := s.later("gate")
	g.arrive(1)
	ctx, leave := context.WithCancel(t.Context())
	waiting := s.askLater(ctx, s.dir+"/cgi"+appScript)
	await(t, "it to wait", func() bool { return s.status(t).Pools[0].Queued == 1 })
	leave()
	wait(t, "the client to notice", waiting)
	await(t, "nobody to wait", func() bool { return s.status(t).Pools[0].Queued == 0 })
	a := g.finish(first)[0]
	if b := s.asked(""); b.pid != a.pid || b.count != a.count+1 {
		t.Errorf("got %+v after %+v", b, a)
	}
}

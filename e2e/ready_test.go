//go:build e2e

package e2e

import (
	"strings"
	"syscall"
	"testing"
)

// readyIs checks what /-/ready says of the site's pool.
func (s *site) readyIs(when, query string, code int, want string) {
	s.t.Helper()
	if got, body := get(s.t, "http://"+s.admin+"/-/ready"+query); got != code || !strings.Contains(body, want) {
		s.t.Errorf("%s: /-/ready%s: %d %q, want %d %q", when, query, got, body, code, want)
	}
}

// /-/ready tells of a pool what a load balancer wants to know, also whether it has room; a
// drain with notice says that it is not ready while it still serves.
func TestReadyOfPool(t *testing.T) {
	t.Parallel()
	s := newSite(t, "unix", simple+", limits: {max_reqs: 2}")
	g := newGate(t, s.dir)
	slow, hello := s.script("gen.sh", genScript), s.hello()
	s.readyIs("idle", "?pool=cgi&room=2", 200, "ready")
	s.readyIs("idle", "?pool=none", 404, `no pool "none"; there is cgi`)
	s.readyIs("idle", "?pool=cgi&room=some", 400, "room must be a number")
	first := s.askLater(t.Context(), slow)
	g.arrived()
	s.readyIs("one runs", "?pool=cgi&room=1", 200, "ready")
	s.readyIs("one runs", "?pool=cgi&room=2", 503, "pool cgi is almost full: room for 1 of 2 requests, 0 waiting")
	second := s.askLater(t.Context(), slow)
	g.arrived()
	s.readyIs("two run", "?pool=cgi&room=1", 503, "pool cgi is full: room for 0 of 2 requests, 0 waiting")
	s.readyIs("two run", "?pool=cgi", 200, "ready")
	s.readyIs("two run", "", 200, "ready")
	g.release(2)
	for _, c := range []<-chan answer{first, second} {
		if a := wait(t, "a slow request", c); a.err != nil || a.AppStatus != 0 {
			t.Errorf("%+v", a)
		}
	}
	await(t, "room", func() bool { code, _ := get(t, "http://"+s.admin+"/-/ready?pool=cgi&room=2"); return code == 200 })

	drained := s.orderLater("drain", "cgi", "--notice", "1h")
	await(t, "the notice", func() bool { code, _ := get(t, "http://"+s.admin+"/-/ready?pool=cgi"); return code == 503 })
	s.readyIs("a notice", "?pool=cgi", 503, "pool cgi is leaving (fcgid resume cgi)")
	s.readyIs("a notice", "", 200, "ready")
	s.order("status").is(t, "status", 0, "leaving")
	if res, out := s.ask(hello, nil); res.AppStatus != 0 || !strings.Contains(out, "hello") {
		t.Errorf("it does not serve during the notice: %+v %q", res, out)
	}
	s.order("reload").is(t, "a reload", 0, "it is leaving (fcgid resume cgi)")
	s.order("resume", "cgi").is(t, "resume", 0)
	wait(t, "the first drain", drained).is(t, "the first drain", 1, "pool cgi: another order has ended the notice")
	s.readyIs("resumed", "?pool=cgi", 200, "ready")
	s.order("drain", "cgi", "--notice", "10ms").is(t, "a short notice", 0, "pool cgi takes no requests")
	s.readyIs("drained", "?pool=cgi&room=1", 503, "pool cgi is drained (fcgid resume cgi)")
	if res, _ := s.ask(hello, nil); res.AppStatus != 503 {
		t.Errorf("drained: %+v", res)
	}
	s.order("drain", "cgi", "--notice", "-1s").is(t, "a negative notice", 2, "--notice")
	s.order("drain", "cgi", "--notice", "2562047h").is(t, "a notice of centuries", 2, "--notice 2562047h0m0s is longer than 24h0m0s")
	s.order("drain", "cgi", "--notice", "10ms", "--timeout", "2562047h").is(t, "a timeout of centuries", 0, "pool cgi takes no requests")
	s.order("drain", "cgi", "--notice", "1s", "--queue").is(t, "a notice and a queue", 2, "--queue")
	s.order("drain", "none", "--notice", "1h").is(t, "no such pool", 1, `no pool "none"`)
	drained = s.orderLater("drain", "cgi", "--notice", "1h")
	await(t, "the notice", func() bool { return s.status(t).Pools[0].State == "leaving" })
	s.signal(syscall.SIGTERM)
	wait(t, "the drain", drained).is(t, "a stop", 1, "stopping")
}

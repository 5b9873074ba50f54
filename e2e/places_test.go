//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/protocol"
)

// waitScript says who it is and waits for the gate.
const waitScript = `#!/bin/sh
echo "$QUERY_STRING" >DIR/in
read x <DIR/go
printf 'Content-Type: text/plain\n\nhello %s' "$QUERY_STRING"
`

// Connections that only hold on, and requests that come in part, take no
// program's place: max_reqs programs that wait for each other still run at once.
func TestConnectionsTakeNoPlace(t *testing.T) {
	const places = 8
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			s := newSite(t, network, simple+fmt.Sprintf(", limits: {max_reqs: %d, queue: 0}", places))
			g := newGate(t, s.dir)
			path := s.script("wait.sh", waitScript)
			hello := s.script("hello.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
			for i := range 500 {
				p := connect(t, s.address)
				if i%2 == 0 { // half of them have had an answer before they are idle
					continue
				}
				if i < 50 {
					p.send(request(1, params(hello), ""))
					if r := p.reply(1); r.body() != "hello" {
						t.Fatalf("%v", r)
					}
				}
			}
			post := params(path, "REQUEST_METHOD", "POST", "CONTENT_LENGTH", "1000")
			whole := pairs(1, post)
			for i := range 100 {
				p := connect(t, s.address)
				p.send(begin(1, protocol.RoleResponder, true))
				switch i % 3 {
				case 0: // half of a record
					p.send(whole[:len(whole)/2])
				case 1: // PARAMS that have not ended
					p.send(protocol.AppendRecord(nil, protocol.TypeParams, 1, []byte("\x01\x01ab")))
				case 2: // half of a small body
					p.send(whole, stdin(1, strings.Repeat("b", 500)))
				}
			}
			await(t, "all connections", func() bool {
				pool := s.status(t).Pools[0]
				return pool.Connections == 600 && len(pool.Requests) == 100
			})
			var answers []<-chan answer
			for i := range places {
				answers = append(answers, s.askLater(t.Context(), path, "QUERY_STRING", fmt.Sprint(i)))
			}
			for range places {
				g.arrived()
			}
			g.release(places)
			for i, c := range answers {
				a := wait(t, "an answer", c)
				if want := fmt.Sprintf("hello %d", i); a.err != nil || a.AppStatus != 0 || !strings.HasSuffix(a.body, want) {
					t.Errorf("got %+v, want %q", a, want)
				}
			}
		})
	}
}

// A request that sleeps and leaves its body unread does not hold up the one
// beside it on the same connection.
func TestNeighbourIsNotDelayed(t *testing.T) {
	s := newSite(t, "unix", simple)
	g := newGate(t, s.dir)
	sleeper := s.script("wait.sh", waitScript)
	hello := s.script("hello.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
	p := connect(t, s.address) // whose time ends before the sleeper, which is not let go till then
	body := strings.Repeat("b", 2<<20)
	p.send(request(1, params(sleeper, "REQUEST_METHOD", "POST", "CONTENT_LENGTH", fmt.Sprint(len(body))), body))
	g.arrived()
	for id := range uint16(15) {
		p.send(request(id+10, params(hello), ""))
		if r := p.reply(id + 10); r.body() != "hello" {
			t.Fatalf("beside a sleeper: %v", r)
		}
	}
	g.release(1)
	if r := p.reply(1); r.status() != 200 || !strings.HasPrefix(r.body(), "hello") {
		t.Errorf("the sleeper: %v", r)
	}
}

// One runs, two wait, the fourth is told to come again; who has gone while it
// waited never runs.
func TestQueue(t *testing.T) {
	s := newSite(t, "unix", simple+", limits: {max_reqs: 1, queue: 2, queue_timeout: 60s}")
	g := newGate(t, s.dir)
	path := s.script("wait.sh", waitScript)
	s.nginx("")
	queued := func(n int) {
		t.Helper()
		await(t, fmt.Sprintf("%d to wait", n), func() bool { return s.status(t).Pools[0].Queued == n })
	}
	first := s.askLater(t.Context(), path, "QUERY_STRING", "first")
	if got := g.arrived(); got != "first" {
		t.Fatalf("%q runs first", got)
	}
	ctx, leave := context.WithCancel(t.Context())
	second := s.askLater(ctx, path, "QUERY_STRING", "second")
	queued(1)
	third := s.askLater(t.Context(), path, "QUERY_STRING", "third")
	queued(2)

	res := wait(t, "the refusal", s.askLater(t.Context(), path, "QUERY_STRING", "fourth"))
	if res.ProtocolStatus != fcgi.StatusOverloaded || !strings.HasPrefix(res.body, "Status: 503 ") || !strings.Contains(res.body, "Retry-After: ") {
		t.Errorf("the fourth: %+v", res)
	}
	fifth, _ := httpDo(t, s.request("GET", "/wait.sh?fifth", nil))
	if fifth.StatusCode != 503 || fifth.Header.Get("Retry-After") == "" {
		t.Errorf("the fifth, by nginx: %d %v", fifth.StatusCode, fifth.Header)
	}

	leave()
	wait(t, "the client to notice", second)
	queued(1)
	// One that leaves nginx is noticed as well.
	ctx, leave = context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		http.DefaultClient.Do(s.request("GET", "/wait.sh?sixth", nil).WithContext(ctx))
	}()
	queued(2)
	leave()
	wait(t, "the client to notice", gone)
	queued(1)

	g.release(1)
	if got := g.arrived(); got != "third" {
		t.Errorf("%q runs after the first, want third", got)
	}
	g.release(1)
	for name, c := range map[string]<-chan answer{"first": first, "third": third} {
		if a := wait(t, name, c); a.err != nil || !strings.HasSuffix(a.body, "hello "+name) {
			t.Errorf("%s: %+v", name, a)
		}
	}
	s.awaitIdle()
	if got := s.metric(t, `fcgid_process_starts_total{pool="cgi"}`); got != "2" {
		t.Errorf("%s programs were started, want 2", got)
	}
}

// A request that waits for too long is told to come again.
func TestQueueTimeout(t *testing.T) {
	s := newSite(t, "unix", simple+", limits: {max_reqs: 1, queue: 2, queue_timeout: 100ms}")
	g := newGate(t, s.dir)
	path := s.script("wait.sh", waitScript)
	s.nginx("")
	first := s.askLater(t.Context(), path)
	g.arrived()
	res, _ := httpDo(t, s.request("GET", "/wait.sh", nil))
	if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v", res.StatusCode, res.Header)
	}
	g.release(1)
	if a := wait(t, "the first", first); a.err != nil || !strings.Contains(a.body, "hello") {
		t.Errorf("the first: %+v", a)
	}
}

// Clients that take nothing of their answers hold no program's place, as long as
// the answers find room in the kernel's buffers: their programs exit.
func TestSlowDownloadsTakeNoPlace(t *testing.T) {
	const places = 4
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			s := newSite(t, network, simple+fmt.Sprintf(", limits: {max_reqs: %d, queue: 0}", places))
			big := s.script("big.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\nexec head -c 1000000 /dev/zero\n")
			hello := s.script("hello.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
			var peers []*peer
			for range places {
				p := connect(t, s.address)
				p.send(request(1, params(big), ""))
				peers = append(peers, p)
			}
			await(t, "the programs to exit", func() bool {
				started := s.metric(t, `fcgid_process_starts_total{pool="cgi"}`) == fmt.Sprint(places) // before one looks what runs
				return started && s.status(t).Pools[0].Running == 0
			})
			if res, body := s.ask(hello, nil); res.AppStatus != 0 || !strings.HasSuffix(body, "hello") {
				t.Errorf("hello meanwhile: %+v %q", res, body)
			}
			for _, p := range peers {
				if r := p.reply(1); len(r.body()) != 1_000_000 {
					t.Errorf("a slow client gets %d bytes", len(r.body()))
				}
			}
		})
	}
}

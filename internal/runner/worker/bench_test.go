package worker_test

import (
	"io"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/runner/worker"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// helloGet and helloPost are params as they come from nginx.
var helloGet, helloPost = receivedParams("GET"), receivedParams("POST")

func receivedParams(method string) protocol.Params {
	pairs := runnertest.NginxParams("/srv/hello.php")
	pairs.Set("REQUEST_METHOD", method)
	received, err := protocol.ParseParams(string(pairs.Append(nil)))
	if err != nil {
		panic(err)
	}
	return received
}

// askHello asks for a page as nginx does, of a pool that answers as soon as it can.
func askHello(tb testing.TB, p *pool, stdin io.Reader) {
	out := runnertest.Counting{}
	req := protocol.Request{Role: protocol.RoleResponder, Params: helloGet, Stdin: stdin, Stdout: &out}
	if stdin != nil {
		req.Params = helloPost
	}
	if status, err := p.Run(background, &req); status != 0 || err != nil || out.N == 0 {
		tb.Errorf("Run returned %d, %v; %d bytes", status, err, out.N)
	}
}

// The steady state of a worker's request stays as lean as it is.
func TestAllocationsOfAWorker(t *testing.T) {
	if wiretest.UnderRace() {
		t.Skip("the race detector allocates too")
	}
	p := workers(t, func(o *worker.Options) { o.Max = 1 })
	askHello(t, p, nil)
	for body, most := range map[string]float64{"": 6, "a=b": 10} {
		got := testing.AllocsPerRun(100, func() {
			if body == "" {
				askHello(t, p, nil)
			} else {
				askHello(t, p, whole(body))
			}
		})
		if got > most {
			t.Errorf("body %q: %v allocations, want %v at most", body, got, most)
		}
	}
}

// BenchmarkWorkers asks persistent workers, which answer as soon as they can.
func BenchmarkWorkers(b *testing.B) {
	some := func(o *worker.Options) { o.Max = 4 }
	b.Run("get", func(b *testing.B) {
		p := workers(b, some)
		b.ReportAllocs()
		for b.Loop() {
			askHello(b, p, nil)
		}
	})
	b.Run("post", func(b *testing.B) {
		p := workers(b, some)
		b.ReportAllocs()
		for b.Loop() {
			askHello(b, p, whole("a=b"))
		}
	})
	b.Run("upload", func(b *testing.B) {
		p := workers(b, some)
		text := strings.Repeat("x", 1<<20)
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			askHello(b, p, strings.NewReader(text))
		}
	})
	b.Run("parallel", func(b *testing.B) {
		p := workers(b, some)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				askHello(b, p, nil)
			}
		})
	})
	b.Run("200 workers", func(b *testing.B) {
		p := workers(b, func(o *worker.Options) { o.Max = 200 })
		p.await("all idle", func(s worker.Snapshot) bool { return s.Idle == 200 })
		b.ReportAllocs()
		for b.Loop() {
			askHello(b, p, nil)
		}
	})
}

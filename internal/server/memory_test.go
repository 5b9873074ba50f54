package server

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/fcgid/fcgid/internal/protocol"
)

// serveMemory is serve with so much memory.
func serveMemory(t *testing.T, settings Settings, limit int64) *testServer {
	t.Helper()
	s := serve(t, settings)
	s.opt.Memory = NewMemory(limit)
	return s
}

// wantFree checks that nothing is held.
func (ts *testServer) wantFree() {
	ts.t.Helper()
	synctest.Wait()
	if n := ts.opt.Memory.Used(); n != 0 {
		ts.t.Errorf("%d bytes are held and nothing is open", n)
	}
}

// Open requests of many connections share the memory: what finds none is told 503, one
// connection has a quarter of it at most, and all is free again when they have gone.
func TestMemoryOfPARAMS(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const limit = 1 << 20
		settings := testSettings(hello)
		settings.Limits.Params = 256 << 10
		s := serveMemory(t, settings, limit)
		open := func(p *peer, id uint16) {
			p.send(begin(id, true), rec(protocol.TypeParams, id, strings.Repeat("x", 60_000)))
		}
		var peers []*peer
		for range 4 {
			p := s.dial()
			peers = append(peers, p)
			for id := uint16(1); id <= 3; id++ {
				open(p, id)
			}
			open(p, 4) // is more than a quarter: its PARAMS are dropped
			p.send(params(4), part(4, ""))
			p.wantOwn(4, 503, overloaded)
		}
		synctest.Wait()
		if n := s.opt.Memory.Used(); n > limit || n < limit*6/10 {
			t.Errorf("%d bytes are held of %d", n, limit)
		}
		for i, p := range peers {
			for id := uint16(1); id <= 3; id++ {
				if i%2 == 0 {
					p.send(abort(id))
				} else {
					p.send(params(id), part(id, ""))
				}
				p.answer(id)
			}
		}
		s.wantFree()
		p := s.dial()
		p.send(get(1, true))
		p.wantAnswer(1, helloAnswer, 0)
		s.wantFree()
	})
}

// Open requests count also with nothing in them, and pairs with nothing in them do.
func TestMemoryOfSmallThings(t *testing.T) {
	many := strings.Repeat("\x01\x00a", 5000)
	for name, start := range map[string]func(id uint16) []byte{
		"requests": func(id uint16) []byte { return begin(id, true) },
		"pairs": func(id uint16) []byte {
			return append(append(begin(id, true), rec(protocol.TypeParams, id, many)...), params(id)...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				const limit = 4 << 20
				s := serveMemory(t, testSettings(hello), limit)
				p := s.dial()
				for id := uint16(1); id <= 400; id++ {
					p.send(start(id))
				}
				synctest.Wait()
				if n := s.opt.Memory.Used(); n > limit/4 || n < limit/8 {
					t.Errorf("%d bytes are held of %d", n, limit)
				}
				neighbour := s.dial()
				neighbour.send(get(1, true))
				neighbour.wantAnswer(1, helloAnswer, 0)
				p.nc.Close()
				s.wantFree()
			})
		})
	}
}

// However much a few connections hold, a new one finds room.
func TestMemoryLeavesRoomForNeighbours(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const limit = 4 << 20
		s := serveMemory(t, testSettings(hello), limit)
		var peers []*peer
		for range 8 {
			p := s.dial()
			peers = append(peers, p)
			for id := uint16(1); id <= 200; id++ {
				p.send(begin(id, true))
			}
		}
		synctest.Wait()
		if n := s.opt.Memory.Used(); n < limit*3/4 {
			t.Errorf("only %d bytes are held of %d", n, limit)
		}
		for range 3 {
			p := s.dial()
			p.send(get(1, true))
			p.wantAnswer(1, helloAnswer, 0)
		}
		for _, p := range peers {
			p.nc.Close()
		}
		s.wantFree()
	})
}

// Short of memory a body goes to file, whole, before PARAMS find none.
func TestMemoryOfBodies(t *testing.T) {
	for name, settings := range map[string]Settings{"whole": testSettings(length), "live": liveSettings(length)} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				const limit = 1 << 20
				settings.Limits.BodyMemory, settings.SpoolDir = 64<<10, t.TempDir()
				settings.Limits.MaxReqs = 1000
				s := serveMemory(t, settings, limit)
				const conns, each = 6, 8
				var peers []*peer
				for range conns {
					p := s.dial()
					peers = append(peers, p)
					for id := uint16(1); id <= each; id++ {
						p.send(begin(id, true), params(id), part(id, strings.Repeat("x", 30_000)))
						p.send(part(id, strings.Repeat("y", 30_000)))
					}
				}
				synctest.Wait()
				if n := s.opt.Memory.Used(); n > limit {
					t.Errorf("%d bytes are held of %d", n, limit)
				}
				for _, p := range peers {
					for id := uint16(1); id <= each; id++ {
						p.send(part(id, ""))
						p.wantAnswer(id, plainHeader+"60000", 0)
					}
				}
				s.wantFree()
			})
		})
	}
}

// length answers with the length of the body.
func length(_ context.Context, req *protocol.Request) (uint32, error) {
	n, err := io.Copy(io.Discard, req.Stdin)
	if err != nil {
		return 1, err
	}
	fmt.Fprint(req.Stdout, plainHeader, n)
	return 0, nil
}

// An answer that finds no memory is not held for its end.
func TestMemoryOfAnswers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		body := strings.Repeat("x", 50_000)
		s := serveMemory(t, testSettings(func(_ context.Context, req *protocol.Request) (uint32, error) {
			_, err := req.Stdout.(interface{ WriteLast([]byte) (int, error) }).WriteLast([]byte(plainHeader + body))
			return 0, err
		}), 128<<10)
		p := s.dial()
		p.send(get(1, true))
		p.wantAnswer(1, plainHeader+body, 0)
		s.wantFree()
	})
}

// Buffers of connections count too: that of half a record, and what waits for a client
// that does not read. Both are free when the connection has gone, or is idle.
func TestMemoryOfConnections(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serveMemory(t, testSettings(hello), 64<<20)
		p := s.dial()
		p.send(begin(1, true), rec(protocol.TypeParams, 1, strings.Repeat("x", 60_000))[:50_000])
		synctest.Wait()
		if n := s.opt.Memory.Used(); n < 50_000 {
			t.Errorf("%d bytes are held", n)
		}
		p.nc.Close()
		s.result()
		s.wantFree()

		p = s.dial()
		p.send(rec(protocol.TypeStdin, 7, strings.Repeat("x", 60_000))) // of no request
		s.wantFree()

		deaf := s.dialDeaf()
		io.WriteString(deaf, strings.Repeat(string(rec(77, 0, "")), 1000)) // each is answered
		synctest.Wait()
		if n := s.opt.Memory.Used(); n < 1000 {
			t.Errorf("%d bytes are held", n)
		}
		deaf.Close()
		s.wantFree()
	})
}

package server

import (
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// dialDeaf connects with a client that reads only when the test does.
func (ts *testServer) dialDeaf() net.Conn {
	near, far := net.Pipe()
	ts.l.(*pipeListener).Take(far)
	ts.t.Cleanup(func() { near.Close() })
	return near
}

// A client that sends without end and does not read is cut off; what it may
// keep in memory is bounded, and nobody else is delayed.
func TestFloods(t *testing.T) {
	filter := func(i int) []byte {
		return protocol.AppendBegin(nil, uint16(i+1), protocol.Begin{Role: protocol.RoleFilter, Keep: true})
	}
	for _, tt := range []struct {
		name string
		wire func(i int) []byte
		most int // bytes that it may send before it is cut off
	}{
		{"GET_VALUES", func(int) []byte { return protocol.AppendGetValues(nil, protocol.MaxReqs) }, 100_000},
		{"unknown management types", func(int) []byte { return rec(99, 0, "") }, 100_000},
		{"refused BEGINs", filter, 100_000},
		{"BEGINs", func(i int) []byte { return begin(uint16(i+1), true) }, 100_000},
		{"PARAMS", func(i int) []byte {
			id := uint16(i/2 + 1)
			if i%2 == 0 {
				return begin(id, true)
			}
			return rec(protocol.TypeParams, id, strings.Repeat("x", 10_000))
		}, 100_000},
		{"requests that are aborted twice", func(i int) []byte {
			id := uint16(i + 1)
			return slices.Concat(begin(id, true), abort(id), abort(id))
		}, 200_000},
		{"requests", func(i int) []byte { return get(uint16(i+1), true) }, 200_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := serve(t, testSettings(hello))
				deaf, neighbour := s.dialDeaf(), s.dial()
				sent := 0
				for i := 0; ; i++ {
					n, err := deaf.Write(tt.wire(i))
					if sent += n; err != nil {
						break
					}
					if sent > tt.most {
						t.Fatalf("%d bytes are taken", sent)
					}
					if i%1000 == 0 && tt.name != "requests" { // those hold the places to run
						neighbour.send(get(1, true))
						neighbour.wantAnswer(1, helloAnswer, 0)
					}
				}
				synctest.Wait()
				neighbour.send(get(1, true))
				neighbour.wantAnswer(1, helloAnswer, 0)
				if last := s.errors[len(s.errors)-1]; last != "flood" {
					t.Errorf("connection is closed for %q", last)
				}
			})
		})
	}
}

// One request of which nothing is wanted costs no memory however long its PARAMS are.
func TestEndlessParams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(hello))
		p := s.dial()
		p.send(begin(1, true))
		for range 100 {
			p.send(rec(protocol.TypeParams, 1, strings.Repeat("x", 10_000)))
		}
		p.send(params(1), part(1, ""))
		p.wantOwn(1, 431, complete(431))
		p.send(get(1, true))
		p.wantAnswer(1, helloAnswer, 0)
		s.wantErrors()
	})
}

// PARAMS of requests that have ended, however they did, do not count.
func TestPARAMSOfEndedRequestsDoNotCount(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := serve(t, testSettings(hello)).dial()
		for i := range 50 {
			p.send(begin(1, true), rec(protocol.TypeParams, 1, strings.Repeat("x", 10_000)))
			if i%2 == 0 {
				p.send(abort(1), rec(protocol.TypeParams, 1, strings.Repeat("x", 10_000)))
			} else {
				p.send(params(1), part(1, ""))
			}
			p.answer(1)
		}
	})
}

// A program that reads nothing of 10 MB delays no other request of its connection.
func TestSlowRequestDelaysNoNeighbour(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		settings := testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			if req.Params.Get("CONTENT_LENGTH") == "10485760" {
				<-release
			}
			return echo(ctx, req)
		})
		settings.Limits.Body, settings.SpoolDir, settings.InPlace = 16<<20, t.TempDir(), false
		p := serve(t, settings).dial()
		body := strings.Repeat("0123456789abcdef", 10<<16)
		whole := post(1, true, body)
		began := time.Now()
		for len(whole) > 0 {
			n := min(len(whole), 1<<20)
			record := whole[:n]
			p.send(record)
			whole = whole[n:]
			if len(whole) > 0 && n == 1<<20 {
				continue
			}
			p.send(post(2, true, "x"))
			p.wantAnswer(2, plainHeader+"x", 0)
		}
		took(t, began, 0)
		close(release)
		p.wantAnswer(1, plainHeader+body, 0)
	})
}

// A client that takes nothing for write_timeout is gone, one that takes a
// little now and then stays.
func TestWriteTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(writes(0, plainHeader+strings.Repeat("x", 2000))))
		deaf := s.dialDeaf()
		began := time.Now()
		deaf.Write(get(1, true))
		s.want(Aborted, 200, complete(0))
		took(t, began, time.Minute)

		slow := s.dialDeaf()
		slow.Write(get(1, true))
		var answer []byte
		b := make([]byte, 100)
		for len(answer) < 2000 {
			time.Sleep(59 * time.Second)
			n, err := slow.Read(b)
			if err != nil {
				t.Fatalf("after %d bytes: %v", len(answer), err)
			}
			answer = append(answer, b[:n]...)
		}
		go io.Copy(io.Discard, slow)
		s.want(OK, 200, complete(0))
		s.wantErrors()
	})
}

// Whoever is slow to take an answer holds no place to run once its program has
// written it.
func TestSlowReaderOfTheEndHoldsNoPlace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(func(context.Context, *protocol.Request) (uint32, error) { return 1, nil })
		settings.Limits.MaxReqs = 1
		s := serve(t, settings)
		deaf := s.dialDeaf()
		deaf.Write(get(1, true))
		synctest.Wait()
		if got := s.Snapshot().InFlight; got != 0 {
			t.Errorf("%d in flight", got)
		}
		p := s.dial()
		p.send(get(1, true))
		p.wantOwn(1, 502, complete(1))
	})
}

// PARAMS that are complete are counted too while their requests wait for STDIN.
// What is too much is refused, and the room is free again afterwards.
func TestPARAMSOfManyRequests(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(hello)
		s := serve(t, settings)
		p := s.dial()
		const requests = 200
		empty := strings.Repeat("\x00\x00", int(settings.Limits.Params)/2) // 16 times as much once parsed
		for round := range 2 {
			for id := uint16(1); id <= requests; id++ {
				p.send(begin(id, true), rec(protocol.TypeParams, id, empty), rec(protocol.TypeParams, id, ""))
			}
			refused := 0
			for id := uint16(1); id <= requests; id++ {
				p.send(part(id, ""))
				if a := p.answer(id); a.end == overloaded {
					refused++
				} else if a.stdout != helloAnswer {
					t.Fatalf("answer %d is %+v", id, a)
				}
			}
			if served := requests - refused; served < 2 || served > maxHeldParams {
				t.Errorf("round %d: %d requests are served", round, served)
			}
		}
	})
}

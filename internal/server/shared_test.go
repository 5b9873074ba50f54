package server

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/fcgid/fcgid/internal/wiretest"
)

// What the requests of different connections change together: how long that takes each, with
// as many at once as -cpu says. docs/performance.md.
func BenchmarkShared(b *testing.B) {
	settings := testSettings(hello)
	settings.Limits.MaxReqs, settings.Limits.Queue = 1024, 1024
	var numbers atomic.Uint32
	newConnOf := func(s *Server) *conn {
		c := &conn{all: s.opt.Memory, number: numbers.Add(1)}
		c.address.Store(NewAddress(s))
		return c
	}
	var serials atomic.Uint64
	for _, test := range []struct {
		name string
		make func(s *Server) (do func())
	}{
		{"serials", func(s *Server) func() { return func() { s.opt.Serials.Add(1) } }},
		{"admission", func(s *Server) func() {
			t := turn{ctx: context.Background()}
			return func() {
				if came, err := s.admission.enter(&t); !came || err != nil {
					b.Error(came, err)
				}
				s.admission.leavePlace()
			}
		}},
		{"open requests", func(s *Server) func() {
			r := &request{server: s, conn: newConnOf(s)}
			return func() {
				s.addRequest(r)
				s.removeRequest(r)
			}
		}},
		{"memory", func(s *Server) func() {
			r := &request{server: s, conn: newConnOf(s), settings: s.settings.Load()}
			return func() {
				r.memory = share{}
				r.memory.init(r)
				for range 3 {
					if err := r.memory.take(2000); err != nil {
						b.Error(err)
					}
				}
				r.memory.close()
			}
		}},
		{"counts", func(s *Server) func() {
			c := newConnOf(s)
			return func() {
				c.lane().received.Add(600)
				c.lane().sent.Add(100)
				c.lane().served.Add(1)
				if c.server().settings.Load() == nil {
					b.Error("no settings")
				}
			}
		}},
	} {
		b.Run(test.name, func(b *testing.B) {
			s := New(settings, Options{Memory: NewMemory(1 << 30), Serials: &serials})
			defer wiretest.CPUTime(b)()
			b.RunParallel(func(pb *testing.PB) {
				do := test.make(s)
				for pb.Next() {
					do()
				}
			})
		})
	}
}

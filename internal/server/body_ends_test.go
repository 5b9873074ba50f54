package server

import (
	"strings"
	"testing"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// However a body ends that is being written in batches: the daemon lives, and answers whom
// it can.
func TestEndOfALargeBody(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Settings)
		end    func(p *peer)
		own    protocol.End // of an answer of ours, if there is one
	}{
		"the client leaves":    {end: func(p *peer) { p.nc.Close() }},
		"it aborts":            {end: func(p *peer) { p.send(rec(protocol.TypeAbortRequest, 1, "")) }},
		"it stays silent":      {change: func(s *Settings) { s.Limits.ReadTimeout = time.Second }, end: func(*peer) { time.Sleep(time.Minute) }, own: complete(408)},
		"it is too large":      {change: func(s *Settings) { s.Limits.Body = 2 << 20 }, end: func(p *peer) { p.send(part(1, "")) }, own: complete(413)},
		"the spool is full":    {change: func(s *Settings) { s.Limits.Spool = 2 << 20 }, end: func(p *peer) { p.send(part(1, "")) }, own: overloaded},
		"there is no folder":   {change: func(s *Settings) { s.SpoolDir = "/nowhere" }, end: func(p *peer) { p.send(part(1, "")) }, own: overloaded},
		"it comes to its end":  {end: func(p *peer) { p.send(part(1, "")) }},
		"ended with the drain": {end: func(p *peer) {}},
	} {
		for _, parts := range []int{60, 79} { // of 40,000 bytes: a batch has 1 MiB
			t.Run(name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					settings := testSettings(hello)
					settings.SpoolDir, settings.Limits.Body, settings.Limits.Spool = t.TempDir(), 0, 0
					if tt.change != nil {
						tt.change(&settings)
					}
					s := serve(t, settings)
					p := s.dial()
					p.send(begin(1, true), params(1))
					for range parts {
						p.send(part(1, strings.Repeat("x", 40_000)))
					}
					tt.end(p)
					if tt.own.AppStatus != 0 {
						p.wantOwn(1, int(tt.own.AppStatus), tt.own)
					}
				})
			})
		}
	}
}

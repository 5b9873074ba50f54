package server

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

func TestAnswersARequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(echo))
		p := s.dial()
		p.send(post(1, true, "body"))
		p.wantAnswer(1, plainHeader+"body", 0)
		r := s.result()
		if r.Outcome != OK || r.HTTPStatus != 200 || r.Received != 4 || r.Sent != int64(len(plainHeader))+4 ||
			r.Params.Get("CONTENT_LENGTH") != "4" || r.Serial != 1 || r.Remote == "" || r.Reason != nil {
			t.Errorf("result is %+v", r)
		}
		s.noMoreResults()
	})
}

// Section 3.3: records may be cut anywhere on their way.
func TestBytesMayComeOneByOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(echo))
		p := s.dial()
		for range 2 {
			for _, b := range post(1, true, "some body") {
				p.send([]byte{b})
			}
			p.wantAnswer(1, plainHeader+"some body", 0)
		}
	})
}

// Section 3.4: a pair may lie in several records.
func TestPairsMayStraddleRecords(t *testing.T) {
	bubble(t, func(t *testing.T) {
		long := strings.Repeat("v", 300)
		s := serve(t, testSettings(func(_ context.Context, req *protocol.Request) (uint32, error) {
			fmt.Fprint(req.Stdout, plainHeader, req.Params.Get("NAME"), req.Params.Get("LONG"))
			return 0, nil
		}))
		p := s.dial()
		encoded := pairs("NAME", "value", "LONG", long)
		for _, size := range []int{1, 2, 7, len(encoded)} {
			p.send(begin(1, true))
			for rest := encoded; rest != ""; {
				n := min(size, len(rest))
				p.send(rec(protocol.TypeParams, 1, rest[:n]))
				rest = rest[n:]
			}
			p.send(params(1), part(1, ""))
			p.wantAnswer(1, plainHeader+"value"+long, 0)
		}
	})
}

// Section 3.5: without FCGI_KEEP_CONN the application closes the connection.
func TestKeepConn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(hello))
		p := s.dial()
		p.send(get(1, true))
		p.wantAnswer(1, helloAnswer, 0)
		time.Sleep(time.Hour)
		p.wantSilence()
		p.send(get(1, false))
		p.wantAnswer(1, helloAnswer, 0)
		p.wantClosed()
		s.wantErrors()
	})
}

func TestIDsAreAnyAndFreeAgainAfterEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := serve(t, testSettings(hello)).dial()
		for _, id := range []uint16{1, 1, 255, 256, 32767, 65535, 65535} {
			p.send(get(id, true))
			p.wantAnswer(id, helloAnswer, 0)
		}
	})
}

func TestRequestsMayBeInterleaved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := serve(t, testSettings(echo)).dial()
		const n = 5
		step := func(f func(id uint16) []byte) {
			for _, i := range rand.Perm(n) {
				p.send(f(uint16(i + 1)))
			}
		}
		step(func(id uint16) []byte { return begin(id, true) })
		step(func(id uint16) []byte { return params(id, "CONTENT_LENGTH", "8") })
		step(func(id uint16) []byte { return part(id, fmt.Sprintf("one%d", id)) })
		step(func(id uint16) []byte { return part(id, fmt.Sprintf("two%d", id)) })
		step(func(id uint16) []byte { return part(id, "") })
		for id := uint16(n); id > 0; id-- {
			p.wantAnswer(id, fmt.Sprintf("%sone%dtwo%d", plainHeader, id, id), 0)
		}
	})
}

// Section 4.1. HAProxy asks before its first BEGIN_REQUEST and waits.
func TestGetValuesAtAnyTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(echo)
		settings.Limits.MaxConns = 7
		s := serve(t, settings)
		p := s.dial()
		ask := func(want string) {
			t.Helper()
			p.send(protocol.AppendGetValues(nil, protocol.MaxConns, "NONSENSE", protocol.MaxReqs, protocol.MpxsConns, protocol.MaxReqs))
			if got := p.next(); got != (record{Type: protocol.TypeGetValuesResult, ID: 0, Content: want}) {
				t.Fatalf("answer is %v, want %q", got, want)
			}
			p.wantSilence()
		}
		before := pairs(protocol.MaxConns, "7", protocol.MaxReqs, "8", protocol.MpxsConns, "1")
		ask(before)
		p.send(begin(1, true))
		ask(before)
		p.send(rec(protocol.TypeParams, 1, pairs("CONTENT_LENGTH", "1")))
		ask(before)
		p.send(params(1), part(1, "x"))
		ask(before)

		settings.Limits.MaxConns, settings.Limits.MaxReqs, settings.Limits.Multiplex = 0, 0, false
		s.Update(settings)
		ask(pairs(protocol.MaxConns, "65536", protocol.MaxReqs, "65536", protocol.MpxsConns, "0"))
		p.send(part(1, ""))
		p.wantAnswer(1, plainHeader+"x", 0)
		s.wantErrors()
	})
}

// Section 4.2.
func TestUnknownManagementType(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(hello))
		p := s.dial()
		p.send(rec(99, 0, "what?"))
		if got, want := p.next(), (record{Type: protocol.TypeUnknownType, ID: 0, Content: "\x63\x00\x00\x00\x00\x00\x00\x00"}); got != want {
			t.Fatalf("answer is %v, want %v", got, want)
		}
		p.send(rec(protocol.TypeUnknownType, 0, "\x63\x00\x00\x00\x00\x00\x00\x00"), rec(protocol.TypeGetValuesResult, 0, ""))
		p.wantSilence()
		p.send(get(1, true))
		p.wantAnswer(1, helloAnswer, 0)
		s.wantErrors("unknown type", "unexpected type", "unexpected type")
	})
}

// Section 3.3: records of inactive requests are ignored, whatever they are.
func TestInactiveIDsAreIgnored(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(echo))
		p := s.dial()
		stray := func(id uint16) {
			for _, kind := range []protocol.Type{2, 3, 4, 5, 6, 7, 8, 77} {
				p.send(rec(kind, id, strings.Repeat("x", 5000)), rec(kind, id, ""))
			}
			p.wantSilence()
		}
		stray(1)
		p.send(begin(1, true))
		stray(2)
		p.send(params(1), part(1, "a"), part(1, ""))
		p.wantAnswer(1, plainHeader+"a", 0)
		stray(1)
		p.send(post(1, true, "b"))
		p.wantAnswer(1, plainHeader+"b", 0)
		s.wantErrors()
		synctest.Wait()
		if n := len(s.Requests()); n != 0 {
			t.Errorf("%d requests are open", n)
		}
	})
}

func TestUnknownTypesOfAnActiveRequestAreIgnored(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(echo))
		p := s.dial()
		p.send(begin(1, true), rec(77, 1, "x"), params(1), rec(protocol.TypeData, 1, "x"), part(1, "a"), part(1, ""))
		p.wantAnswer(1, plainHeader+"a", 0)
		s.wantErrors("unexpected type", "unexpected type")
	})
}

// What comes of a stream after its end is reported and not taken.
func TestStreamsEndOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		s := serve(t, testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			<-release
			return echo(ctx, req)
		}))
		p := s.dial()
		p.send(begin(1, true), params(1, "A", "1"), params(1, "A", "2"), part(1, "a"), part(1, ""), part(1, "b"), part(1, ""))
		p.wantSilence()
		close(release)
		p.wantAnswer(1, plainHeader+"a", 0)
		if got := s.result(); got.Params.Get("A") != "1" || got.Received != 1 {
			t.Errorf("result is %+v", got)
		}
		s.wantErrors("sequence", "sequence", "sequence", "sequence")
	})
}

// The specification draws no line between the two streams, so STDIN may come
// early; the request still needs its PARAMS.
func TestStdinBeforeParams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(echo))
		p := s.dial()
		p.send(begin(1, true), part(1, "a"), part(1, ""))
		p.wantSilence()
		p.send(params(1))
		p.wantAnswer(1, plainHeader+"a", 0)

		p.send(begin(1, true), part(1, "a"), part(1, ""))
		p.wantOwn(1, 408, complete(408))
		s.wantErrors()
	})
}

// These break the connection off; nothing after them can be trusted.
func TestProtocolErrorsCloseTheConnection(t *testing.T) {
	for _, tt := range []struct {
		name, kind string
		wire       []byte
	}{
		{"version", "version", []byte{2}},
		{"HTTP", "version", []byte("GET / HTTP/1.1\r\n")},
		{"short BEGIN", "length", rec(protocol.TypeBeginRequest, 1, "\x00\x01")},
		{"BEGIN of an active id", "sequence", append(begin(1, true), begin(1, true)...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := serve(t, testSettings(hello))
				p, neighbour := s.dial(), s.dial()
				p.nc.Write(tt.wire)
				p.wantClosed()
				s.wantErrors(tt.kind)
				neighbour.send(get(1, true))
				neighbour.wantAnswer(1, helloAnswer, 0)
			})
		})
	}
}

func TestConnectionCutInARecord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(hello))
		p := s.dial()
		p.send(begin(1, true)[:11])
		p.nc.Close()
		synctest.Wait()
		s.wantErrors("truncated")
		s.noMoreResults()
	})
}

// The header leaves before any STDERR, and that in few records, however it is written.
func TestStderrFollowsTheHeader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(func(_ context.Context, req *protocol.Request) (uint32, error) {
			for range 100 {
				io.WriteString(req.Stderr, "12345678 ")
			}
			return hello(t.Context(), req)
		}))
		p := s.dial()
		p.send(get(1, true))
		if rec := p.next(); rec.Type != protocol.TypeStdout || rec.Content != helloAnswer {
			t.Fatalf("first comes %v", rec)
		}
		if rec := p.next(); rec.Type != protocol.TypeStderr || rec.Content != strings.Repeat("12345678 ", 100) {
			t.Fatalf("then comes %v", rec)
		}
		for rec := p.next(); rec.Type != protocol.TypeEndRequest; rec = p.next() {
			if rec.Content != "" {
				t.Errorf("then comes %v", rec)
			}
		}
	})
}

// STDERR of a program comes padded, and with its end.
func TestStderr(t *testing.T) {
	bubble(t, func(t *testing.T) {
		long := strings.Repeat("e", 200_000)
		p := serve(t, testSettings(func(_ context.Context, req *protocol.Request) (uint32, error) {
			io.WriteString(req.Stderr, "12345678")
			io.WriteString(req.Stderr, "")
			io.WriteString(req.Stdout, helloAnswer)
			io.WriteString(req.Stderr, long)
			return 3, nil
		})).dial()
		p.send(get(1, true))
		a := p.answer(1)
		if a.stdout != helloAnswer || a.stderr != "12345678"+long || a.end != complete(3) {
			t.Errorf("answer is %.80q, %d bytes of STDERR, %+v", a.stdout, len(a.stderr), a.end)
		}
	})
}

// The body passes as it comes: nothing is held back for more.
func TestBodyIsNotHeldBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := serve(t, testSettings(func(_ context.Context, req *protocol.Request) (uint32, error) {
			for _, s := range []string{plainHeader, "one", "two"} {
				io.WriteString(req.Stdout, s)
				time.Sleep(time.Second)
			}
			r := io.MultiReader(strings.NewReader("three"), strings.NewReader("four"))
			_, err := req.Stdout.(io.ReaderFrom).ReadFrom(r)
			return 0, err
		})).dial()
		p.send(get(1, true))
		for _, want := range []string{plainHeader, "one", "two", "three", "four", ""} {
			if got := p.next(); got != (record{Type: protocol.TypeStdout, ID: 1, Content: want}) {
				t.Fatalf("got %v, want STDOUT %q", got, want)
			}
		}
		if got := p.next(); got.Type != protocol.TypeEndRequest {
			t.Fatalf("got %v", got)
		}
	})
}

func TestLargeAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		body := strings.Repeat("0123456789abcde\n", 20_000)
		p := serve(t, testSettings(writes(0, plainHeader+body, body))).dial()
		p.send(get(1, true))
		p.wantAnswer(1, plainHeader+body+body, 0)
	})
}

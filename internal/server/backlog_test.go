package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// spoolSettings are those of a pool whose answers may go to a file, and that has one
// place.
func spoolSettings(t *testing.T, run runnerFunc) Settings {
	settings := testSettings(run)
	settings.SpoolDir = t.TempDir()
	settings.Limits.MaxReqs, settings.Limits.AnswerSpool = 1, 64<<20
	return settings
}

// A client that does not read holds its program's place for a second, however its
// program writes, and gets all when it reads.
func TestSlowClientHoldsNoPlace(t *testing.T) {
	for name, write := range map[string]func(req *protocol.Request, body []byte) error{
		"at once": func(req *protocol.Request, body []byte) error {
			_, err := req.Stdout.Write(body)
			return err
		},
		"bit by bit": func(req *protocol.Request, body []byte) error {
			for len(body) > 0 {
				n := min(len(body), 1+rand.IntN(3000))
				if _, err := req.Stdout.Write(body[:n]); err != nil {
					return err
				}
				body = body[n:]
			}
			return nil
		},
		"reader": func(req *protocol.Request, body []byte) error {
			_, err := req.Stdout.(io.ReaderFrom).ReadFrom(struct{ io.Reader }{bytes.NewReader(body)})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				body := randomBytes(300_000)
				s := serve(t, spoolSettings(t, func(_ context.Context, req *protocol.Request) (uint32, error) {
					if req.Params.Get("SMALL") != "" {
						return hello(t.Context(), req)
					}
					io.WriteString(req.Stdout, plainHeader)
					err := write(req, body)
					io.WriteString(req.Stderr, "message")
					return 3, err
				}))
				deaf := s.dialDeaf()
				deaf.Write(get(1, true))
				synctest.Wait()
				p, began := s.dial(), time.Now()
				p.send(get(1, true, "SMALL", "1"))
				p.wantAnswer(1, helloAnswer, 0)
				took(t, began, patienceTime)
				slow := newPeer(t, deaf)
				a := slow.answer(1)
				if a.stdout != plainHeader+string(body) || a.stderr != "message" || a.end != complete(3) {
					t.Errorf("answer has %d bytes, STDERR %q, %+v", len(a.stdout), a.stderr, a.end)
				}
				slow.send(get(1, true, "SMALL", "1"))
				slow.wantAnswer(1, helloAnswer, 0)
			})
		})
	}
}

// Nobody's answer waits for a slow neighbour on the same connection to be asked for:
// the place is free as well when it is another request that is not read.
func TestSlowNeighbourHoldsNoPlace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := spoolSettings(t, writes(0, plainHeader, strings.Repeat("x", 100_000)))
		settings.Limits.MaxReqs = 2
		s := serve(t, settings)
		deaf := s.dialDeaf()
		deaf.Write(append(get(1, true), get(2, true)...))
		time.Sleep(patienceTime + time.Millisecond)
		synctest.Wait()
		if got := s.Snapshot().InFlight; got != 0 {
			t.Errorf("%d run", got)
		}
		p := newPeer(t, deaf)
		for id := uint16(1); id <= 2; id++ {
			p.wantAnswer(id, plainHeader+strings.Repeat("x", 100_000), 0)
		}
	})
}

// A client that takes its answer slowly, but again and again, is not gone; and a
// program that goes on writing has what it writes pass at once when the client has
// caught up.
func TestClientCatchesUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		more := make(chan string)
		s := serve(t, spoolSettings(t, func(_ context.Context, req *protocol.Request) (uint32, error) {
			io.WriteString(req.Stdout, plainHeader)
			for text := range more {
				if _, err := io.WriteString(req.Stdout, text); err != nil {
					return 1, err
				}
			}
			return 0, nil
		}))
		deaf := s.dialDeaf()
		deaf.Write(get(1, true))
		want := plainHeader
		for range 5 {
			for range 3 {
				text := strings.Repeat("y", 1+rand.IntN(100_000))
				more <- text
				want += text
			}
			time.Sleep(2 * patienceTime)
			var got strings.Builder
			for got.Len() < len(want) {
				rec, err := readRecord(deaf)
				if err != nil {
					t.Fatal(err)
				}
				got.WriteString(rec.Content)
			}
			if got.String() != want {
				t.Fatalf("got %d bytes that differ", got.Len())
			}
			synctest.Wait()
			want = ""
		}
		close(more)
		newPeer(t, deaf).wantAnswer(1, "", 0)
	})
}

// A client that leaves, aborts or never reads ends what is left for it.
func TestBacklogIsDropped(t *testing.T) {
	before := openFiles(t)
	for _, how := range []string{"gone", "aborts", "deaf", "stop"} {
		t.Run(how, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := serve(t, spoolSettings(t, writes(0, plainHeader, strings.Repeat("x", 1_000_000))))
				deaf := s.dialDeaf()
				deaf.Write(get(1, true))
				time.Sleep(2 * patienceTime)
				if got := s.Snapshot().InFlight; got != 0 {
					t.Errorf("%d run", got)
				}
				switch how {
				case "gone":
					deaf.Close()
				case "aborts":
					deaf.Write(abort(1))
					synctest.Wait() // else what is read first comes before the server has seen it
					p := newPeer(t, deaf)
					if a := p.answer(1); len(a.stdout) > 200_000 {
						t.Errorf("%d bytes come", len(a.stdout))
					}
					p.send(get(1, true, "REQUEST_METHOD", "HEAD"))
					p.wantAnswer(1, plainHeader, 0)
				case "stop":
					s.stop()
				}
				if r := s.result(); r.Outcome != Aborted {
					t.Errorf("result is %+v", r)
				}
				synctest.Wait()
				if n := s.spooled.used.Load(); n != 0 {
					t.Errorf("%d bytes are still spooled", n)
				}
			})
		})
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d files are left open", after-before)
	}
}

// Where there is no room for a file the program waits, and the client gets all.
func TestNoRoomForABacklog(t *testing.T) {
	for name, set := range map[string]func(*Settings){
		"off":            func(s *Settings) { s.Limits.AnswerSpool = 0 },
		"small":          func(s *Settings) { s.Limits.AnswerSpool = 100_000 },
		"tiny":           func(s *Settings) { s.Limits.AnswerSpool = 1 },
		"pool is full":   func(s *Settings) { s.Limits.Spool = 1 },
		"nothing stored": func(s *Settings) { s.SpoolDir = "/nonexistent" },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				body := randomBytes(500_000)
				settings := spoolSettings(t, writes(0, plainHeader, string(body)))
				set(&settings)
				s := serve(t, settings)
				deaf := s.dialDeaf()
				deaf.Write(get(1, true))
				time.Sleep(2 * patienceTime)
				if got := s.Snapshot().InFlight; got != 1 {
					t.Errorf("%d run", got)
				}
				newPeer(t, deaf).wantAnswer(1, plainHeader+string(body), 0)
			})
		})
	}
}

// A program that waits for its client is ended like any other.
func TestTimeoutWithABacklog(t *testing.T) {
	for _, limit := range []int64{0, 1000, 1 << 20} {
		bubble(t, func(t *testing.T) {
			settings := spoolSettings(t, func(ctx context.Context, req *protocol.Request) (uint32, error) {
				io.WriteString(req.Stdout, plainHeader)
				for {
					if _, err := req.Stdout.Write(make([]byte, 10_000)); err != nil || ctx.Err() != nil {
						return 1, err
					}
					time.Sleep(time.Second)
				}
			})
			settings.Timeout, settings.Limits.AnswerSpool = 10*time.Second, limit
			s := serve(t, settings)
			deaf := s.dialDeaf()
			deaf.Write(get(1, true))
			time.Sleep(settings.Timeout + 2*time.Second)
			synctest.Wait()
			if got := s.Snapshot().InFlight; got != 0 {
				t.Errorf("%d run", got)
			}
			if a := newPeer(t, deaf).answer(1); a.end != complete(408) {
				t.Errorf("ends with %+v", a.end)
			}
		})
	}
}

// On a socket too, where bulk is spliced and files are sent, all arrives, whatever the
// pace of the two.
func TestBacklogOfSockets(t *testing.T) {
	body := randomBytes(4 << 20) // more than pipes and sockets hold
	want := append([]byte("A: b\r\n\r\n"), body...)
	for _, network := range []string{"unix", "tcp", "tcp blocking"} {
		t.Run(network, func(t *testing.T) {
			settings := spoolSettings(t, fromPipe(body))
			settings.Limits.MaxReqs = 0
			s := listen(t, network, settings)
			var reading sync.WaitGroup
			for i := range 4 {
				nc := dialRaw(t, s)
				for id := uint16(1); id <= 2; id++ {
					if _, err := nc.Write(get(id, true)); err != nil {
						t.Fatal(err)
					}
				}
				reading.Go(func() { readSlowly(t, nc, i, want) })
			}
			reading.Wait()
			for range 8 {
				if r := s.result(); r.Outcome != OK || r.Sent != int64(len(body)+8) {
					t.Errorf("result is %+v", r)
				}
			}
			if n := s.spooled.used.Load(); n != 0 {
				t.Errorf("%d bytes are still spooled", n)
			}
		})
	}
}

// readSlowly reads two answers, the slower the larger pace is.
func readSlowly(t *testing.T, nc net.Conn, pace int, want []byte) {
	if pace > 0 {
		time.Sleep(patienceTime + 300*time.Millisecond)
	}
	got, ended := [3]bytes.Buffer{}, 0
	for n := 0; ended < 2; n++ {
		rec, err := readRecord(nc)
		if err != nil {
			t.Error(err)
			return
		}
		if rec.Type == protocol.TypeEndRequest {
			ended++
		} else {
			got[rec.ID].WriteString(rec.Content)
		}
		if pace > 1 && n%16 == 0 {
			time.Sleep(time.Duration(pace) * time.Millisecond)
		}
	}
	for id := 1; id <= 2; id++ {
		if !bytes.Equal(got[id].Bytes(), want) {
			t.Errorf("answer %d has %d bytes that differ", id, got[id].Len())
		}
	}
}

// Files count, of the pool and of a connection, until they are given up.
func TestSpoolLimit(t *testing.T) {
	limits := Limits{Spool: 1000}
	a, b := spooling(t, limits), spooling(t, limits)
	b.server = a.server
	var files []*spool
	for i, step := range []struct {
		req  *request
		size int
		err  error
	}{{a, 200, nil}, {a, 51, errSpoolFull}, {a, 50, nil}, {b, 250, nil}, {b, 1, errSpoolFull}} {
		s := &spool{req: step.req}
		files = append(files, s)
		if err := s.writeAt(make([]byte, step.size), 0); !errors.Is(err, step.err) {
			t.Errorf("step %d: %v", i, err)
		}
	}
	if err := files[0].writeAt(make([]byte, 200), 0); err != nil {
		t.Errorf("what is there is written again: %v", err)
	}
	for _, f := range files {
		f.close()
	}
	if n := a.server.spooled.used.Load() + a.conn.spooled.used.Load() + b.conn.spooled.used.Load(); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
	if _, err := os.ReadDir(fmt.Sprint(a.settings.SpoolDir)); err != nil {
		t.Error(err)
	}
}

// A slow client holds no place either if it takes something all the time: each wait for it
// is short, but in all they are longer than a second.
func TestSteadySlowClientHoldsNoPlace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		body := randomBytes(300_000)
		s := serve(t, spoolSettings(t, func(_ context.Context, req *protocol.Request) (uint32, error) {
			if req.Params.Get("SMALL") != "" {
				return hello(t.Context(), req)
			}
			io.WriteString(req.Stdout, plainHeader)
			for part := range slices.Chunk(body, 3000) {
				if _, err := req.Stdout.Write(part); err != nil {
					return 1, err
				}
			}
			return 3, nil
		}))
		nc := s.dialDeaf()
		nc.Write(get(1, true))
		slow := newPeer(t, steady{nc, 100 * time.Millisecond})
		synctest.Wait()
		p, began := s.dial(), time.Now()
		p.send(get(1, true, "SMALL", "1"))
		p.wantAnswer(1, helloAnswer, 0)
		if d := time.Since(began); d > 2*patienceTime {
			t.Errorf("another client waits for %v", d)
		}
		if a := slow.answer(1); a.stdout != plainHeader+string(body) || a.end != complete(3) {
			t.Errorf("answer has %d bytes, %+v", len(a.stdout), a.end)
		}
	})
}

// steady is a client that reads 1,000 bytes after each pause.
type steady struct {
	net.Conn
	pause time.Duration
}

func (c steady) Read(p []byte) (int, error) {
	time.Sleep(c.pause)
	return c.Conn.Read(p[:min(len(p), 1000)])
}

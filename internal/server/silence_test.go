package server

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

const testSilence = 30 * time.Second

// silentSettings are those of a pool with silence, in which a request that is over has
// its goroutine end.
func silentSettings(run runnerFunc) Settings {
	s := testSettings(run)
	s.Silence = testSilence
	return s
}

// speaks is a program that says something after each of the pauses, and then nothing.
func speaks(say func(req *protocol.Request) error, pauses ...time.Duration) runnerFunc {
	return func(ctx context.Context, req *protocol.Request) (uint32, error) {
		for _, pause := range pauses {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return 0, context.Cause(ctx)
			}
			if err := say(req); err != nil {
				return 0, err
			}
		}
		return untilDone(ctx, req)
	}
}

// wantSilent checks that the program of the next result was ended for its silence.
func (ts *testServer) wantSilent() Result {
	ts.t.Helper()
	r := ts.result()
	if r.Outcome != TimedOut || !errors.Is(r.Reason, errSilence) || !strings.Contains(r.Reason.Error(), "silence") {
		ts.t.Errorf("result is %+v", r)
	}
	return r
}

func TestSilentProgram(t *testing.T) {
	for name, settings := range map[string]Settings{
		"buffered": silentSettings(untilDone),
		"live":     liveSettings(untilDone),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				settings.Silence = testSilence
				s := serve(t, settings)
				p, began := s.dial(), time.Now()
				p.send(post(1, true, "body"))
				p.wantOwn(1, 408, complete(408))
				took(t, began, testSilence)
				s.wantSilent()
				p.send(post(2, true, "body")) // the connection goes on
				p.wantOwn(2, 408, complete(408))
			})
		})
	}
}

// Whatever a program says counts, on either stream, and only once it says nothing more
// it is ended: then its answer can only be cut short.
func TestProgramThatSpeaksNowAndThen(t *testing.T) {
	for name, say := range map[string]func(req *protocol.Request) error{
		"stdout":          func(req *protocol.Request) error { _, err := io.WriteString(req.Stdout, "."); return err },
		"nothing of HEAD": func(req *protocol.Request) error { _, err := io.WriteString(req.Stdout, "."); return err },
		"stderr":          func(req *protocol.Request) error { _, err := io.WriteString(req.Stderr, "."); return err },
		"reader": func(req *protocol.Request) error {
			_, err := req.Stdout.(io.ReaderFrom).ReadFrom(strings.NewReader("."))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				pauses := make([]time.Duration, 50)
				for i := range pauses {
					pauses[i] = testSilence - time.Millisecond
				}
				talker := speaks(say, pauses...)
				s := serve(t, silentSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
					io.WriteString(req.Stdout, plainHeader)
					return talker(ctx, req)
				}))
				method := "GET"
				if name == "nothing of HEAD" {
					method = "HEAD"
				}
				p, began := s.dial(), time.Now()
				p.send(get(1, true, "REQUEST_METHOD", method))
				if a := p.answer(1); a.end.AppStatus != 408 {
					t.Errorf("answer is %+v", a)
				}
				took(t, began, 50*(testSilence-time.Millisecond)+testSilence)
				s.wantSilent()
			})
		})
	}
}

// The header counts too, bit by bit, though nothing of it has left.
func TestSlowHeaderIsNoSilence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, silentSettings(func(_ context.Context, req *protocol.Request) (uint32, error) {
			for _, b := range []byte(helloAnswer) {
				time.Sleep(testSilence / 2)
				if _, err := req.Stdout.Write([]byte{b}); err != nil {
					return 0, err
				}
			}
			return 0, nil
		}))
		p := s.dial()
		p.send(get(1, true))
		p.wantAnswer(1, helloAnswer, 0)
	})
}

// While a client does not read, its program need not say anything: neither while it
// waits for its client nor while the client has a file to read first.
func TestClientThatDoesNotReadIsNoSilence(t *testing.T) {
	for name, spool := range map[string]int64{"waits": 0, "spooled": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				answer := plainHeader + strings.Repeat("x", 300_000)
				settings := silentSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
					if _, err := io.WriteString(req.Stdout, answer); err != nil {
						return 0, err
					}
					return untilDone(ctx, req)
				})
				settings.SpoolDir, settings.Limits.AnswerSpool, settings.Limits.WriteTimeout = t.TempDir(), spool, 0
				s := serve(t, settings)
				deaf := s.dialDeaf()
				deaf.Write(get(1, true))
				time.Sleep(10 * testSilence)
				began := time.Now()
				a := newPeer(t, deaf).answer(1)
				if a.stdout != answer || a.end.AppStatus != 408 {
					t.Errorf("answer has %d bytes, %+v", len(a.stdout), a.end)
				}
				took(t, began, testSilence) // it is silent from when all was read
				s.wantSilent()
			})
		})
	}
}

// Nor while a client has still to say something itself.
func TestSlowUploadIsNoSilence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := liveSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			io.Copy(io.Discard, req.Stdin)
			return untilDone(ctx, req)
		})
		settings.Silence = testSilence / 2
		s := serve(t, settings)
		p := s.dial()
		p.send(begin(1, true), params(1))
		for range 100 {
			time.Sleep(testSilence - time.Millisecond)
			p.send(part(1, "x"))
		}
		time.Sleep(testSilence - time.Millisecond)
		p.send(part(1, ""))
		began := time.Now()
		p.wantOwn(1, 408, complete(408))
		took(t, began, testSilence/2)
		s.wantSilent()
	})
}

// waits is a Runner with a queue of its own.
type waits struct{ runnerFunc }

func (waits) Queues() bool { return true }

// Time in the queue is none of the program's, in that of the pool nor in the Runner's.
func TestQueueIsNoSilence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := silentSettings(nil)
		settings.Runner = waits{func(ctx context.Context, req *protocol.Request) (uint32, error) {
			time.Sleep(10 * testSilence) // for a worker
			req.Running()
			time.Sleep(testSilence - time.Millisecond)
			return hello(ctx, req)
		}}
		settings.Limits.MaxReqs, settings.Limits.QueueTimeout = 1, 0
		p := serve(t, settings).dial()
		p.send(get(1, true), get(2, true), get(3, true))
		for id := uint16(1); id <= 3; id++ {
			p.wantAnswer(id, helloAnswer, 0)
		}
	})
}

// Who has answered, and whose client has left, has nothing to say to anybody.
func TestNobodyWaitsIsNoSilence(t *testing.T) {
	t.Run("answered", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			why := make(chan error, 1)
			p := serve(t, silentSettings(answers(why))).dial()
			p.send(get(1, true))
			p.wantAnswer(1, helloAnswer, 0)
			if err := <-why; err != nil {
				t.Errorf("its context has ended: %v", err)
			}
		})
	})
	for _, on := range []OnAbort{AbortClose, AbortIgnore} {
		t.Run(on.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				ended := make(chan error, 1)
				settings := silentSettings(func(ctx context.Context, _ *protocol.Request) (uint32, error) {
					time.Sleep(10 * testSilence)
					ended <- ctx.Err()
					return 0, nil
				})
				settings.OnAbort = on
				p := serve(t, settings).dial()
				p.send(get(1, true))
				synctest.Wait()
				p.nc.Close()
				if err := <-ended; err != nil {
					t.Errorf("its context has ended: %v", err)
				}
			})
		})
	}
}

// A request keeps the silence that it began with.
func TestSilenceIsUpdated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := silentSettings(untilDone)
		settings.InPlace = false
		s := serve(t, settings)
		p, began := s.dial(), time.Now()
		p.send(get(1, true))
		synctest.Wait()
		settings.Silence = time.Second
		s.Update(settings)
		p.send(get(2, true))
		p.wantOwn(2, 408, complete(408))
		took(t, began, time.Second)
		p.wantOwn(1, 408, complete(408))
		took(t, began, testSilence)
	})
}

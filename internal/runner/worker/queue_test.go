package worker

import (
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// A request that goes from one worker to the next waits until its deadline in all,
// and what it spends with a worker is no waiting.
func TestDeadlineIsForAllAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := fakeWorkers(t, Options{Scale: ScaleStatic, Max: 1}, func(id int) (process, error) {
			time.Sleep(20 * time.Second)
			f := newFake(id)
			f.serve = func(c net.Conn) {
				go io.Copy(io.Discard, c)
				time.Sleep(time.Second)
				c.Close()
			}
			return f, nil
		})
		began := time.Now()
		var running []time.Duration
		_, err := p.Run(t.Context(), &protocol.Request{
			Params: getParams(), QueueDeadline: began.Add(30 * time.Second),
			Running: func() { running = append(running, time.Since(began)) },
		})
		var refused *protocol.Refusal
		want := 31 * time.Second
		if took := time.Since(began); !errors.As(err, &refused) || refused.HTTPStatus != 503 || took != want {
			t.Errorf("after %v: %v", took, err)
		}
		if len(running) != 1 || running[0] != 20*time.Second {
			t.Errorf("it ran after %v, want 20s", running)
		}
		stop()
	})
}

// A worker that was to show that workers can be started, and hangs, is not waited
// for by the next one.
func TestProbeHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fakes := make([]*fakeProcess, 4)
		p, stop := fakeWorkers(t, Options{Scale: ScaleStatic, Max: 1, StartTimeout: time.Hour}, func(id int) (process, error) {
			f := newFake(id)
			fakes[id] = f
			switch id {
			case 1:
				f.die()
			case 2:
				f.deaf = true
			}
			return f, nil
		})
		time.Sleep(50 * time.Millisecond) // the first has failed
		s, err := p.acquire(t.Context(), &protocol.Request{}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		p.vacate(s, &exchange{seat: s, req: &protocol.Request{}, fate: fateHung})
		synctest.Wait()
		if s := p.snapshot(); s.Stopping != 1 || s.Idle != 1 || s.Starts != 3 {
			t.Errorf("snapshot is %+v", s)
		}
		fakes[2].die()
		stop()
	})
}

// The ids of a connection's requests are all used, but for 0.
func TestRequestIDs(t *testing.T) {
	var s seat
	for i := range 200_000 {
		if want := uint16(i%65535 + 1); s.nextID() != want {
			t.Fatalf("id %d is %d, want %d", i, s.lastID, want)
		}
	}
}

func getParams() (p protocol.Params) {
	p.Add("REQUEST_METHOD", "GET")
	return p
}

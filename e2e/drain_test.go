//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/protocol"
)

// Askers ask an address again and again, some on a new connection each time and some, as
// nginx does with keepalive, on one that they keep. Not to be let in is no fault; to be let
// in and not be answered is. A kept connection may be closed just when a request is on its
// way: then nginx asks again on a new one, as long as nothing of the answer has come.
type askers struct {
	answered, refused, kept, closed atomic.Int64

	mu     sync.Mutex // guards faults
	faults []string
}

// ask begins to ask and returns what ends it.
func (a *askers) ask(network, address string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				a.once(ctx, network, address)
			}
		})
		all.Go(func() {
			for ctx.Err() == nil {
				a.keep(ctx, network, address)
			}
		})
	}
	return func() { cancel(); all.Wait() }
}

func (a *askers) once(ctx context.Context, network, address string) {
	c, err := fcgi.Dial(ctx, network+":"+address)
	switch {
	case ctx.Err() != nil:
		if err == nil {
			c.Close()
		}
		return
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, os.ErrNotExist):
		a.refused.Add(1)
		time.Sleep(time.Millisecond) // the daemon is to have the processor
		return
	case err != nil:
		a.fault("%s: %v", address, err)
		return
	}
	defer c.Close()
	var out bytes.Buffer
	end, err := c.Do(context.WithoutCancel(ctx), &fcgi.Request{Close: true, Params: params("fcgid.ping"), Stdout: &out})
	if err != nil || end != (fcgi.Result{}) || !strings.Contains(out.String(), "\r\n\r\n") {
		a.fault("%s: %v, %+v, %q", address, err, end, out.String())
		return
	}
	a.answered.Add(1)
}

// keep asks on one connection until that is closed.
func (a *askers) keep(ctx context.Context, network, address string) {
	nc, err := net.Dial(network, address)
	if err != nil {
		time.Sleep(time.Millisecond)
		return
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(time.Minute))
	reader := protocol.NewReader(nc)
	for n := 0; ctx.Err() == nil; n++ {
		_, err := nc.Write(request(1, params("fcgid.ping"), ""))
		var rec protocol.Record
		answer, ended := "", false
		for err == nil && !ended {
			if rec, err = reader.Next(); err == nil {
				answer += string(rec.Content)
				ended = rec.Type == protocol.TypeEndRequest
			}
		}
		switch {
		case ended && strings.Contains(answer, "pong"):
			a.kept.Add(1)
		case n > 0 && answer == "":
			a.closed.Add(1)
			return
		default:
			a.fault("%s, kept, after %d requests: %v, %q", address, n, err, answer)
			return
		}
		time.Sleep(time.Millisecond) // idle for a while, as nginx's are
	}
}

func (a *askers) fault(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults = append(a.faults, fmt.Sprintf(format, args...))
}

// report fails the test for what has gone wrong.
func (a *askers) report(t *testing.T) {
	t.Helper()
	t.Logf("%d answered, %d refused; %d on kept connections, of which %d were closed", a.answered.Load(), a.refused.Load(), a.kept.Load(), a.closed.Load())
	if len(a.faults) > 0 {
		t.Errorf("%d faults, as: %s", len(a.faults), a.faults[0])
	}
	if a.answered.Load() == 0 {
		t.Error("nobody was answered")
	}
}

const ping = "function: {names: [fcgid.ping]}"

// An address that goes by a reload answers everybody whom the kernel has let in.
func TestAddressGoesUnderLoad(t *testing.T) {
	s := newSite(t, "unix", ping)
	extra := map[string]string{"unix": s.dir + "/extra", "tcp": freeAddress(t)}
	stays := s.pool("cgi", ping)
	more := fmt.Sprintf("- {name: more, listen: ['unix:%s', 'tcp:%s'], %s}\n", extra["unix"], extra["tcp"], ping)
	var a askers
	for network, address := range extra {
		defer a.ask(network, address)()
	}
	for range 60 {
		for _, pools := range []string{stays + more, stays} {
			s.configure(pools)
			s.reload(t)
			if r := s.status(t).Reload; !r.OK {
				t.Fatal(r.Error)
			}
			if before := a.answered.Load(); pools != stays {
				await(t, "answers", func() bool { return a.answered.Load() >= before+20 })
			}
		}
		await(t, "the pool to go", func() bool { return len(s.status(t).Pools) == 1 })
	}
	a.report(t)
}

// So does a daemon that is stopped.
func TestStopUnderLoad(t *testing.T) {
	dir, tcp := folder(t), freeAddress(t)
	pools := fmt.Sprintf("- {name: p, listen: ['unix:%s/s', 'tcp:%s'], %s}\n", dir, tcp, ping)
	var a askers
	for network, address := range map[string]string{"unix": dir + "/s", "tcp": tcp} {
		defer a.ask(network, address)()
	}
	for range 60 {
		d := serve(t, dir, pools)
		before := a.answered.Load()
		await(t, "answers", func() bool { return a.answered.Load() >= before+20 })
		d.signal(syscall.SIGTERM)
		if code := d.exitCode(); code != 0 {
			t.Errorf("exit status %d", code)
		}
		if c, err := net.Dial("unix", dir+"/s"); err == nil {
			c.Close()
			t.Error("somebody still listens")
		}
	}
	a.report(t)
}

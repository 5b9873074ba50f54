package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/logtest"
	"github.com/fcgid/fcgid/internal/protocol"
)

// What can be seen of a request while it is open, and what is told of it then.
func TestRequestIsSeen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var waits []time.Duration
		s := serve(t, testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			req.Started(71, "/srv/hello")
			time.Sleep(3 * time.Second)
			return hello(ctx, req)
		}))
		s.opt.Hooks.Queued = func(_ uint32, wait time.Duration) { waits = append(waits, wait) }
		p := s.dial()
		p.send(begin(9, true))
		time.Sleep(time.Second)
		if open := s.Requests(); len(open) != 1 || open[0].Stage != "params" || open[0].Params != nil || open[0].Age != time.Second {
			t.Errorf("open: %+v", open)
		}
		p.send(params(9, "A", "b"))
		time.Sleep(time.Second)
		p.send(part(9, ""))
		p.wantSilence()
		open := s.Requests()
		if len(open) != 1 || open[0].Stage != "running" || open[0].PID != 71 || open[0].Params.Get("A") != "b" || open[0].Serial != 1 {
			t.Errorf("open: %+v", open)
		}
		p.wantAnswer(9, helloAnswer, 0)
		r := s.want(OK, 200, complete(0))
		if r.Queue != 2*time.Second || r.Run != 3*time.Second || r.PID != 71 || len(waits) != 1 || waits[0] != 0 {
			t.Errorf("result is %+v, waited %v", r, waits)
		}
		synctest.Wait()
		if len(s.Requests()) != 0 {
			t.Error("still open")
		}
		if got := s.Snapshot(); got.Connections != 1 || got.ConnectionsTotal != 1 || got.Received == 0 || got.Sent == 0 {
			t.Errorf("snapshot is %+v", got)
		}
	})
}

// Warn is for what a program or an overload did, Info for what is not there or not
// allowed, and for a program that failed behind its answer or was ended since its client
// left, Debug for what a client did besides, and what went well is not logged.
func TestLog(t *testing.T) {
	bubble(t, func(t *testing.T) {
		log, logs := logtest.New()
		s := serve(t, testSettings(hello))
		s.opt.Log = log
		p := s.dial()
		p.send(get(1, true))
		p.wantAnswer(1, helloAnswer, 0)
		p.send(begin(1, true), abort(1))
		p.answer(1)
		synctest.Wait()
		s.Update(testSettings(writes(3)))
		p.send(get(1, true, "SCRIPT_FILENAME", "/srv/x", "REMOTE_ADDR", "192.0.2.7"))
		p.answer(1)
		synctest.Wait()
		s.Update(testSettings(writes(139, helloAnswer)))
		p.send(get(1, true))
		p.answer(1)
		s.Update(testSettings(untilDone))
		p.send(get(1, true))
		time.Sleep(time.Second)
		p.send(abort(1))
		p.answer(1)
		synctest.Wait()
		s.Update(testSettings(func(context.Context, *protocol.Request) (uint32, error) {
			return 0, &protocol.Refusal{HTTPStatus: 404, AppStatus: 404, Reason: errors.New("no such script")}
		}))
		p.send(get(1, true))
		p.answer(1)
		synctest.Wait()
		p.nc.Write([]byte("nonsense"))
		p.wantClosed()
		synctest.Wait()
		var got []string
		for _, e := range logs.All() {
			got = append(got, fmt.Sprintf("%v %s %v", e.Level, e.Message, e.Fields["outcome"]))
		}
		want := []string{"DEBUG request not served as asked aborted", "WARN request not served as asked error",
			"INFO request was answered, and its program failed ok", "INFO request not served as asked aborted",
			"INFO request not served as asked rejected", "DEBUG connection broken off <nil>"}
		if !slices.Equal(got, want) {
			t.Fatalf("logged: %q, want %q", got, want)
		}
		fields := logs.All()[1].Fields
		if fields["script"] != "/srv/x" || fields["status"] != int64(502) || fmt.Sprint(fields["error"]) != "response has no header (exit status 3)" {
			t.Errorf("fields are %v", fields)
		}
		if fields["client"] != "192.0.2.7" || fields["remote"] != "pipe" || logs.All()[2].Fields["client"] != "pipe" {
			t.Errorf("the client is %v, the peer %v; without REMOTE_ADDR the client is %v", fields["client"], fields["remote"], logs.All()[2].Fields["client"])
		}
		if got := logs.All()[2].Fields["error"]; got != "killed by SIGSEGV" {
			t.Errorf("reason is %v", got)
		}
		if got := logs.All()[3].Fields["on_client_abort"]; got != "kill" {
			t.Errorf("on_client_abort is %v", got)
		}
	})
}

// Many requests that end alike are told by a few, and by how many there were more;
// whoever wants every one has the log tell all.
func TestLogIsSampled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		log, logs := logtest.NewAt(slog.LevelInfo)
		s := serve(t, testSettings(writes(3)))
		s.opt.Log = log
		p := s.dial()
		flood := func(n int) {
			for range n {
				p.send(get(1, true))
				p.answer(1)
				synctest.Wait() // it is logged after its answer
			}
		}
		flood(sampleSize + 30)
		if n := logs.Len(); n != sampleSize {
			t.Errorf("%d records of as many requests", n)
		}
		p.send(begin(1, true), abort(1)) // another kind, which is told at debug alone
		p.answer(1)
		synctest.Wait()
		if n := logs.Len(); n != sampleSize {
			t.Errorf("%d records, an aborted request included", n)
		}
		time.Sleep(samplePeriod)
		flood(sampleSize + 7)
		if first := logs.All()[sampleSize].Fields; first["left_out_before"] != int64(30) {
			t.Errorf("after a while: %v", first)
		}
		s.stop()
		s.wantServed(0)
		last := logs.All()[logs.Len()-1]
		if last.Message != "more requests not served as asked, which were not logged" || last.Fields["requests"] != int64(7) {
			t.Errorf("at the end: %v", last)
		}
	})
}

// A handler that gives up with a 408 of its own has timed out, as one that was ended.
func TestOwn408IsATimeout(t *testing.T) {
	for status, want := range map[int]Outcome{408: TimedOut, 404: Rejected, 503: Overloaded, 500: Failed} {
		bubble(t, func(t *testing.T) {
			var got Outcome
			s := serve(t, testSettings(func(context.Context, *protocol.Request) (uint32, error) {
				return 0, &protocol.Refusal{HTTPStatus: status, AppStatus: uint32(status), Reason: errors.New("no time left")}
			}))
			s.opt.Hooks.Done = func(r *Result) { got = r.Outcome }
			p := s.dial()
			p.send(get(1, true))
			p.answer(1)
			synctest.Wait()
			if got != want {
				t.Errorf("%d is %q, want %q", status, got, want)
			}
		})
	}
}

// A Runner that goes on without its client may take back what it has counted, while
// the result is made of that.
func TestResultWhileCounted(t *testing.T) {
	r := spooling(t, Limits{})
	r.answer.init(r)
	r.answer.sent = 10
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.answer.unsend(10)
	}()
	r.last.params = new(protocol.Params)
	r.report(time.Now(), new(Result))
	<-done
}

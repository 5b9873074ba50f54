package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// fromPipe answers with body through a pipe, which is closed when the answer was
// delivered or could not be.
func fromPipe(body []byte) runnerFunc {
	return func(_ context.Context, req *protocol.Request) (uint32, error) {
		r, w, err := os.Pipe()
		if err != nil {
			return 1, err
		}
		written := make(chan struct{})
		go func() {
			defer close(written)
			defer w.Close()
			io.WriteString(w, "A: b\n\n")
			for rest := body; len(rest) > 0; {
				n := min(len(rest), 1+rand.IntN(200_000))
				if _, err := w.Write(rest[:n]); err != nil {
					return
				}
				rest = rest[n:]
			}
		}()
		_, err = req.Stdout.(io.ReaderFrom).ReadFrom(r)
		r.Close()
		<-written
		return 0, err
	}
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(rand.Uint32())}).Read(b)
	return b
}

// Answers that are spliced arrive whole, also where several share a connection.
func TestSplicedAnswers(t *testing.T) {
	body := randomBytes(4<<20 + 12345)
	for _, network := range []string{"unix", "tcp", "tcp blocking"} {
		t.Run(network, func(t *testing.T) {
			p := listen(t, network, testSettings(fromPipe(body))).connect()
			for id := uint16(1); id <= 4; id++ {
				p.send(get(id, true))
			}
			for id := uint16(1); id <= 4; id++ {
				if a := p.answer(id); a.stdout != "A: b\r\n\r\n"+string(body) {
					t.Errorf("answer %d has %d bytes that differ", id, len(a.stdout))
				}
			}
		})
	}
}

// A client that stops reading a spliced answer is gone after write_timeout; one
// that has closed, at once.
func TestSpliceToAClientThatIsGone(t *testing.T) {
	body := bytes.Repeat([]byte("x"), 32<<20)
	for _, closes := range []bool{false, true} {
		t.Run(fmt.Sprintf("closes=%v", closes), func(t *testing.T) {
			settings := testSettings(fromPipe(body))
			settings.Limits.WriteTimeout = 2 * time.Second
			s := listen(t, "unix", settings)
			nc := dialRaw(t, s)
			if _, err := nc.Write(get(1, true)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(nc, make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
			if closes {
				nc.Close()
			}
			if r := s.result(); r.Outcome != Aborted {
				t.Errorf("the request is %s", r.Outcome)
			}
		})
	}
}

// A program that may outlive its client is not stopped by a splice that fails.
func TestSpliceOfWhatGoesOn(t *testing.T) {
	body := bytes.Repeat([]byte("x"), 8<<20)
	ended := make(chan error, 1)
	run := fromPipe(body)
	settings := testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
		status, err := run(ctx, req)
		ended <- err
		return status, err
	})
	settings.OnAbort = AbortIgnore
	s := listen(t, "unix", settings)
	nc := dialRaw(t, s)
	fmt.Fprintf(nc, "%s", get(1, true))
	if _, err := io.ReadFull(nc, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	nc.Close()
	if err := <-ended; err != nil {
		t.Errorf("the program's output ends with %v", err)
	}
}

// Bulk that is no header does not get past its check, and the time that is left
// to read a pipe holds, also when somebody fills it without end.
func TestSpliceKeepsToTheRules(t *testing.T) {
	endless := func(first string) runnerFunc {
		return func(_ context.Context, req *protocol.Request) (uint32, error) {
			r, w, err := os.Pipe()
			if err != nil {
				return 1, err
			}
			written := make(chan struct{})
			go func() {
				defer close(written)
				line := []byte(first)
				for n := 0; ; n++ {
					if _, err := w.Write(line); err != nil {
						return
					}
					line = bytes.Repeat([]byte("X-Header: value\n"), 1<<14)
					if first != "" && n == 8 { // else the header is too large, however long that takes
						r.SetReadDeadline(time.Now())
					}
				}
			}()
			_, err = req.Stdout.(io.ReaderFrom).ReadFrom(r)
			r.Close()
			<-written
			w.Close()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = nil
			}
			return 7, err
		}
	}
	for first, want := range map[string]protocol.End{"": complete(500), "A: b\n\n": complete(7)} {
		t.Run(fmt.Sprintf("%q", first), func(t *testing.T) {
			p := listen(t, "unix", testSettings(endless(first))).connect()
			p.send(get(1, true))
			if a := p.answer(1); a.end != want {
				t.Errorf("answer ends with %+v, want %+v; it begins with %.80q", a.end, want, a.stdout)
			}
		})
	}
}

// A request that is cancelled leaves its place soon, though its client takes
// nothing of what is being written. Time is real: the wait is lingerTime.
func TestTimeoutOfARequestWhoseClientDoesNotRead(t *testing.T) {
	body := bytes.Repeat([]byte("x"), 32<<20)
	settings := testSettings(fromPipe(body))
	settings.Timeout = 20 * time.Millisecond
	settings.Limits.WriteTimeout = time.Hour
	s := listen(t, "unix", settings)
	if _, err := dialRaw(t, s).Write(get(1, true)); err != nil {
		t.Fatal(err)
	}
	if r := s.result(); r.Outcome != TimedOut && r.Outcome != Aborted {
		t.Errorf("the request is %s", r.Outcome)
	}
}

// A pipe that somebody else has emptied, a program its own stdout say, ends the
// move: the socket would be waited for in vain.
func TestSpliceOfAPipeThatWasEmptied(t *testing.T) {
	_, accepted := connected(t, "unix")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := w.Write(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	pipe, err := r.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	socket, err := accepted.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	s := &splicer{pipe: pipe, socket: socket}
	if n, err := s.move(200); n != 100 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("moved %d, %v", n, err)
	}
}

// The end of a program's output may be held for its exit, but not until then if
// that does not come: who has waited in vain writes nothing more.
func TestEndOfOutputIsHeldForTheExit(t *testing.T) {
	release := make(chan struct{})
	settings := testSettings(func(_ context.Context, req *protocol.Request) (uint32, error) {
		r, w, err := os.Pipe()
		if err != nil {
			return 1, err
		}
		defer r.Close()
		io.WriteString(w, helloAnswer)
		w.Close()
		if _, err := req.Stdout.(io.ReaderFrom).ReadFrom(r); err != nil {
			return 1, err
		}
		if _, err := req.Stdout.Write(nil); err != nil {
			return 1, err
		}
		<-release
		return 0, nil
	})
	p := listen(t, "unix", settings).connect()
	p.send(get(1, true))
	if rec := p.next(); rec.Type != protocol.TypeStdout || string(rec.Content) != helloAnswer {
		t.Errorf("got %v", rec)
	}
	close(release)
	for rec := p.next(); rec.Type != protocol.TypeEndRequest; rec = p.next() {
		if len(rec.Content) > 0 {
			t.Errorf("got %v", rec)
		}
	}
}

package fcgi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/google/go-cmp/cmp"
)

func TestDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPeer(t)
		go func() {
			begin, params := p.head()
			if begin != (protocol.Begin{Role: protocol.RoleResponder}) {
				t.Errorf("begin: %+v", begin)
			}
			if got := params.Get("A") + params.Get("B"); got != "12" {
				t.Errorf("params: %q", got)
			}
			if got := p.stream(protocol.TypeStdin); got != "in" {
				t.Errorf("stdin: %q", got)
			}
			p.send(protocol.TypeStderr, 1, "a warning\n")
			p.send(protocol.TypeStdout, 1, "Status: 200\n\n")
			p.send(protocol.TypeStderr, 1, "")
			p.send(protocol.TypeStdout, 1, "out")
			p.send(protocol.TypeStdout, 1, "")
			p.end(7, protocol.StatusRequestComplete)
			p.gone()
		}()
		var stdout, stderr strings.Builder
		result, err := c.Do(t.Context(), &Request{Close: true,
			Params: Params{{"A", "1"}, {"B", "2"}},
			Stdin:  strings.NewReader("in"),
			Stdout: &stdout,
			Stderr: &stderr,
		})
		want := Result{AppStatus: 7, ProtocolStatus: StatusRequestComplete}
		if err != nil || result != want {
			t.Errorf("got %+v, %v", result, err)
		}
		if stdout.String() != "Status: 200\n\nout" || stderr.String() != "a warning\n" {
			t.Errorf("stdout %q, stderr %q", &stdout, &stderr)
		}
		if _, err := c.Do(t.Context(), &Request{Close: true}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second Do with Close: %v", err)
		}
		synctest.Wait()
	})
}

func TestDoProtocolStatus(t *testing.T) {
	for status, name := range map[ProtocolStatus]string{
		StatusCantMultiplex: "CANT_MPX_CONN",
		StatusOverloaded:    "OVERLOADED",
		StatusUnknownRole:   "UNKNOWN_ROLE",
		9:                   "status 9",
	} {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPeer(t)
			go func() {
				p.head()
				p.stream(protocol.TypeStdin)
				p.end(0, protocol.Status(status))
			}()
			result, err := c.Do(t.Context(), &Request{Close: true})
			if err != nil || result.ProtocolStatus != status || status.String() != name {
				t.Errorf("got %v, %v, want %s", result.ProtocolStatus, err, name)
			}
		})
	}
}

func TestDoKeepsConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPeer(t)
		go func() {
			for n := range uint32(3) {
				if begin, _ := p.head(); !begin.Keep {
					t.Error("no FCGI_KEEP_CONN")
				}
				p.stream(protocol.TypeStdin)
				p.end(n, protocol.StatusRequestComplete)
			}
		}()
		var wg sync.WaitGroup
		var mu sync.Mutex
		var sum uint32
		for range 3 {
			wg.Go(func() {
				result, err := c.Do(t.Context(), &Request{Stdin: strings.NewReader("x")})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				sum += result.AppStatus
				mu.Unlock()
			})
		}
		wg.Wait()
		if sum != 0+1+2 {
			t.Errorf("sum of appStatus %d", sum)
		}
	})
}

// A libfcgi program that does not read STDIN ends before its end.
func TestDoKeepsConnAnswerBeforeEndOfStdin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPeer(t)
		go func() {
			for range 2 {
				p.head()
				p.end(0, protocol.StatusRequestComplete)
				p.stream(protocol.TypeStdin)
			}
		}()
		for range 2 {
			if _, err := c.Do(t.Context(), &Request{Stdin: strings.NewReader("x")}); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestDoRoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPeer(t)
		go func() {
			if begin, _ := p.head(); begin.Role != protocol.RoleAuthorizer {
				t.Errorf("role %v", begin.Role)
			}
			p.want(protocol.TypeStdin, "")
			p.end(0, protocol.StatusRequestComplete)
			if begin, _ := p.head(); begin.Role != protocol.RoleFilter {
				t.Errorf("role %v", begin.Role)
			}
			got := p.stream(protocol.TypeStdin) + "|" + p.stream(protocol.TypeData)
			if got != "in|file" {
				t.Errorf("stdin|data: %q", got)
			}
			p.end(0, protocol.StatusRequestComplete)
		}()
		req := &Request{Role: RoleAuthorizer, Stdin: strings.NewReader("in")}
		if _, err := c.Do(t.Context(), req); err != nil {
			t.Error(err)
		}
		req.Role, req.Data = RoleFilter, strings.NewReader("file")
		if _, err := c.Do(t.Context(), req); err != nil {
			t.Error(err)
		}
	})
}

// The answer is complete while Stdin blocks: Do returns, Wait waits for the Read.
func TestDoStdinBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPeer(t)
		go func() {
			p.head()
			p.send(protocol.TypeStdout, 1, "early")
			p.end(0, protocol.StatusRequestComplete)
			p.gone()
		}()
		stdin, w := io.Pipe()
		var stdout strings.Builder
		start := time.Now()
		if _, err := c.Do(t.Context(), &Request{Stdin: stdin, Stdout: &stdout}); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); stdout.String() != "early" || took > time.Second {
			t.Errorf("stdout %q after %v", &stdout, took)
		}
		if _, err := c.Do(t.Context(), &Request{Close: true}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the connection is used again: %v", err)
		}
		waited := make(chan struct{})
		go func() {
			c.Wait()
			close(waited)
		}()
		synctest.Wait()
		select {
		case <-waited:
			t.Error("Wait returned while Stdin is read")
		default:
		}
		w.Close()
		<-waited
	})
}

// The answer is complete while the application takes no more of Stdin.
func TestDoUploadNotTaken(t *testing.T) {
	for _, keep := range []bool{false, true} {
		c, p := newSocketPeer(t)
		var wg sync.WaitGroup
		wg.Go(func() {
			p.head()
			p.end(0, protocol.StatusRequestComplete)
		})
		endless := iotest.OneByteReader(zeros{})
		if keep {
			endless = zeros{}
		}
		if _, err := c.Do(t.Context(), &Request{Stdin: endless, Close: !keep}); err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestDoDuplex(t *testing.T) {
	c, p := newSocketPeer(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		p.head()
		for {
			rec := p.next()
			p.send(protocol.TypeStdout, 1, string(rec.Content))
			if len(rec.Content) == 0 {
				break
			}
		}
		p.end(0, protocol.StatusRequestComplete)
	})
	in := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	var out bytes.Buffer
	if _, err := c.Do(t.Context(), &Request{Close: true, Stdin: bytes.NewReader(in), Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(in, out.Bytes()) {
		t.Errorf("%d bytes came back of %d", out.Len(), len(in))
	}
	wg.Wait()
}

func TestDoForeignRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPeer(t)
		go func() {
			p.head()
			p.stream(protocol.TypeStdin)
			p.send(protocol.TypeGetValuesResult, 0, "")
			p.send(99, 0, "management of another kind")
			p.send(protocol.TypeStdout, 1, "ours")
			p.end(0, protocol.StatusRequestComplete)
		}()
		var stdout strings.Builder
		result, err := c.Do(t.Context(), &Request{Close: true, Stdout: &stdout})
		if err != nil || result.AppStatus != 0 || stdout.String() != "ours" {
			t.Errorf("got %+v, %v, stdout %q", result, err, &stdout)
		}
	})
}

func TestDoLostPeer(t *testing.T) {
	t.Run("closed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPeer(t)
			go func() {
				p.head()
				p.send(protocol.TypeStdout, 1, "half")
				p.conn.Close()
			}()
			stdin, w := io.Pipe()
			defer w.Close()
			_, err := c.Do(t.Context(), &Request{Close: true, Stdin: stdin})
			if !errors.Is(err, ErrNoEnd) || err.Error() != "request pipe pipe: connection closed before END_REQUEST" {
				t.Errorf("got %v", err)
			}
		})
	})
	t.Run("inside a record", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPeer(t)
			go func() {
				p.head()
				p.stream(protocol.TypeStdin)
				p.write([]byte{1, 6, 0, 1})
				p.conn.Close()
			}()
			if _, err := c.Do(t.Context(), &Request{Close: true}); !errors.Is(err, ErrNoEnd) {
				t.Errorf("got %v", err)
			}
		})
	})
	t.Run("not FastCGI", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPeer(t)
			go func() {
				p.head()
				p.stream(protocol.TypeStdin)
				p.write([]byte("HTTP/1.1 400 Bad Request\r\n"))
			}()
			_, err := c.Do(t.Context(), &Request{Close: true})
			if err == nil || !strings.Contains(err.Error(), "version 72") || errors.Is(err, ErrNoEnd) {
				t.Errorf("got %v", err)
			}
		})
	})
	t.Run("Close", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPeer(t)
			go func() {
				p.head()
				c.Close()
			}()
			if _, err := c.Do(t.Context(), &Request{Close: true, Stdin: zeros{}}); err == nil {
				t.Error("no error")
			}
		})
	})
}

func TestValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPeer(t)
		go func() {
			rec := p.next()
			p.write(protocol.AppendGetValuesResult(nil, rec.Content, func(name string) (string, bool) {
				return "1", name != MaxReqs
			}))
			p.head()
			p.stream(protocol.TypeStdin)
			p.end(0, protocol.StatusRequestComplete)
			p.next()
			p.write(protocol.AppendUnknownType(nil, protocol.TypeGetValues))
			p.gone()
		}()
		got, err := c.Values(t.Context(), MaxConns, MaxReqs, MpxsConns)
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(map[string]string{MaxConns: "1", MpxsConns: "1"}, got); diff != "" {
			t.Error(diff)
		}
		if _, err := c.Do(t.Context(), &Request{}); err != nil {
			t.Error(err)
		}
		if _, err = c.Values(t.Context(), MaxConns); err == nil || !strings.Contains(err.Error(), "does not know") {
			t.Errorf("UNKNOWN_TYPE: %v", err)
		}
		if _, err = c.Values(t.Context(), MaxConns); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after an error: %v", err)
		}
		synctest.Wait()
	})
}

func TestValuesErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPeer(t)
		if _, err := c.Values(t.Context(), strings.Repeat("n", 9000)); err == nil {
			t.Error("a name of 9000 bytes was asked for")
		}
		c, p = newPeer(t)
		go func() {
			p.next()
			p.conn.Close()
		}()
		_, err := c.Values(t.Context(), MaxConns)
		if err == nil || !strings.Contains(err.Error(), "closed before GET_VALUES_RESULT") {
			t.Errorf("got %v", err)
		}
		c, p = newPeer(t)
		go func() {
			p.next()
			p.gone()
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := c.Values(ctx, MaxConns); err != context.DeadlineExceeded {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
	})
}

func TestDial(t *testing.T) {
	if _, err := Dial(t.Context(), "udp:127.0.0.1:1"); err == nil {
		t.Error("udp was dialed")
	}
	if _, err := Dial(t.Context(), "unix:"+t.TempDir()+"/none"); err == nil {
		t.Error("a socket that is not there was dialed")
	}
	cause := errors.New("no time")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := Dial(ctx, "unix:/x"); err != cause {
		t.Errorf("got %v", err)
	}
}

func TestParams(t *testing.T) {
	p := Params{{"A", "1"}, {"B", "2"}, {"A", "3"}}
	before := p
	if got := p.Get("A"); got != "3" {
		t.Errorf("Get: %q", got)
	}
	p.Set("A", "4")
	p.Set("C", "5")
	p.Add("C", "6")
	want := Params{{"B", "2"}, {"A", "4"}, {"C", "5"}, {"C", "6"}}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(Params{{"A", "1"}, {"B", "2"}, {"A", "3"}}, before); diff != "" {
		t.Errorf("a copy: %s", diff)
	}
}

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
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// newSharedPeer is newPeer with an application that has said that it multiplexes.
func newSharedPeer(t *testing.T) (*Conn, *peer) {
	t.Helper()
	c, p := newPeer(t)
	var wg sync.WaitGroup
	wg.Go(func() { p.values("1") })
	if _, err := c.Values(t.Context(), MpxsConns); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	return c, p
}

// values answers GET_VALUES with one value for each name.
func (p *peer) values(value string) {
	p.t.Helper()
	rec := p.next()
	if rec.Type != protocol.TypeGetValues {
		p.t.Errorf("peer: got %v, want GET_VALUES", rec.Type)
	}
	p.write(protocol.AppendGetValuesResult(nil, rec.Content, func(string) (string, bool) { return value, true }))
}

// request reads one whole request, and returns its id.
func (p *peer) request() uint16 {
	p.t.Helper()
	rec := p.next()
	for id := rec.ID; ; rec = p.next() {
		if rec.ID != id {
			p.t.Errorf("peer: got %v of %d inside %d", rec.Type, rec.ID, id)
		}
		if rec.Type == protocol.TypeStdin && len(rec.Content) == 0 || rec.Type == 0 {
			return id
		}
	}
}

func (p *peer) wantRequest(id uint16) {
	p.t.Helper()
	if got := p.request(); got != id {
		p.t.Errorf("peer: got request %d, want %d", got, id)
	}
}

func (p *peer) endOf(id uint16) {
	p.t.Helper()
	p.write(protocol.AppendEnd(nil, id, protocol.End{AppStatus: uint32(id)}))
}

// known is what c knows of its application.
func known(c *Conn) multiplexing {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mpx
}

// A call is a Do in a goroutine of its own.
type call struct {
	stdout, stderr strings.Builder
	result         Result
	err            error
	done           chan struct{}
}

func start(ctx context.Context, c *Conn, req *Request) *call {
	x := &call{done: make(chan struct{})}
	if req.Stdout == nil {
		req.Stdout = &x.stdout
	}
	if req.Stderr == nil {
		req.Stderr = &x.stderr
	}
	go func() {
		defer close(x.done)
		x.result, x.err = c.Do(ctx, req)
	}()
	return x
}

// want waits for the end, and compares what has come.
func (x *call) want(t *testing.T, stdout string, appStatus uint32) {
	t.Helper()
	<-x.done
	if x.err != nil || x.stdout.String() != stdout || x.result.AppStatus != appStatus {
		t.Errorf("got %+v, %v, stdout %.60q, want appStatus %d, stdout %.60q", x.result, x.err, &x.stdout, appStatus, stdout)
	}
}

func (x *call) wantError(t *testing.T, want error) {
	t.Helper()
	<-x.done
	if !errors.Is(x.err, want) {
		t.Errorf("got %v, want %v", x.err, want)
	}
}

func (x *call) isDone() bool {
	select {
	case <-x.done:
		return true
	default:
		return false
	}
}

func TestShareInterleaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newSharedPeer(t)
		one := start(t.Context(), c, &Request{})
		p.wantRequest(1)
		two := start(t.Context(), c, &Request{})
		p.wantRequest(2)
		p.send(protocol.TypeStdout, 2, "two, ")
		p.send(protocol.TypeStdout, 1, "one, ")
		p.send(protocol.TypeStderr, 2, "oh")
		p.send(protocol.TypeGetValuesResult, 0, "")
		p.send(protocol.TypeStdout, 2, "")
		p.send(protocol.TypeStdout, 1, "one")
		p.endOf(1)
		p.send(protocol.TypeStdout, 2, "two")
		p.endOf(2)
		one.want(t, "one, one", 1)
		two.want(t, "two, two", 2)
		if one.stderr.String()+"|"+two.stderr.String() != "|oh" {
			t.Errorf("stderr %q and %q", &one.stderr, &two.stderr)
		}
	})
}

// The smallest free id is taken, and an id is free after its END_REQUEST.
func TestShareIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newSharedPeer(t)
		var calls [5]*call
		for i := range 3 {
			calls[i] = start(t.Context(), c, &Request{})
			p.wantRequest(uint16(i) + 1)
		}
		p.endOf(2)
		calls[1].want(t, "", 2)
		calls[3] = start(t.Context(), c, &Request{})
		p.wantRequest(2)
		calls[4] = start(t.Context(), c, &Request{})
		p.wantRequest(4)
		for id, i := range map[uint16]int{1: 0, 2: 3, 3: 2, 4: 4} {
			p.endOf(id)
			calls[i].want(t, "", uint32(id))
		}
	})
}

// A blockedWriter is a Stdout that takes nothing until it is opened.
type blockedWriter struct {
	bytes.Buffer
	open chan struct{}
}

func (w *blockedWriter) Write(p []byte) (int, error) {
	<-w.open
	return w.Buffer.Write(p)
}

func TestShareSlowStdout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newSharedPeer(t)
		slow := &blockedWriter{open: make(chan struct{})}
		one := start(t.Context(), c, &Request{Stdout: slow})
		p.wantRequest(1)
		two := start(t.Context(), c, &Request{})
		p.wantRequest(2)
		record := strings.Repeat("x", inboxSize/8)
		p.send(protocol.TypeStdout, 1, record)
		synctest.Wait() // Do is in Write
		for range 8 {
			p.send(protocol.TypeStdout, 1, record)
		}
		p.send(protocol.TypeStdout, 2, "quick")
		p.endOf(2)
		two.want(t, "quick", 2)

		three := start(t.Context(), c, &Request{})
		p.wantRequest(2)
		p.send(protocol.TypeStdout, 1, "one over")
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			p.endOf(2)
			p.endOf(1)
		}()
		synctest.Wait()
		if three.isDone() {
			t.Error("more waits in memory than the doc says")
		}
		close(slow.open)
		three.want(t, "", 2)
		<-one.done
		<-sent
		if want := strings.Repeat(record, 9) + "one over"; slow.String() != want {
			t.Errorf("got %d bytes, want %d", slow.Len(), len(want))
		}
	})
}

// A request whose context has ended takes no room: its neighbour goes on though
// its Stdout is stuck.
func TestShareAbortSlowStdout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newSharedPeer(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		slow := &blockedWriter{open: make(chan struct{})}
		one := start(ctx, c, &Request{Stdout: slow})
		p.wantRequest(1)
		two := start(t.Context(), c, &Request{})
		p.wantRequest(2)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for range 40 {
				p.send(protocol.TypeStdout, 1, strings.Repeat("x", inboxSize/8))
			}
			p.endOf(2)
		}()
		synctest.Wait()
		if two.isDone() {
			t.Error("the inbox has no bound")
		}
		go cancel(errEnough)
		p.want(protocol.TypeAbortRequest, "")
		two.want(t, "", 2)
		<-sent
		p.endOf(1)
		close(slow.open)
		one.wantError(t, errEnough)
	})
}

// The neighbours of an aborted request live, and its id is not used again.
func TestShareAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newSharedPeer(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		stdin, w := io.Pipe()
		one := start(ctx, c, &Request{Stdin: stdin})
		p.head()
		two := start(t.Context(), c, &Request{})
		p.wantRequest(2)
		synctest.Wait() // a Read of Stdin blocks
		begin := time.Now()
		cancel(errEnough)
		p.want(protocol.TypeAbortRequest, "")
		p.send(protocol.TypeStdout, 1, "too late")
		one.wantError(t, errEnough)
		if took := time.Since(begin); took != abortGrace+stdinGrace || one.stdout.Len() > 0 {
			t.Errorf("took %v, stdout %q", took, &one.stdout)
		}
		w.Close()
		c.Wait() // the sender has seen it

		three := start(t.Context(), c, &Request{})
		p.wantRequest(3)
		p.send(protocol.TypeStdout, 1, "too late")
		p.endOf(1)
		p.endOf(2)
		two.want(t, "", 2)
		four := start(t.Context(), c, &Request{})
		p.wantRequest(1)
		p.endOf(1)
		p.endOf(3)
		three.want(t, "", 3)
		four.want(t, "", 1)
	})
}

// An answer that is complete before Stdin has ended does not cost the
// neighbours their connection. The id is free when nothing more can be sent.
func TestShareStdinBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newSharedPeer(t)
		stdin, w := io.Pipe()
		one := start(t.Context(), c, &Request{Stdin: stdin})
		p.head()
		two := start(t.Context(), c, &Request{})
		p.wantRequest(2)
		p.endOf(1)
		one.want(t, "", 1)
		three := start(t.Context(), c, &Request{})
		p.wantRequest(3)
		w.Close()
		c.Wait()
		four := start(t.Context(), c, &Request{})
		p.wantRequest(1)
		for id, x := range map[uint16]*call{1: four, 2: two, 3: three} {
			p.endOf(id)
			x.want(t, "", uint32(id))
		}
	})
}

// A request with Close waits for the others, and the others for it.
func TestShareNotWithClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newSharedPeer(t)
		one := start(t.Context(), c, &Request{})
		p.wantRequest(1)
		two := start(t.Context(), c, &Request{})
		p.wantRequest(2)
		sole := start(t.Context(), c, &Request{Close: true})
		synctest.Wait()
		after := start(t.Context(), c, &Request{})
		p.endOf(1)
		one.want(t, "", 1)
		synctest.Wait()
		if sole.isDone() || after.isDone() {
			t.Error("did not wait")
		}
		p.endOf(2)
		two.want(t, "", 2)
		p.wantRequest(1)
		synctest.Wait()
		p.endOf(1)
		sole.want(t, "", 1)
		p.gone()
		after.wantError(t, net.ErrClosed)
	})
}

// One that gives up waiting lets those pass that it has held up.
func TestShareWaiterGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newSharedPeer(t)
		one := start(t.Context(), c, &Request{})
		p.wantRequest(1)
		ctx, cancel := context.WithCancelCause(t.Context())
		sole := start(ctx, c, &Request{Close: true})
		synctest.Wait()
		two := start(t.Context(), c, &Request{})
		synctest.Wait()
		cancel(errEnough)
		sole.wantError(t, errEnough)
		p.wantRequest(2)
		p.endOf(2)
		two.want(t, "", 2)
		p.endOf(1)
		one.want(t, "", 1)
	})
}

func TestShareRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newSharedPeer(t)
		one := start(t.Context(), c, &Request{})
		p.wantRequest(1)
		two := start(t.Context(), c, &Request{})
		p.wantRequest(2)
		p.write(protocol.AppendEnd(nil, 2, protocol.End{Status: protocol.StatusCantMpxConn}))
		if <-two.done; two.err != nil || two.result.ProtocolStatus != StatusCantMultiplex {
			t.Errorf("got %+v, %v", two.result, two.err)
		}
		three := start(t.Context(), c, &Request{})
		synctest.Wait()
		p.endOf(1)
		one.want(t, "", 1)
		p.wantRequest(1)
		p.endOf(1)
		three.want(t, "", 1)

		asked := make(chan struct{})
		go func() {
			defer close(asked)
			p.values("1")
		}()
		if _, err := c.Values(t.Context(), MpxsConns); err != nil {
			t.Error(err)
		}
		<-asked
		if known(c) != mpxRefused {
			t.Error("believes an application that has refused")
		}
	})
}

func TestShareLostPeer(t *testing.T) {
	for name, test := range map[string]struct {
		last  []byte
		noEnd bool
		text  string
	}{
		"closed":          {nil, true, "request pipe pipe: connection closed before END_REQUEST"},
		"inside a record": {[]byte{1, 6, 0, 1}, true, "unexpected EOF"},
		"not FastCGI":     {[]byte("HTTP/1.1 400"), false, "version 72"},
		"wrong end":       {protocol.AppendRecord(nil, protocol.TypeEndRequest, 1, []byte("short")), false, "END_REQUEST: content is not 8 bytes long"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newSharedPeer(t)
				one := start(t.Context(), c, &Request{})
				p.wantRequest(1)
				two := start(t.Context(), c, &Request{})
				p.wantRequest(2)
				p.send(protocol.TypeStdout, 2, "half")
				if test.last != nil {
					p.write(test.last)
				}
				p.conn.Close()
				for _, x := range []*call{one, two} {
					<-x.done
					if errors.Is(x.err, ErrNoEnd) != test.noEnd || x.err == nil || !strings.Contains(x.err.Error(), test.text) {
						t.Errorf("got %v", x.err)
					}
				}
				if two.stdout.String() != "half" {
					t.Errorf("stdout %q", &two.stdout)
				}
				if _, err := c.Do(t.Context(), &Request{Close: true}); !errors.Is(err, net.ErrClosed) {
					t.Errorf("another Do: %v", err)
				}
			})
		})
	}
}

// A process that dies with bytes unread resets the connection.
func TestShareResetPeer(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			c, p := listenAndDial(t, network)
			c.mpx = mpxYes
			one := start(t.Context(), c, &Request{})
			p.wantRequest(1)
			two := start(t.Context(), c, &Request{Stdin: zeros{}})
			p.head()
			p.conn.Close()
			for _, x := range []*call{one, two} {
				x.wantError(t, ErrNoEnd)
				if addr := c.conn.RemoteAddr(); !strings.HasPrefix(x.err.Error(), "request "+network+" "+addr.String()+": ") {
					t.Errorf("got %v", x.err)
				}
			}
		})
	}
}

// Nobody can be asked at the other end of a conn: without a call of Values, and
// after one that was told no, requests take turns.
func TestNewClientTakesTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPeer(t)
		for range 2 {
			one := start(t.Context(), c, &Request{})
			p.wantRequest(1)
			two := start(t.Context(), c, &Request{})
			synctest.Wait()
			p.endOf(1)
			one.want(t, "", 1)
			p.wantRequest(1)
			p.endOf(1)
			two.want(t, "", 1)

			asked := make(chan struct{})
			go func() {
				defer close(asked)
				p.values("0")
			}()
			if _, err := c.Values(t.Context(), MaxReqs, MpxsConns); err != nil {
				t.Error(err)
			}
			<-asked
		}
	})
}

// Values waits until no request is on the connection, and then asks.
func TestShareValuesWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newSharedPeer(t)
		one := start(t.Context(), c, &Request{})
		p.wantRequest(1)
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errEnough)
		defer cancel()
		if _, err := c.Values(ctx, MaxReqs); err != errEnough {
			t.Errorf("got %v", err)
		}
		asked := make(chan error)
		go func() {
			_, err := c.Values(t.Context(), MaxReqs)
			asked <- err
		}()
		synctest.Wait()
		p.endOf(1)
		one.want(t, "", 1)
		p.values("7")
		if err := <-asked; err != nil {
			t.Error(err)
		}
		if got := known(c); got != mpxYes {
			t.Errorf("mpx %d after a question for something else", got)
		}
	})
}

// Close ends what runs, what waits and the question, and leaves nothing behind.
func TestShareClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newSharedPeer(t)
		one := start(t.Context(), c, &Request{})
		p.wantRequest(1)
		slow := &blockedWriter{open: make(chan struct{})}
		two := start(t.Context(), c, &Request{Stdout: slow})
		p.wantRequest(2)
		sole := start(t.Context(), c, &Request{Close: true})
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for range 20 { // more than has room
				if _, err := p.conn.Write(protocol.AppendRecord(nil, protocol.TypeStdout, 2, make([]byte, inboxSize/8))); err != nil {
					return
				}
			}
			t.Error("the inbox has no bound")
		}()
		synctest.Wait()
		first := c.Close()
		<-sent
		close(slow.open)
		for _, x := range []*call{one, two, sole} {
			if <-x.done; x.err == nil {
				t.Error("no error")
			}
		}
		if second := c.Close(); first != second {
			t.Errorf("Close: %v, then %v", first, second)
		}
		c.Wait()
		synctest.Wait()
	})
}

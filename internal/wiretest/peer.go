package wiretest

import (
	"bufio"
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// A Peer is a web server that does what a test says. It reads all the time, and checks
// every byte that the server sends.
type Peer struct {
	Conn    net.Conn
	tb      testing.TB
	records chan Record
	ended   error // why records is closed
	answers map[uint16]*Answer
}

// An Answer is what has come for a request.
type Answer struct {
	Stdout, Stderr string
	First          string // content of the first STDOUT record
	Pieces         int    // STDOUT records with something in them
	End            protocol.End

	stdoutEnded, stderrEnded, over bool
}

// NewPeer is a Peer at the other end of nc, which is closed with the test.
func NewPeer(tb testing.TB, nc net.Conn) *Peer {
	p := &Peer{Conn: nc, tb: tb, records: make(chan Record, 1<<14), answers: make(map[uint16]*Answer)}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		defer close(p.records)
		src := bufio.NewReader(nc)
		for {
			rec, err := ReadRecord(src)
			if err != nil {
				p.ended = err
				return
			}
			p.records <- rec
		}
	}()
	tb.Cleanup(func() {
		nc.Close()
		for range p.records { // or the reader could wait for us
		}
		<-gone
	})
	return p
}

// Send writes bytes; the server must take them.
func (p *Peer) Send(parts ...[]byte) {
	p.tb.Helper()
	for _, b := range parts {
		if _, err := p.Conn.Write(b); err != nil {
			p.tb.Fatalf("server does not take %d bytes: %v", len(b), err)
		}
	}
}

// Next is the next record.
func (p *Peer) Next() Record {
	p.tb.Helper()
	late := time.NewTimer(100 * time.Hour)
	defer late.Stop()
	select {
	case rec, ok := <-p.records:
		if !ok {
			p.tb.Fatalf("no more records: %v", p.ended)
		}
		return rec
	case <-late.C:
		p.tb.Fatal("nothing comes")
		panic("unreachable")
	}
}

// Answer reads until the request has ended.
func (p *Peer) Answer(id uint16) Answer {
	p.tb.Helper()
	for {
		if a := p.answers[id]; a != nil && a.over {
			delete(p.answers, id)
			return *a
		}
		p.take(p.Next())
	}
}

// take adds a record to its answer, if it may come there.
func (p *Peer) take(rec Record) {
	p.tb.Helper()
	a := p.answers[rec.ID]
	if a == nil {
		a = new(Answer)
		p.answers[rec.ID] = a
	}
	switch {
	case a.over:
		p.tb.Fatalf("%v comes after END_REQUEST", rec)
	case rec.Type == protocol.TypeStdout && !a.stdoutEnded:
		if a.Stdout == "" {
			a.First = rec.Content
		}
		a.Stdout += rec.Content
		a.Pieces += min(1, len(rec.Content))
		a.stdoutEnded = rec.Content == ""
	case rec.Type == protocol.TypeStderr && !a.stderrEnded:
		a.Stderr += rec.Content
		a.stderrEnded = rec.Content == ""
	case rec.Type == protocol.TypeEndRequest:
		if !a.stdoutEnded || a.stderrEnded != (a.Stderr != "") {
			p.tb.Fatalf("END_REQUEST %d with STDOUT ended: %v, STDERR %q ended: %v", rec.ID, a.stdoutEnded, a.Stderr, a.stderrEnded)
		}
		a.End, _ = protocol.ParseEnd([]byte(rec.Content))
		a.over = true
	default:
		p.tb.Fatalf("unexpected %v", rec)
	}
}

// WantAnswer checks a whole answer of a program.
func (p *Peer) WantAnswer(id uint16, stdout string, appStatus uint32) {
	p.tb.Helper()
	a := p.Answer(id)
	if a.Stdout != stdout || a.End != (protocol.End{AppStatus: appStatus}) {
		p.tb.Fatalf("answer %d is %.300q, %+v; want %.300q, appStatus %d", id, a.Stdout, a.End, stdout, appStatus)
	}
}

// WantClosed waits until the server has closed the connection; it must not send
// anything before. The error is how the connection has ended.
func (p *Peer) WantClosed() error {
	p.tb.Helper()
	if rec, ok := <-p.records; ok {
		p.tb.Fatalf("%v comes instead of the end of the connection", rec)
	}
	if errors.Is(p.ended, ErrWire) {
		p.tb.Fatal(p.ended)
	}
	return p.ended
}

// WantSilence checks, in a bubble, that nothing has come and nothing is on its way.
func (p *Peer) WantSilence() {
	p.tb.Helper()
	synctest.Wait()
	select {
	case rec, ok := <-p.records:
		if !ok {
			p.tb.Fatalf("connection is closed: %v", p.ended)
		}
		p.tb.Fatalf("%v comes too early", rec)
	default:
	}
}

// A PipeListener accepts what is dialled in this process, in fake time too.
type PipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// NewPipeListener is a PipeListener that nobody has dialled.
func NewPipeListener() *PipeListener {
	return &PipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Dial is the client's end of a connection that is being accepted.
func (l *PipeListener) Dial() net.Conn {
	near, far := net.Pipe()
	l.Take(far)
	return near
}

// Take has a connection accepted.
func (l *PipeListener) Take(nc net.Conn) { l.conns <- nc }

// Accept takes what Dial gives.
func (l *PipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (l *PipeListener) Close() error { l.once.Do(func() { close(l.closed) }); return nil }

// Addr is one.
func (l *PipeListener) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: "pipe"} }

// A BlockingListener returns connections whose O_NONBLOCK flag its owner has taken
// away without meaning to, as who asks a socket for its descriptor does.
type BlockingListener struct{ net.Listener }

// Accept is net.Listener's.
func (l BlockingListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	f, err := nc.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		return nil, err
	}
	f.Fd() // makes it block
	return nc, f.Close()
}

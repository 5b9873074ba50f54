package upgrade

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/spawn"
)

// ErrGone is that of a new daemon whose predecessor has ended, or has given it up, before it
// was its turn.
var ErrGone = errors.New("the daemon that was to be replaced has ended, or has given this one up")

// answerTime is how long an old daemon may take for an answer.
const answerTime = 2 * time.Second

// A Predecessor is the old daemon, as the new one sees it. Its methods may be called by
// many goroutines after Serving.
type Predecessor struct {
	Hello Hello

	ch    *channel
	conns *net.UnixConn
	begun chan struct{} // closed when it is this one's turn
	yours chan struct{} // closed when the old one has told that it takes nothing new
	gone  chan struct{} // closed when nothing more comes

	asking sync.Mutex // held while an answer is waited for, which answerTime bounds
	asked  uint64     // of the last question; guarded by asking
	answer chan message

	mu     sync.Mutex // guards the fields below
	serial uint64     // of begin
	last   []byte     // what it had counted when it told of it last
}

// Inherit takes over what another daemon has handed to this process. It returns nil if
// none has.
func Inherit() (*Predecessor, error) {
	fds, ok := spawn.Predecessor()
	if !ok {
		return nil, nil
	}
	if len(fds) != 2 {
		return nil, fmt.Errorf("take over: %d descriptors", len(fds))
	}
	conn, err := spawn.ConnOf(fds[0])
	if err != nil {
		return nil, fmt.Errorf("take over: %w", err)
	}
	conns, err := spawn.ConnOf(fds[1])
	if err != nil {
		return nil, fmt.Errorf("take over: %w", err)
	}
	p := &Predecessor{ch: newChannel(conn), conns: conns, begun: make(chan struct{}), yours: make(chan struct{}), gone: make(chan struct{}), answer: make(chan message, 1)}
	conn.SetReadDeadline(time.Now().Add(beginTime))
	m, err := p.ch.expect(kindHello)
	if err != nil || m.Hello == nil {
		return nil, fmt.Errorf("take over: %w", errors.Join(err, ErrGone))
	}
	conn.SetReadDeadline(time.Time{})
	p.Hello = *m.Hello
	sockets, err := p.sockets()
	if err == nil {
		err = listen.Inherit(p.Hello.Sockets, sockets)
	}
	if err != nil {
		p.Fail(err, nil)
		return nil, err
	}
	go p.follow()
	return p, nil
}

// sockets receives those that hello names.
func (p *Predecessor) sockets() (fds []int, err error) {
	p.conns.SetReadDeadline(time.Now().Add(beginTime))
	defer p.conns.SetReadDeadline(time.Time{})
	for want := range p.Hello.Sockets {
		place, fd, err := p.receive()
		if err == nil && (place != want || fd < 0) {
			err = fmt.Errorf("socket %d came without a descriptor, or as number %d", want, place)
		}
		if err != nil {
			return nil, fmt.Errorf("take over sockets: %w", err)
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

// receive is the next descriptor that was passed, -1 if none came, and what it belongs to. The
// error is that nothing more comes.
func (p *Predecessor) receive() (place, fd int, err error) {
	var message [4]byte
	rights := make([]byte, unix.CmsgSpace(4))
	n, m, _, _, err := p.conns.ReadMsgUnix(message[:], rights)
	if err != nil {
		return 0, -1, err
	}
	if n < len(message) {
		return 0, -1, io.EOF
	}
	return int(binary.NativeEndian.Uint32(message[:])), descriptorIn(rights[:m]), nil
}

// follow hears the old daemon until that has ended.
func (p *Predecessor) follow() {
	defer close(p.gone)
	for {
		m, err := p.ch.receive()
		if err != nil {
			return
		}
		switch m.Kind {
		case kindBegin:
			p.mu.Lock()
			p.serial = m.Serial
			p.mu.Unlock()
			close(p.begun)
		case kindYours:
			close(p.yours)
		case kindMetrics:
			p.keep(m.Body)
			p.deliver(m)
		case kindRequests, kindKill:
			p.deliver(m)
		case kindLast:
			p.keep(m.Body)
		}
	}
}

// deliver hands an answer over, in place of one that nobody has waited for long enough.
func (p *Predecessor) deliver(m message) {
	select {
	case <-p.answer:
	default:
	}
	p.answer <- m // it has room, and nobody else sends
}

// Serial is that of this daemon's first request, once Begun is closed: no request of the old one
// has it, or a higher one.
func (p *Predecessor) Serial() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.serial
}

// Begun is closed when the old daemon has it begin, after Prepared.
func (p *Predecessor) Begun() <-chan struct{} { return p.begun }

// Yours is closed when this daemon is the one, after Serving.
func (p *Predecessor) Yours() <-chan struct{} { return p.yours }

// Gone is closed when the old daemon has ended, or has given this one up.
func (p *Predecessor) Gone() <-chan struct{} { return p.gone }

// Fail tells the old daemon that this one does not start, and why: the faults of a
// configuration if there are any, or else the error.
func (p *Predecessor) Fail(err error, faults []string) { p.ch.send(failed(err, faults)) }

// Prepared tells the old daemon that this one has done all that can fail.
func (p *Predecessor) Prepared() error {
	return p.ch.send(message{Kind: kindPrepared, Taken: listen.Taken(), PID: os.Getpid()})
}

// Serving tells the old daemon that this one has begun.
func (p *Predecessor) Serving() error { return p.ch.send(message{Kind: kindServing}) }

// Connections calls take with each connection that the old daemon gives away, and with the
// place of its socket among Hello.Sockets. It returns when nothing more comes, and tells how
// many were lost: take has closed them and returned false, or there was no descriptor for them.
func (p *Predecessor) Connections(take func(place int, conn net.Conn) bool) (lost int) {
	defer p.conns.Close()
	for {
		place, fd, err := p.receive()
		if err != nil {
			return lost
		}
		if conn := connOf(fd); conn == nil || !take(place, conn) {
			lost++
		}
	}
}

// descriptorIn is the one that came with a message, -1 if none did.
func descriptorIn(rights []byte) int {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) != 1 {
		return -1
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1
	}
	return fds[0]
}

// connOf takes over the descriptor of a connection. It is nil for one that is none.
func connOf(fd int) net.Conn {
	if fd < 0 {
		return nil
	}
	file := os.NewFile(uintptr(fd), "connection")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil
	}
	return conn
}

// Hurry tells the old daemon that this one stops, so that it is to end soon too.
func (p *Predecessor) Hurry() { p.ch.send(message{Kind: kindHurry}) }

// Close has the old daemon be followed no longer.
func (p *Predecessor) Close() {
	p.ch.conn.Close()
	p.conns.Close()
}

// Metrics are what the old daemon has counted, and whether it is still there. If it does
// not answer they are what it has told last.
func (p *Predecessor) Metrics() (counted []byte, isThere bool) {
	_, isThere = p.ask(kindMetrics, nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last, isThere
}

// Requests are those that the old daemon still has; nil if it does not say.
func (p *Predecessor) Requests() []byte {
	requests, _ := p.ask(kindRequests, nil)
	return requests
}

// Kill has the old daemon end requests, and returns what has come of that; nil if it does not
// say.
func (p *Predecessor) Kill(asked []byte) []byte {
	done, _ := p.ask(kindKill, asked)
	return done
}

// ask waits for an answer, which is nil if none comes in time, and tells whether the old
// daemon is there.
func (p *Predecessor) ask(kind string, body []byte) (answer []byte, isThere bool) {
	p.asking.Lock()
	defer p.asking.Unlock()
	p.asked++
	isThere = p.ch.send(message{Kind: kind, Ask: p.asked, Body: body}) == nil
	late := time.After(answerTime)
	for {
		select {
		case m := <-p.answer:
			if m.Ask == p.asked { // not one that came too late
				return m.Body, isThere
			}
		case <-p.gone: // its last words have been heard
			return nil, false
		case <-late:
			return nil, isThere
		}
	}
}

func (p *Predecessor) keep(counted json.RawMessage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(counted) > 0 {
		p.last = counted
	}
}

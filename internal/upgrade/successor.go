package upgrade

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/spawn"
)

// A Faulty is the error of a new daemon that does not take the configuration.
type Faulty []string

// Error has a line for each fault.
func (f Faulty) Error() string { return strings.Join(f, "\n") }

// beginTime is how long a new daemon that is ready may take to begin: it has nothing to
// do for that.
const beginTime = 10 * time.Second

// giveTime is how long a connection may take to be given to the new daemon.
const giveTime = 5 * time.Second

// A Process is a new daemon's, which is a child of this process or of this one's spawner.
type Process interface {
	// Signal sends it a signal; once it serves, none that ends it.
	Signal(unix.Signal) error
	// Discard ends it, in order or at once, with all that it has started, and tells how it has
	// exited. It is for one that does not serve.
	Discard(atOnce bool) (how string)
	// Commit is called when it serves.
	Commit() error
}

// A Starter starts a new daemon's process with two descriptors, which stay the caller's.
type Starter func(files []int) (p Process, pid int, err error)

// A Successor is the new daemon, as the old one sees it. Its methods are called by one
// goroutine, but for Give.
type Successor struct {
	PID    int // of the process that was started
	Daemon int // after Prepared: of the daemon, which that may have started in turn

	process Process
	ch      *channel
	conns   *net.UnixConn // takes sockets, and then connections

	heard chan struct{} // closed when follow has ended
}

// Start starts the new daemon, and hands it copies of the sockets that hello names. The
// descriptors stay the caller's.
func Start(ctx context.Context, start Starter, hello Hello, fds []int) (*Successor, error) {
	ours, theirs, err := spawn.NewPair(unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	conns, theirConns, err := spawn.NewPair(unix.SOCK_SEQPACKET)
	if err != nil {
		ours.Close()
		unix.Close(theirs)
		return nil, err
	}
	s := &Successor{ch: newChannel(ours), conns: conns}
	s.process, s.PID, err = start([]int{theirs, theirConns})
	unix.Close(theirs)
	unix.Close(theirConns)
	if err != nil {
		s.close()
		return nil, err
	}
	if err := s.hand(ctx, &hello, fds); err != nil {
		return nil, s.discard(err)
	}
	return s, nil
}

// hand sends hello and the sockets. That the new daemon has gone is no error: Prepared has what
// it may have said before.
func (s *Successor) hand(ctx context.Context, hello *Hello, fds []int) error {
	stop := context.AfterFunc(ctx, func() { s.conns.SetWriteDeadline(time.Unix(0, 1)) })
	defer stop()
	err := s.ch.send(message{Kind: kindHello, Hello: hello})
	for place, fd := range fds {
		if err == nil {
			err = s.pass(place, fd)
		}
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case isGone(err):
		return nil
	}
	return err
}

// pass sends a descriptor of what belongs to a place.
func (s *Successor) pass(place, fd int) error {
	_, _, err := s.conns.WriteMsgUnix(binary.NativeEndian.AppendUint32(nil, uint32(place)), unix.UnixRights(fd), nil)
	return err
}

// Prepared waits until the new daemon has done all that can fail, and returns the places of
// the sockets that it uses. On error it has ended, and the old daemon goes on.
func (s *Successor) Prepared(ctx context.Context) (taken []int, err error) {
	stop := context.AfterFunc(ctx, func() { s.ch.conn.SetReadDeadline(time.Unix(0, 1)) })
	defer stop()
	m, err := s.ch.expect(kindPrepared)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, s.discard(err)
	}
	s.Daemon = cmp.Or(m.PID, s.PID)
	return m.Taken, nil
}

// Begin has the new daemon accept connections, and returns when it does. On error it has
// been killed, and the old daemon goes on; of what it had accepted by then nothing is known.
// Its first request has that serial.
func (s *Successor) Begin(serial uint64) error {
	s.ch.conn.SetReadDeadline(time.Now().Add(beginTime))
	if err := s.ch.send(message{Kind: kindBegin, Serial: serial}); err != nil {
		return s.kill(err)
	}
	if _, err := s.ch.expect(kindServing); err != nil {
		return s.kill(err)
	}
	s.ch.conn.SetReadDeadline(time.Time{})
	return nil
}

// Answers are what the new daemon may have of the old one: JSON that this package does not look at.
// They are called by one goroutine.
type Answers struct {
	Metrics  func() []byte             // what the old one has counted
	Requests func() []byte             // those that it still has
	Kill     func(asked []byte) []byte // ends some
	Hurry    func()                    // called when the new one stops
}

// Follow tells the new daemon that it is the one now, and answers it until End.
func (s *Successor) Follow(a Answers) {
	s.heard = make(chan struct{})
	s.ch.send(message{Kind: kindYours}) // it notices itself when it is not told
	go func() {
		defer close(s.heard)
		for {
			m, err := s.ch.receive()
			if err != nil {
				return
			}
			answer := message{Kind: m.Kind, Ask: m.Ask}
			switch m.Kind {
			case kindMetrics:
				answer.Body = a.Metrics()
			case kindRequests:
				answer.Body = a.Requests()
			case kindKill:
				answer.Body = a.Kill(m.Body)
			case kindHurry:
				a.Hurry()
				continue
			}
			s.ch.send(answer)
		}
	}()
}

// Gone is closed when the new daemon says nothing any more, after Follow: it has ended.
func (s *Successor) Gone() <-chan struct{} { return s.heard }

// Signal sends the new daemon a signal.
func (s *Successor) Signal(sig unix.Signal) error { return s.process.Signal(sig) }

// Give gives the new daemon a connection of the socket at a place. It reports whether that
// has one of its own now. Many goroutines may call it, until End.
func (s *Successor) Give(place int, conn net.Conn) bool {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	s.conns.SetWriteDeadline(time.Now().Add(giveTime))
	var sendErr error
	err = raw.Control(func(fd uintptr) {
		sendErr = s.pass(place, int(fd))
	})
	return err == nil && sendErr == nil
}

// End tells the new daemon what the old one has counted in all, and that it has ended.
func (s *Successor) End(metrics []byte) {
	s.conns.Close()
	s.ch.send(message{Kind: kindLast, Body: metrics})
	s.ch.conn.Close()
	<-s.heard
}

// Commit is to be called when the new daemon serves: from now on it is the one that whoever has
// started this one waits for.
func (s *Successor) Commit() error { return s.process.Commit() }

// kill is discard of one that was told to begin. It may take the sockets for its own: if it
// saw this end of the channel close it would think that it is all there is, and its stop
// would remove their files and shut down what both have.
func (s *Successor) kill(err error) error {
	defer s.close()
	return ended(err, s.process.Discard(true))
}

// discard ends the new daemon and returns why: err, or how it has ended if that is why
// it says no more.
func (s *Successor) discard(err error) error {
	s.close() // it ends by that, if it runs
	return ended(err, s.process.Discard(false))
}

func (s *Successor) close() {
	s.ch.conn.Close()
	s.conns.Close()
}

func ended(err error, how string) error {
	if isGone(err) {
		return fmt.Errorf("the new daemon has ended before it was ready: %s", how)
	}
	return err
}

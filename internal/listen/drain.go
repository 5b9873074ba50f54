package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// handshakeTime is how long a client that is just connecting by TCP has to answer
// our half of the handshake. On the loopback that is done at once, but on a busy machine
// the kernel may put it off to a thread (ksoftirqd), which has to wait for its turn.
const handshakeTime = 100 * time.Millisecond

// Drain takes no new connections, and has Accept return those that wait in the
// kernel; after the last one it returns net.ErrClosed. That holds after an error, too,
// which tells why connections may still be lost. Close is still to be called.
// To Close alone would reset them, though their clients have connected and may have
// sent requests. The file of a unix:/path goes at once.
//
// A socket that somebody else has as well, systemd or a Listener for whose sake this
// one was told to Disown it, is closed: what waits there is the other's.
func (l *Listener) Drain() error {
	if l.passed || l.disowned.Load() || l.isBorrowed() {
		return l.Close()
	}
	if l.left.Load() {
		return l.drainLeft()
	}
	l.draining.Lock()
	defer l.draining.Unlock()
	if !l.drainUntil.IsZero() {
		return nil
	}
	unlinkErr := l.removeFile()
	l.drainUntil = time.Now()
	defer l.unblock()
	var err error
	switch l.ln.Addr().(type) {
	case *net.TCPAddr:
		err = l.dropIncoming(false) // shutdown(2) would reset what waits
		l.drainUntil = l.drainUntil.Add(handshakeTime)
	default:
		err = withFD(l.ln, func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RD) })
	}
	return errors.Join(unlinkErr, err, l.ln.SetDeadline(passed)) // wakes who waits in Accept
}

// Nudge has an Accept that waits, or the next one, return os.ErrDeadlineExceeded once.
// That holds up nobody: what waits in the kernel is returned by the Accept after it.
func (l *Listener) Nudge() error {
	l.draining.Lock()
	defer l.draining.Unlock()
	if !l.drainUntil.IsZero() {
		return nil // Accept does not wait
	}
	err := l.ln.SetDeadline(passed)
	if errors.Is(err, net.ErrClosed) {
		return nil // nor does it then
	}
	return err
}

// passed is a deadline that wakes whoever waits in Accept, and brings it to acceptRest if
// the Listener drains.
var passed = time.Unix(0, 1)

// isDraining reports whether an error of Accept is Drain's. After one of Nudge, the next
// Accept waits again.
func (l *Listener) isDraining(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	l.draining.Lock()
	defer l.draining.Unlock()
	if l.drainUntil.IsZero() {
		_ = l.ln.SetDeadline(time.Time{})
		return false
	}
	return true
}

// acceptRest returns the next of the connections that wait, for a Listener that
// drains, and net.ErrClosed when there is none.
func (l *Listener) acceptRest() (net.Conn, error) {
	l.draining.Lock()
	defer l.draining.Unlock()
	if l.left.Load() {
		return l.acceptLeft()
	}
	if time.Now().Before(l.drainUntil) {
		defer l.ln.SetDeadline(passed)
		if err := l.ln.SetDeadline(l.drainUntil); err != nil {
			return nil, err
		}
		if c, err := l.ln.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
			return c, err
		}
	}
	if _, isTCP := l.ln.(*net.TCPListener); isTCP && !l.deaf {
		l.deaf = true
		_ = l.dropIncoming(true) // a kernel without filters: what comes until Close is lost
	}
	return l.acceptNow()
}

// acceptNow is Accept of a connection that waits already. Package net has none: when
// the deadline is over it does not look.
func (l *Listener) acceptNow() (net.Conn, error) {
	if u, ok := l.ln.(*unixSocket); ok {
		return u.acceptNow()
	}
	if l.accepted == nil {
		err := withFD(l.ln, func(listening int) error {
			for {
				fd, _, err := unix.Accept4(listening, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
				if err == nil {
					l.accepted = os.NewFile(uintptr(fd), "accepted")
				}
				if err != unix.EINTR {
					return err
				}
			}
		})
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil, net.ErrClosed
		case err != nil:
			return nil, err
		}
	}
	c, err := net.FileConn(l.accepted) // has a descriptor of its own
	if err != nil {
		return nil, fmt.Errorf("accept: %w", err)
	}
	_ = l.accepted.Close()
	l.accepted = nil
	return c, nil
}

// Programs of the kernel's packet filter, which sees a packet from its TCP header on,
// and returns how much of it is taken.
var (
	newConnections = []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 13}, // the flags
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: 0x02, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0}, // SYN
		{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1},
	}
	everything = []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
)

// DropIncoming is of Binder.
func (Local) DropIncoming(fd int, all bool) error {
	filter := newConnections
	if all {
		filter = everything
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program); err != nil {
		return fmt.Errorf("attach filter: %w", err)
	}
	return nil
}

// dropIncoming has the kernel drop packets for the listening socket itself.
func (l *Listener) dropIncoming(all bool) error {
	return withFD(l.ln, func(fd int) error { return l.by.DropIncoming(fd, all) })
}

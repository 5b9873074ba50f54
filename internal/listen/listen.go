// Package listen opens and looks after the sockets that the daemon listens on:
// Unix sockets with a file or an abstract name, TCP, and sockets passed by
// systemd. A Listener lets in only the clients that its Options allow, and takes
// changed Options while it listens. Linux only.
package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/address"
)

// Options say where to listen and who may connect.
//
// Allow on a Unix socket and AllowUIDs on a TCP socket are errors: a rule that
// nobody can enforce must not look as if it held.
type Options struct {
	// Address is unix:/path, unix:@abstract, tcp:host:port, tcp:[v6]:port or systemd:NAME.
	// tcp:0.0.0.0:port is IPv4 only, tcp:[::]:port and tcp::port take both families.
	Address string

	// Mode holds the permissions of a Unix socket's file, exactly, whatever the
	// umask; 0 lets in nobody but root. Only for unix:/path: a socket passed by
	// systemd has those of its unit.
	Mode fs.FileMode

	// Owner and Group are those of a Unix socket's file, a name or a number; ""
	// leaves them as they are. Only for unix:/path.
	Owner, Group string

	// Backlog is how many connections may wait in the kernel; 0 is the kernel's
	// largest, and at Open of a socket passed by systemd what its unit says.
	Backlog int

	// Allow lists the networks of clients that may connect by TCP; empty: all.
	Allow []netip.Prefix

	// AllowUIDs lists the users that may connect to a Unix socket, as SO_PEERCRED
	// tells them; empty: all that the file's permissions let in.
	AllowUIDs []uint32

	// Direct says that others accept the connections: see Socket. It is of Open alone.
	// Then Allow and AllowUIDs are nobody's business.
	Direct bool
}

// filePermissionsEqual reports whether o and p ask for the same mode, owner and group.
func (o *Options) filePermissionsEqual(p *Options) bool {
	return o.Mode == p.Mode && o.Owner == p.Owner && o.Group == p.Group
}

// A Listener is a net.Listener that returns allowed clients only. All its methods
// may be called at the same time.
type Listener struct {
	// OnRefused, if not nil, is called by Accept for each client that it closed
	// because Options do not allow it. It must be set before the first Accept.
	// The client is ip:port for TCP, "pid 71 uid 1000" for a Unix socket.
	OnRefused func(client string, reason error)

	// Immutable once Open has returned.
	ln     socketListener
	by     Binder          // of its file
	file   *File           // of a unix:/path, else nil
	passed bool            // by systemd, which has the socket too
	handed int             // its place among what was handed to this process, from 1; 0: it was not
	gate   <-chan struct{} // closed when clients may be taken; nil: they may
	woken  chan struct{}   // closed by Close and Drain; nil without a gate

	recovered bool // it comes from systemd's store

	wake     sync.Once  // closes woken
	applying sync.Mutex // serialises Apply
	options  atomic.Pointer[Options]
	unlink   sync.Once
	disowned atomic.Bool
	left     atomic.Bool // see Leave

	draining   sync.Mutex // guards the fields below, and is held while one of the waiting is accepted
	drainUntil time.Time  // when Drain gives up on handshakes; zero: Drain was not called
	deaf       bool       // nothing new can come any more
	rest       int        // of one that was left: how many are still to be accepted
	accepted   *os.File   // a connection for which there was no second descriptor
}

var _ net.Listener = (*Listener)(nil)

// socketListener is a *unixSocket, a *net.TCPListener or a *direct.
type socketListener interface {
	net.Listener
	syscall.Conn
	SetDeadline(t time.Time) error
}

// Open listens on o.Address. It has changed nothing when it returns an error,
// apart from a stale socket file that it may have removed. The caller closes the
// Listener.
//
// Those that are yielding are to be closed soon: a TCP address that they overlap can
// be listened on beside them.
func Open(ctx context.Context, o Options, yielding ...*Listener) (*Listener, error) {
	return OpenBy(ctx, Local{}, o, yielding...)
}

// OpenBy is Open by another Binder, which looks after the socket's file from then on. nil is
// Local.
func OpenBy(ctx context.Context, by Binder, o Options, yielding ...*Listener) (*Listener, error) {
	if by == nil {
		by = Local{}
	}
	// Marks all that systemd passed close-on-exec, even when no address names it.
	passedSockets()
	l, isNew, err := open(ctx, by, o, yielding)
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", o.Address, err)
	}
	if l.gate = theGate(); l.gate != nil {
		l.woken = make(chan struct{})
	}
	var old *Options
	if isNew {
		old = l.options.Load()
	}
	if err = l.setMode(&o); err == nil {
		err = l.change(old, o)
	}
	if err == nil && (l.handed > 0 && !l.passed || l.recovered) {
		err = setBacklog(l.ln, o.Backlog)
	}
	if err != nil {
		if l.handed > 0 {
			l.Disown()
		}
		_ = l.Close()
		if l.recovered && !errors.Is(err, ErrOtherMode) {
			return OpenBy(ctx, by, o, yielding...) // it may be another user's: then there is a new one
		}
		return nil, fmt.Errorf("listen %s: %w", o.Address, err)
	}
	return l, nil
}

// open opens the socket: one that there is, or a new one, which has its options but for what
// its clients and its queue are to be.
func open(ctx context.Context, by Binder, o Options, yielding []*Listener) (l *Listener, isNew bool, err error) {
	a, err := address.Parse(o.Address)
	if err != nil {
		return nil, false, err
	}
	if l := takeInherited(by, a, o.Address); l != nil {
		return l, false, nil
	}
	if a.Kind == address.Systemd {
		ln, err := passedListener(a.Name)
		return &Listener{ln: ln, by: by, passed: true, handed: takePassed(a.Name)}, false, err
	}
	fd, file, err := o.bind(ctx, by, a, yielding)
	if err != nil {
		return nil, false, err
	}
	l = &Listener{by: by, file: file}
	l.options.Store(&Options{Address: o.Address, Mode: o.Mode, Owner: o.Owner, Group: o.Group})
	if l.ln, err = listenerOf(fd); err != nil && file != nil {
		by.Remove(file)
	}
	return l, true, err
}

// bind makes a socket at a, which is o's Address, beside yielding ones that hold it.
func (o *Options) bind(ctx context.Context, by Binder, a address.Address, yielding []*Listener) (fd int, file *File, err error) {
	fd, file, err = by.Bind(ctx, o, false)
	switch {
	case !errors.Is(err, ErrInUse):
	case a.Kind == address.Unix:
		if name, ok := passedAt(a.Name); ok {
			err = fmt.Errorf("%w: systemd has passed this socket, listen on systemd:%s", ErrInUse, name)
		}
	case a.Kind == address.TCP:
		yielding = slices.DeleteFunc(slices.Clone(yielding), func(l *Listener) bool { return l.tcpAddr() == nil || !l.IsInTheWay(o.Address) })
		if yielding = append(yielding, inheritedInTheWay(o.Address)...); len(yielding) == 0 {
			break
		}
		err = besides(yielding, func() (err error) {
			fd, file, err = by.Bind(ctx, o, true)
			return err
		})
	}
	return fd, file, err
}

// Accept returns the next allowed client, an *nbio.Conn or a *net.TCPConn.
// Errors are those of the socket, as they are: net.ErrClosed after Close and Drain,
// and passing ones (EMFILE, ECONNABORTED, that of Nudge, …), after which Accept may be
// called again.
func (l *Listener) Accept() (net.Conn, error) {
	if l.gate != nil {
		select {
		case <-l.gate:
		case <-l.woken:
		}
	}
	for {
		c, err := l.ln.Accept()
		if err != nil && l.isDraining(err) {
			c, err = l.acceptRest()
		}
		if err != nil {
			return nil, err
		}
		client, refused := l.options.Load().admit(c)
		if refused == nil {
			return c, nil
		}
		_ = c.Close()
		if l.OnRefused != nil {
			l.OnRefused(client, refused)
		}
	}
}

// Apply changes mode, owner, group, backlog and the allowed clients to o's, whose
// Address must be that of the Listener or another name of the socket, while the socket goes on listening. Every
// client that Accept takes from the kernel after Apply has returned is judged by
// o; clients it returned before stay. After an error the old Options hold.
//
// The file is touched only if o asks for another mode, owner or group than the
// Options before; an Owner or Group that becomes "" stays as it was.
func (l *Listener) Apply(o Options) error {
	l.applying.Lock()
	defer l.applying.Unlock()
	old := l.options.Load()
	if o.Address != old.Address && !l.IsAt(o.Address) {
		return fmt.Errorf("apply to %s: options are for %s", old.Address, o.Address)
	}
	if err := l.change(old, o); err != nil {
		return fmt.Errorf("apply to %s: %w", o.Address, err)
	}
	return nil
}

// change brings the socket from old (nil: not known) to o.
func (l *Listener) change(old *Options, o Options) error {
	if err := l.checkFamily(&o); err != nil {
		return err
	}
	if l.file != nil && (old == nil || !old.filePermissionsEqual(&o)) {
		if err := l.by.Permit(&o, l.file); err != nil {
			return err
		}
	}
	if backlog := o.Backlog; (old == nil && backlog != 0) || (old != nil && backlog != old.Backlog) {
		if err := setBacklog(l.ln, backlog); err != nil {
			return err
		}
	}
	o.Allow, o.AllowUIDs = slices.Clone(o.Allow), slices.Clone(o.AllowUIDs)
	l.options.Store(&o)
	return nil
}

// checkFamily returns an error if o restricts clients in a way that this socket
// cannot tell them apart by.
func (l *Listener) checkFamily(o *Options) error {
	_, isUnix := l.Addr().(*net.UnixAddr)
	switch {
	case isUnix && len(o.Allow) > 0:
		return errors.New("allow is for tcp, this is a unix socket")
	case !isUnix && len(o.AllowUIDs) > 0:
		return errors.New("allow_uids is for unix sockets, this is tcp")
	}
	return nil
}

// Options returns the options in force. The caller must not change the slices.
func (l *Listener) Options() Options { return *l.options.Load() }

// Addr returns the address that the kernel has bound.
func (l *Listener) Addr() net.Addr { return l.ln.Addr() }

// Close ends the listening; an Accept that waits returns net.ErrClosed. The file of
// a unix:/path is removed if it is still the one that Open made; that of a socket
// passed by systemd never.
func (l *Listener) Close() error {
	l.unblock()
	// The file goes first: an open socket keeps its inode number from being used
	// again, so that a file of the same number is ours.
	unlinkErr := l.removeFile()
	err := errors.Join(unlinkErr, l.ln.Close())
	l.draining.Lock()
	defer l.draining.Unlock()
	if l.accepted != nil {
		_ = l.accepted.Close()
		l.accepted = nil
	}
	return err
}

// unblock lets an Accept go on that waits for Begin.
func (l *Listener) unblock() {
	if l.woken != nil {
		l.wake.Do(func() { close(l.woken) })
	}
}

// removeFile removes the socket's file, if there is one that is ours, once.
func (l *Listener) removeFile() (err error) {
	if l.file != nil && !l.isBorrowed() {
		l.unlink.Do(func() { err = l.by.Remove(l.file) })
	}
	return err
}

// setBacklog calls listen(2) again, which on a listening socket changes the length
// of its queue and nothing else. The kernel cuts n to its largest.
func setBacklog(ln socketListener, n int) error {
	if n == 0 {
		n = largestBacklog
	}
	return withFD(ln, func(fd int) error {
		if err := unix.Listen(fd, n); err != nil {
			return fmt.Errorf("set backlog %d: %w", n, err)
		}
		return nil
	})
}

// withFD calls f with the file descriptor of c, which is valid until f returns.
func withFD(c syscall.Conn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return control(raw, f)
}

func control(raw syscall.RawConn, f func(fd int) error) error {
	var err error
	if controlErr := raw.Control(func(fd uintptr) { err = f(int(fd)) }); controlErr != nil {
		return controlErr
	}
	return err
}

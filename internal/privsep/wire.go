package privsep

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/spawn"
)

// A Kind says what a message is about.
type Kind uint8

// The kinds of messages. Those up to lastQuestion are the daemon's.
const (
	KindReload Kind = iota + 1
	KindCommit
	KindAbort
	KindListen
	KindResolve
	KindStartCGI
	KindStartWorker
	KindStartTracer
	KindSignal
	KindUpgrade
	KindNotify

	KindAnswer  // to the question that has the same ID
	KindRefusal // the same, and its body says why

	KindExited // of the spawner, who is not asked: ID is 0

	lastQuestion = KindNotify
	lastKind     = KindExited
)

// A Message is what one of the two says.
type Message struct {
	Kind Kind
	ID   uint64 // of a question, chosen by who asks, and of its answer
	Body []byte
	FDs  []int // of a message that was received they are the receiver's
}

// Close closes the descriptors.
func (m *Message) Close() {
	for _, fd := range m.FDs {
		unix.Close(fd)
	}
	m.FDs = nil
}

// What a Conn carries. A message goes in parts that the kernel takes whatever the size of the
// socket's buffers, and for which it needs no large piece of memory.
const (
	maxBody    = 4 << 20  // of a message: what execve(2) takes at most, and room for more
	maxPart    = 32 << 10 // of it in one part
	maxPartFDs = 32
	headerSize = 10 // kind, whether more parts follow, ID
)

// ErrBroken is that of a session in which something came that cannot be.
var ErrBroken = errors.New("what came is no message")

// A Conn carries messages over a SOCK_SEQPACKET socket. Send may be called by all, Receive by
// one goroutine at a time.
type Conn struct {
	// MaxFDs is how many descriptors a message may bring: more of them end the session.
	MaxFDs int

	conn *net.UnixConn

	in  []byte // of Receive
	oob []byte

	mu  sync.Mutex // guards out, and is held while a message is sent: see Send
	out []byte
}

// NewPair is a Conn, and a descriptor of its other end for another process.
func NewPair() (ours *Conn, theirs int, err error) {
	conn, theirs, err := spawn.NewPair(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, -1, err
	}
	return newConn(conn), theirs, nil
}

func newConn(conn *net.UnixConn) *Conn {
	return &Conn{conn: conn, in: make([]byte, headerSize+maxPart), oob: make([]byte, unix.CmsgSpace(4*maxPartFDs))}
}

// Close ends the session. What waits in Send or Receive returns.
func (c *Conn) Close() error { return c.conn.Close() }

// Send sends a message, whose descriptors stay the caller's. It waits as long as the other one
// does not receive, and so does everybody else who sends.
func (c *Conn) Send(m *Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := 0; ; n++ {
		isMore, err := c.sendPartLocked(m, n)
		switch {
		case err != nil:
			return fmt.Errorf("send a message: %w", err)
		case !isMore:
			return nil
		}
	}
}

// sendPartLocked sends the n-th part, and reports whether there are more.
func (c *Conn) sendPartLocked(m *Message, n int) (isMore bool, err error) {
	if len(m.Body) > maxBody {
		return false, fmt.Errorf("it has %d bytes, and no more than %d may be in one", len(m.Body), maxBody)
	}
	body, fds := m.Body[min(n*maxPart, len(m.Body)):], m.FDs[min(n*maxPartFDs, len(m.FDs)):]
	isMore = len(body) > maxPart || len(fds) > maxPartFDs
	c.out = appendHeader(c.out[:0], m, isMore)
	c.out = append(c.out, body[:min(len(body), maxPart)]...)
	var rights []byte
	if fds = fds[:min(len(fds), maxPartFDs)]; len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	_, _, err = c.conn.WriteMsgUnix(c.out, rights, nil)
	return isMore, err
}

func appendHeader(b []byte, m *Message, isMore bool) []byte {
	more := byte(0)
	if isMore {
		more = 1
	}
	return appendUint(append(b, byte(m.Kind), more), m.ID)
}

// Receive returns the next message: io.EOF when the other one has closed its end or has ended,
// an ErrBroken for what is no message, after which nothing more can be received. The caller
// closes what it brings.
func (c *Conn) Receive() (*Message, error) {
	m := new(Message)
	for isFirst := true; ; isFirst = false {
		isMore, err := c.receivePart(m, isFirst)
		if err != nil {
			m.Close()
			return nil, err
		}
		if !isMore {
			return m, nil
		}
	}
}

func (c *Conn) receivePart(m *Message, isFirst bool) (isMore bool, err error) {
	n, oobn, flags, _, err := c.conn.ReadMsgUnix(c.in, c.oob)
	switch {
	case errors.Is(err, io.EOF) && isFirst:
		return false, io.EOF
	case errors.Is(err, io.EOF):
		return false, io.ErrUnexpectedEOF
	case err != nil:
		return false, fmt.Errorf("receive a message: %w", err)
	}
	fds, err := descriptorsOf(c.oob[:oobn])
	m.FDs = append(m.FDs, fds...)
	switch part := c.in[:n]; {
	case err != nil:
		return false, err
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		return false, fmt.Errorf("%w: it is larger than a part, or brings too many descriptors", ErrBroken)
	case len(m.FDs) > c.MaxFDs:
		return false, fmt.Errorf("%w: it brings %d descriptors, and %d are the most", ErrBroken, len(m.FDs), c.MaxFDs)
	default:
		return m.take(part, isFirst)
	}
}

// take adds a part.
func (m *Message) take(part []byte, isFirst bool) (isMore bool, err error) {
	if len(part) < headerSize || part[1] > 1 {
		return false, fmt.Errorf("%w: its header is none", ErrBroken)
	}
	d := decoder{b: part[2:headerSize]}
	kind, id, body := Kind(part[0]), d.uint(), part[headerSize:]
	isMore = part[1] == 1
	switch {
	case kind == 0 || kind > lastKind:
		return false, fmt.Errorf("%w: there is no kind %d", ErrBroken, kind)
	case !isFirst && (kind != m.Kind || id != m.ID):
		return false, fmt.Errorf("%w: another one begins within it", ErrBroken)
	case len(m.Body)+len(body) > maxBody:
		return false, fmt.Errorf("%w: it is larger than %d bytes", ErrBroken, maxBody)
	case isMore && len(body) < maxPart && len(m.FDs) == 0:
		return false, fmt.Errorf("%w: a part is not full, and is not the last", ErrBroken)
	}
	m.Kind, m.ID, m.Body = kind, id, append(m.Body, body...)
	return isMore, nil
}

// descriptorsOf are all that a control message brings. With an error some may be among them.
func descriptorsOf(oob []byte) (fds []int, err error) {
	controls, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrBroken, err)
	}
	for _, control := range controls {
		received, err := unix.ParseUnixRights(&control)
		if err != nil {
			return fds, fmt.Errorf("%w: it brings something else than descriptors", ErrBroken)
		}
		fds = append(fds, received...)
	}
	return fds, nil
}

package privsep

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/spawn"
)

// NewConn takes over a descriptor.
func NewConn(fd int) (*Conn, error) {
	conn, err := spawn.ConnOf(fd)
	if err != nil {
		return nil, err
	}
	if conn.LocalAddr().Network() != "unixpacket" {
		conn.Close()
		return nil, fmt.Errorf("descriptor %d is no SOCK_SEQPACKET socket", fd)
	}
	return newConn(conn), nil
}

// ErrGone is that of a question to a spawner that has ended.
var ErrGone = errors.New("the process that starts programs has ended")

// A Client is the daemon's end of a session.
type Client struct {
	// Event, if not nil, has each message that answers no question, in their order. It must
	// not block. It is to be set before Run.
	Event func(*Message)

	conn *Conn

	patience time.Duration // of who waits for the spawner to take a message
	turn     chan struct{} // has room for who sends
	parts    atomic.Int64  // that the spawner has taken
	telling  sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	last    uint64     // ID of a question
	waiting map[uint64]chan *Message
	told    []*Message // of Tell, and not sent yet: somebody is about to
	gone    bool
}

// patience is how long the spawner may take to take a message: it does nothing else before. It may
// be stopped.
const patience = 30 * time.Second

var errDeaf = &protocol.Refusal{HTTPStatus: 503, AppStatus: 503, Reason: errors.New("the process that starts programs takes no message: it may be stopped")}

// NewClient returns the end of a session over conn. Run is to be called.
func NewClient(conn *Conn) *Client {
	return &Client{conn: conn, patience: patience, turn: make(chan struct{}, 1), waiting: make(map[uint64]chan *Message)}
}

// Run receives until the spawner has gone, and returns why: io.EOF when it has ended. The session
// is over then.
func (c *Client) Run() error {
	defer c.end()
	for {
		m, err := c.conn.Receive()
		if err != nil {
			return err
		}
		switch {
		case m.Kind == KindAnswer || m.Kind == KindRefusal:
			if !c.answer(m) {
				m.Close() // who has asked has given up
			}
		case c.Event != nil:
			c.Event(m)
		default:
			m.Close()
		}
	}
}

// Ask sends a question, with descriptors that stay the caller's, and returns its answer, of
// which those are the caller's too. A *Refusal is one that says no. When ctx ends, Ask returns
// at once, and the answer is dropped when it comes. If the spawner does not take the question, an
// errDeaf is returned soon.
func (c *Client) Ask(ctx context.Context, kind Kind, body []byte, fds ...int) (*Message, error) {
	q, err := c.pose(ctx, kind, body, fds...)
	if err != nil {
		return nil, err
	}
	defer q.drop()
	return q.await(ctx)
}

// A question is one that was sent.
type question struct {
	client *Client
	id     uint64
	reply  chan *Message
}

// pose is Ask up to the answer: await is called next, until it has that, or drop.
func (c *Client) pose(ctx context.Context, kind Kind, body []byte, fds ...int) (*question, error) {
	id, reply, err := c.expect()
	if err != nil {
		return nil, err
	}
	if err := c.send(ctx, &Message{Kind: kind, ID: id, Body: body, FDs: fds}); err != nil {
		c.forget(id)
		return nil, err
	}
	return &question{c, id, reply}, nil
}

// await is Ask from there on. When ctx ends it may be called again.
func (q *question) await(ctx context.Context) (*Message, error) {
	select {
	case m, ok := <-q.reply:
		switch {
		case !ok:
			return nil, ErrGone
		case m.Kind == KindRefusal:
			m.Close()
			return nil, &Refusal{m.Body}
		}
		return m, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// drop has nobody wait for the answer any more, which may have come.
func (q *question) drop() {
	q.client.forget(q.id)
	select {
	case m, ok := <-q.reply:
		if ok {
			m.Close()
		}
	default:
	}
}

// Tell sends a message that nobody answers, after those that it was called with before. It does not
// wait for that: who calls it may have locked something. What the spawner does not take yet it gets
// when it does.
func (c *Client) Tell(kind Kind, body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return
	}
	c.told = append(c.told, &Message{Kind: kind, Body: body})
	if len(c.told) == 1 {
		c.telling.Go(c.tell)
	}
}

// tell sends what was told, the first of which stays where it is until then.
func (c *Client) tell() {
	for m := c.firstTold(); m != nil; {
		if err := c.send(context.Background(), m); !errors.Is(err, errDeaf) { // if nobody is there, all ends
			m = c.nextTold()
		}
	}
}

func (c *Client) firstTold() *Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.told[0]
}

// nextTold drops the first one.
func (c *Client) nextTold() *Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told = c.told[1:]; len(c.told) > 0 {
		return c.told[0]
	}
	return nil
}

// send waits while the spawner takes nothing: until ctx ends, or for patience, and then nothing was
// sent. Of a message that has begun the spawner waits for the rest: it has patience, too, or the session is over.
func (c *Client) send(ctx context.Context, m *Message) error {
	err := c.takeTurn(ctx)
	if err == nil {
		err = c.sendInTurn(ctx, m)
	}
	if err != nil {
		return fmt.Errorf("send a message: %w", err)
	}
	return nil
}

// takeTurn waits for those who send before, as long as the spawner takes anything.
func (c *Client) takeTurn(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		return nil
	default:
	}
	late := time.NewTicker(c.patience)
	defer late.Stop()
	for taken := c.parts.Load(); ; {
		select {
		case c.turn <- struct{}{}:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-late.C:
			now := c.parts.Load()
			if now == taken {
				return errDeaf
			}
			taken = now
		}
	}
}

// sendInTurn sends it, and gives the turn away.
func (c *Client) sendInTurn(ctx context.Context, m *Message) error {
	defer func() { <-c.turn }()
	c.conn.mu.Lock()
	defer c.conn.mu.Unlock()
	isMore, err := c.beginLocked(ctx, m)
	for n := 1; err == nil; n++ {
		if c.parts.Add(1); !isMore {
			return nil
		}
		isMore, err = c.goOnLocked(m, n)
	}
	return err
}

// beginLocked sends the first part, unless ctx ends before that is taken.
func (c *Client) beginLocked(ctx context.Context, m *Message) (isMore bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.patience, errDeaf)
	defer cancel()
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		c.conn.conn.SetWriteDeadline(time.Unix(1, 0))
	})
	isMore, err = c.conn.sendPartLocked(m, 0)
	if !stop() {
		<-ended
		c.conn.conn.SetWriteDeadline(time.Time{})
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = context.Cause(ctx)
	}
	return isMore, err
}

// goOnLocked sends another part. Without it the session is over.
func (c *Client) goOnLocked(m *Message, n int) (isMore bool, err error) {
	c.conn.conn.SetWriteDeadline(time.Now().Add(c.patience))
	defer c.conn.conn.SetWriteDeadline(time.Time{})
	if isMore, err = c.conn.sendPartLocked(m, n); err != nil {
		c.conn.Close()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errDeaf
	}
	return isMore, err
}

func (c *Client) expect() (id uint64, reply chan *Message, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return 0, nil, ErrGone
	}
	c.last++
	reply = make(chan *Message, 1)
	c.waiting[c.last] = reply
	return c.last, reply, nil
}

// answer hands an answer over to who waits for it. It reports false if nobody does.
func (c *Client) answer(m *Message) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	reply := c.waiting[m.ID]
	delete(c.waiting, m.ID)
	if reply == nil {
		return false
	}
	reply <- m // for which there is room
	return true
}

func (c *Client) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

func (c *Client) end() {
	c.conn.Close()
	defer c.telling.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	for id, reply := range c.waiting {
		delete(c.waiting, id)
		close(reply)
	}
}

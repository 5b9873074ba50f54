package privsep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/fcgid/fcgid/internal/spawn"
)

// A Refusal is the spawner's word on what it does not do.
type Refusal struct{ Body []byte }

// Error is what the answer says, if that is text.
func (r *Refusal) Error() string { return string(r.Body) }

// ErrGone is that of a question to a spawner that has ended.
var ErrGone = errors.New("the process that starts programs has ended")

// A Client is the daemon's end of a session.
type Client struct {
	// Event, if not nil, has each message that answers no question, in their order. It must
	// not block. It is to be set before Run.
	Event func(*Message)

	conn *Conn

	mu      sync.Mutex // guards the fields below
	last    uint64     // ID of a question
	waiting map[uint64]chan *Message
	gone    bool
}

// NewClient returns the end of a session over conn. Run is to be called.
func NewClient(conn *Conn) *Client {
	return &Client{conn: conn, waiting: make(map[uint64]chan *Message)}
}

// Run receives until the spawner has gone, and returns why: io.EOF when it has ended.
func (c *Client) Run() error {
	defer c.end()
	for {
		m, err := c.conn.Receive()
		if err != nil {
			return err
		}
		switch {
		case m.Kind == KindAnswer || m.Kind == KindRefusal:
			if reply := c.forget(m.ID); reply != nil {
				reply <- m
			} else {
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
// at once, and the answer is dropped when it comes.
func (c *Client) Ask(ctx context.Context, kind Kind, body []byte, fds ...int) (*Message, error) {
	id, reply, err := c.expect()
	if err != nil {
		return nil, err
	}
	if err := c.conn.Send(&Message{Kind: kind, ID: id, Body: body, FDs: fds}); err != nil {
		c.forget(id)
		return nil, err
	}
	select {
	case m, ok := <-reply:
		switch {
		case !ok:
			return nil, ErrGone
		case m.Kind == KindRefusal:
			m.Close()
			return nil, &Refusal{m.Body}
		}
		return m, nil
	case <-ctx.Done():
		if c.forget(id) == nil {
			if m, ok := <-reply; ok { // it has come meanwhile
				m.Close()
			}
		}
		return nil, context.Cause(ctx)
	}
}

// Tell sends a message that nobody answers.
func (c *Client) Tell(kind Kind, body []byte) error {
	return c.conn.Send(&Message{Kind: kind, Body: body})
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

// forget returns where the answer to a question is waited for, once.
func (c *Client) forget(id uint64) chan *Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	reply := c.waiting[id]
	delete(c.waiting, id)
	return reply
}

func (c *Client) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	for id, reply := range c.waiting {
		delete(c.waiting, id)
		close(reply)
	}
}

// Serve answers what the other end of conn asks, until that has gone (nil), or sends what is no
// question. Each is answered by handle, in a goroutine of its own, whose error refuses it; the
// message is closed when it returns. Serve waits for all of them, not beyond a blocked answer:
// it closes conn first.
func Serve(conn *Conn, handle func(*Message) (*Message, error)) error {
	var running sync.WaitGroup
	defer running.Wait()
	return hear(conn, handle, newAdmission(func(string) int { return 1 }), &running)
}

// hear is Serve, and leaves it to who owns running to wait for what is at work still. It never
// waits for an answer to be found: what there is no room for is refused.
func hear(conn *Conn, handle func(*Message) (*Message, error), room *admission, running *sync.WaitGroup) error {
	defer conn.Close()
	for {
		m, err := conn.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && m.Kind > lastQuestion {
			m.Close()
			err = fmt.Errorf("%w: kind %d is no question", ErrBroken, m.Kind)
		}
		if err != nil {
			return err
		}
		release, ok := room.admit(m)
		if !ok {
			answerWith(conn, m, refuseBusy)
			continue
		}
		running.Go(func() {
			defer release()
			answerWith(conn, m, handle)
			spawn.Collect()
		})
	}
}

func answerWith(conn *Conn, m *Message, handle func(*Message) (*Message, error)) {
	defer m.Close()
	answer, err := handle(m)
	switch refusal := (*Refusal)(nil); {
	case errors.As(err, &refusal):
		answer = &Message{Kind: KindRefusal, Body: refusal.Body}
	case err != nil:
		answer = &Message{Kind: KindRefusal, Body: []byte(err.Error())}
	case answer == nil:
		answer = &Message{Kind: KindAnswer}
	default:
		answer.Kind = KindAnswer
	}
	if m.ID == 0 { // of Tell
		answer.Close()
		return
	}
	answer.ID = m.ID
	conn.Send(answer) // whether the daemon is there is seen elsewhere
	answer.Close()
}

// Package upgrade is how a daemon hands over to another one: what the two say to each
// other, in which order, and what a failure of either means to the other. It knows
// neither pools nor configurations.
//
//	old                                new
//	hello, and the sockets       ─▶
//	                             ◀─    prepared, or failed: the sockets that it uses
//	begin                        ─▶    the number that requests have next
//	                             ◀─    serving
//	yours                        ─▶    the old one has told systemd, and takes nothing new
//	                             ◀─    metrics, requests or kill, as often as it likes
//	the answer to that           ─▶
//	                             ◀─    hurry: the new one stops, and the old one is to end soon
//	last                         ─▶    what the old one has counted, when it has ended
//
// Whichever ends before "begin" was sent, the old one goes on as if nothing had been. From
// "yours" on it gives kept connections to the new one. These and the sockets go over a second
// pair of sockets. Who starts the new one has nothing to do with what they say.
package upgrade

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/listen"
)

// The kinds of messages.
const (
	kindHello    = "hello"
	kindPrepared = "prepared"
	kindFailed   = "failed"
	kindBegin    = "begin"
	kindServing  = "serving"
	kindYours    = "yours"
	kindMetrics  = "metrics"
	kindRequests = "requests"
	kindKill     = "kill"
	kindHurry    = "hurry"
	kindLast     = "last"
)

// A message is what one of the two says.
type message struct {
	Kind   string          `json:"kind"`
	Hello  *Hello          `json:"hello,omitempty"`
	Taken  []int           `json:"taken,omitempty"`  // of prepared
	PID    int             `json:"pid,omitempty"`    // of prepared: the daemon's own
	Error  string          `json:"error,omitempty"`  // of failed
	Faults []string        `json:"faults,omitempty"` // of failed: what is wrong in the configuration
	Serial uint64          `json:"serial,omitempty"` // of begin: of the first request
	Ask    uint64          `json:"ask,omitempty"`    // which question it is, or the answer to which
	Body   json.RawMessage `json:"body,omitempty"`   // of a question and its answer, and of last
}

func failed(err error, faults []string) message {
	if len(faults) > 0 {
		return message{Kind: kindFailed, Faults: faults}
	}
	return message{Kind: kindFailed, Error: err.Error()}
}

// Hello is what the new daemon is told by the old one.
type Hello struct {
	Version string          `json:"version"`
	PID     int             `json:"pid"`
	Sockets []listen.Handed `json:"sockets"`
	Stored  []string        `json:"stored,omitempty"` // names of what systemd keeps
	// Failing are the pools whose workers cannot be started as it is. Of them the new
	// daemon need not show that it can.
	Failing []string `json:"failing,omitempty"`
}

// A channel carries messages in both directions.
type channel struct {
	conn *net.UnixConn
	in   *json.Decoder // of one reader

	mu  sync.Mutex // held while a message is sent, which sendTime bounds
	out *json.Encoder
}

// sendTime is how long a message may take to be sent.
const sendTime = 10 * time.Second

func newChannel(conn *net.UnixConn) *channel {
	return &channel{conn: conn, in: json.NewDecoder(conn), out: json.NewEncoder(conn)}
}

func (c *channel) send(m message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn.SetWriteDeadline(time.Now().Add(sendTime))
	if err := c.out.Encode(m); err != nil {
		return fmt.Errorf("send %q: %w", m.Kind, err)
	}
	return nil
}

func (c *channel) receive() (m message, err error) {
	err = c.in.Decode(&m)
	return m, err
}

// expect receives a message that is to be of a kind. That the other one has failed is an error,
// which says why.
func (c *channel) expect(kind string) (message, error) {
	m, err := c.receive()
	switch {
	case err != nil:
		return m, err
	case m.Kind == kindFailed && len(m.Faults) > 0:
		return m, Faulty(m.Faults)
	case m.Kind == kindFailed:
		return m, errors.New(m.Error)
	case m.Kind != kind:
		return m, fmt.Errorf("%q came where %q was expected", m.Kind, kind)
	}
	return m, nil
}

// isGone reports whether err means that the other process has ended.
func isGone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
}

package privsep

import (
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

// hear answers what the other end of conn asks, until that has gone (nil), or sends what is no
// question. Each is answered by handle, in a goroutine of its own, whose error refuses it; the
// message is closed when it returns. It closes conn first, and leaves it to who owns running to wait
// for what is at work still. It never waits for an answer to be found: what there is no room for is refused.
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

package fcgi

import (
	"sync"

	"github.com/fcgid/fcgid/internal/protocol"
)

// inboxSize is how many bytes of an answer wait for its Do.
const inboxSize = 256 << 10

// An inbox holds what the reader has got for a request until its Do takes it.
type inbox struct {
	news chan struct{} // holds a value when there may be something to take

	mu   sync.Mutex // guards the fields below
	held *delivery
	room chan struct{} // not nil while the reader waits; closed by take and swallow
	deaf bool          // nothing more is wanted but the end
	over bool          // end and err are known
	end  protocol.End
	err  error
	done chan struct{} // not nil once somebody waits for over
}

// put adds the content of a record. It waits while the inbox is full; when gone
// is closed meanwhile, the content is lost.
func (b *inbox) put(t protocol.Type, content []byte, gone <-chan struct{}) {
	if len(content) == 0 {
		return
	}
	b.mu.Lock()
	for !b.deaf && !b.held.fits(len(content)) {
		room := make(chan struct{})
		b.room = room
		b.mu.Unlock()
		b.notify()
		select {
		case <-room:
		case <-gone:
			return
		}
		b.mu.Lock()
	}
	if !b.deaf {
		if b.held == nil {
			b.held = deliveries.Get().(*delivery)
		}
		b.held.add(t, content)
	}
	b.mu.Unlock()
}

// take returns what has come, nil without anything. Nothing comes after over.
func (b *inbox) take() (d *delivery, over bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d, b.held = b.held, nil
	b.makeRoom()
	return d, b.over
}

// swallow drops what has come and what comes. The channel is closed when the
// request is over.
func (b *inbox) swallow() (done <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = make(chan struct{})
	if b.over {
		close(b.done)
		return b.done
	}
	b.deaf, b.held = true, nil
	b.makeRoom()
	return b.done
}

// makeRoom needs mu.
func (b *inbox) makeRoom() {
	if b.room != nil {
		close(b.room)
		b.room = nil
	}
}

// finish tells how the request has ended. Of several calls the first counts.
func (b *inbox) finish(end protocol.End, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return
	}
	b.over, b.end, b.err = true, end, err
	if b.done != nil {
		close(b.done)
	}
	b.notify()
}

func (b *inbox) notify() {
	select {
	case b.news <- struct{}{}:
	default:
	}
}

// A delivery is a part of an answer: STDOUT and STDERR in the order in which
// they came.
type delivery struct {
	data  []byte
	parts []part
}

// A part is what came on one stream before something came on the other.
type part struct {
	stream protocol.Type
	length int
}

var deliveries = sync.Pool{New: func() any { return new(delivery) }}

// fits reports whether n more bytes have room. Without anything they have it always.
func (d *delivery) fits(n int) bool {
	return d == nil || len(d.data)+n <= inboxSize
}

func (d *delivery) add(stream protocol.Type, content []byte) {
	d.data = append(d.data, content...)
	if last := len(d.parts) - 1; last >= 0 && d.parts[last].stream == stream {
		d.parts[last].length += len(content)
		return
	}
	d.parts = append(d.parts, part{stream, len(content)})
}

// release empties d for another use.
func (d *delivery) release() {
	d.data, d.parts = d.data[:0], d.parts[:0]
	deliveries.Put(d)
}

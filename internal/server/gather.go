package server

import (
	"runtime"
	"time"
)

const (
	// maxGathered is how long a last word may be that leaves with others. To copy a longer
	// one costs more than a write of its own.
	maxGathered = 4 << 10
	// longYield is how long others may run before what waits is written. Where they run
	// for longer, none is let run first for yieldPause.
	longYield  = time.Millisecond
	yieldPause = 10 * time.Millisecond
)

// lastWords are those of requests that end at about the same time. A write often wakes
// the client, which takes longer than to make a small answer.
type lastWords struct {
	waiting  []*request
	isTended bool // somebody is about to write what waits

	noYield time.Time // until when others are not let run first; of who tends
}

// gather sends r's last word. If others are open or about to end, theirs may leave in the
// same write: who comes first lets those run that can at once, and then writes what there is.
// A request that waits for something, or takes long, holds up nobody.
func (o *outlet) gather(r *request, others bool) {
	if !others || o.conn.in.socket.rc == nil || len(r.last.records) > maxGathered {
		r.sendLast()
		return
	}
	o.mu.Lock()
	if len(o.last.waiting) == 0 {
		o.last.waiting = r.alone[:0]
	}
	o.last.waiting = append(o.last.waiting, r)
	isTended := o.last.isTended
	o.last.isTended = true
	o.mu.Unlock()
	if !isTended {
		o.tend()
	}
}

// tend writes what waits. It serves nobody that comes later, and tells what became of the
// requests when others can go on: that may take long.
func (o *outlet) tend() {
	o.yield()
	o.door.enter()
	batch := o.takeGathered()
	sent := o.writeGathered(batch)
	o.door.leave()
	now := time.Now()
	for _, r := range batch[:sent] {
		r.sent(now)
	}
	for _, r := range batch[sent:] { // the client is slow, and each waits in its own way
		o.conn.wg.Go(r.sendLast)
	}
	o.untend()
	for _, r := range batch[:sent] {
		r.tell(now)
	}
}

// yield lets other goroutines run that can.
func (o *outlet) yield() {
	began := time.Now()
	if began.Before(o.last.noYield) {
		return
	}
	runtime.Gosched()
	if now := time.Now(); now.Sub(began) > longYield {
		o.last.noYield = now.Add(yieldPause)
	}
}

func (o *outlet) takeGathered() (batch []*request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	batch = o.last.waiting
	o.last.waiting = nil
	return batch
}

// untend leaves what has come since to somebody else.
func (o *outlet) untend() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last.isTended = len(o.last.waiting) > 0
	if o.last.isTended {
		o.conn.wg.Go(o.tend)
	}
}

// writeGathered writes the last words of batch without waiting; the door has let the caller in. It
// returns how many were sent; of the next one a part may have been, and then the tail is its rest.
func (o *outlet) writeGathered(batch []*request) (sent int) {
	if o.lost.Load() {
		return len(batch) // nobody can be sent any
	}
	buf := getBuffer()
	defer buf.free()
	for len(o.tail) == 0 && sent < len(batch) {
		b, end := buf.b[:0], sent
		for ; end < len(batch) && len(b)+len(batch[end].last.records) <= cap(b); end++ {
			b = append(b, batch[end].last.records...)
		}
		n := o.socket.WriteNow(o.conn.in.socket.rc, b)
		o.count(n)
		for ; sent < end; sent++ {
			last := &batch[sent].last
			if n < len(last.records) {
				o.keepTailOf(last, n)
				return sent
			}
			n -= len(last.records)
		}
	}
	return sent
}

// keepTailOf makes what follows the first n bytes of a last word the tail, if there are such.
func (o *outlet) keepTailOf(last *lastWord, n int) {
	if n > 0 {
		o.tail = append(o.tail, last.records[n:]...)
		last.records = nil
	}
}

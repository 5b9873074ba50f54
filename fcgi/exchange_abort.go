package fcgi

import (
	"fmt"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// errTorn tells the neighbours of a request that could not be aborted that
// theirs are lost.
var errTorn = fmt.Errorf("%w: application took a part of a record only", ErrNoEnd)

// abort sends ABORT_REQUEST in place of what was still to be sent, and leaves
// the application the grace to take it and to end the request.
func (x *exchange) abort() {
	ended := x.in.swallow()
	x.mu.Lock()
	x.over, x.aborting = true, true
	x.mu.Unlock()
	deadline := time.Now().Add(x.c.abortGrace)
	timer := time.NewTimer(x.c.abortGrace)
	defer timer.Stop()
	select {
	case <-ended:
		return
	case x.c.writing <- struct{}{}: // between two records
		x.writeAbort(deadline)
		<-x.c.writing
	case <-timer.C:
		x.c.giveUp(x)
		return
	}
	select {
	case <-ended:
	case <-timer.C:
		x.c.giveUp(x)
	}
}

// writeAbort needs the right to write. An ABORT_REQUEST of which nothing was
// taken does no harm to the connection; a part of it makes it useless.
func (x *exchange) writeAbort(deadline time.Time) {
	switch {
	case !x.begun:
		x.c.forget(x)
		return
	case x.aborted || x.c.isAnswered(x):
		return
	}
	_ = x.c.conn.SetWriteDeadline(deadline)
	n, err := x.c.conn.Write(protocol.AppendRecord(nil, protocol.TypeAbortRequest, x.id, nil))
	_ = x.c.conn.SetWriteDeadline(time.Time{})
	x.aborted = err == nil
	if err != nil && n > 0 {
		x.c.shut(errTorn)
	}
}

// abortLate is the sender's ABORT_REQUEST: abort may have had to give up while
// a record of this request was being written.
func (x *exchange) abortLate() {
	x.mu.Lock()
	aborting := x.aborting
	x.mu.Unlock()
	if !aborting {
		return
	}
	x.c.writing <- struct{}{}
	defer func() { <-x.c.writing }()
	x.writeAbort(time.Time{})
}

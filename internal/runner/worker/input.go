package worker

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// maxInline is the largest STDIN that is sent in one piece with the params, by
// who then reads the answer: a socket holds so much, so that a worker which
// answers before it has read all does not wait for us while we wait for it.
const maxInline = 64 << 10

// A headBuffer is where the beginning of a request is put together.
type headBuffer struct{ b []byte }

var headBuffers = sync.Pool{New: func() any { return &headBuffer{make([]byte, 0, 4<<10)} }}

func (h *headBuffer) free() {
	if cap(h.b) <= 2*maxInline {
		headBuffers.Put(h)
	}
}

// appendInput appends a STDIN stream with its end.
func appendInput(dst []byte, id uint16, stdin []byte) []byte {
	for len(stdin) > 0 {
		n := min(len(stdin), protocol.MaxContent)
		dst = protocol.AppendRecord(dst, protocol.TypeStdin, id, stdin[:n])
		stdin = stdin[n:]
	}
	return protocol.AppendRecord(dst, protocol.TypeStdin, id, nil)
}

// An inputSender sends a request's STDIN, and DATA, while its answer is read.
type inputSender struct {
	done chan struct{}

	// Written before done is closed.
	whole bool  // all was sent
	torn  bool  // the connection is inside a record
	err   error // an inputError, if reading what is to be sent broke
}

// An inputError is that of a request's Stdin or Data.
type inputError struct{ error }

func (e inputError) Unwrap() error { return e.error }

func startInput(conn net.Conn, id uint16, req *protocol.Request) *inputSender {
	s := &inputSender{done: make(chan struct{})}
	go func() {
		defer close(s.done)
		out := rememberingWriter{w: conn}
		err := protocol.WriteInput(&out, id, req)
		s.whole, s.torn = err == nil, out.torn
		if err != nil && !out.broken {
			s.err = inputError{fmt.Errorf("read stdin: %w", err)}
			conn.SetReadDeadline(time.Unix(1, 0)) // the answer must not be taken for one to the whole
		}
	}()
	return s
}

// stop ends the sending and waits for that. It returns the error of reading.
func (s *inputSender) stop(conn net.Conn, req *protocol.Request) error {
	select {
	case <-s.done:
		return s.err
	default:
	}
	conn.SetWriteDeadline(time.Unix(1, 0)) // first: a closed Stdin looks like one that has ended
	if in, ok := req.Stdin.(io.Closer); ok {
		in.Close()
	}
	<-s.done
	return s.err
}

// A rememberingWriter remembers that the error of a copy was its own.
type rememberingWriter struct {
	w      io.Writer
	broken bool
	torn   bool // a part of what was to be written was
}

// Write writes to w.
func (w *rememberingWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.broken = w.broken || err != nil
	w.torn = w.torn || err != nil && n > 0
	return n, err
}

package server

import (
	"sync"

	"github.com/fcgid/fcgid/internal/protocol"
)

// A buffer holds a record of the largest size and the few that end a request.
type buffer struct{ b []byte }

var buffers = sync.Pool{New: func() any {
	return &buffer{b: make([]byte, 0, protocol.HeaderLen+protocol.MaxContent+64)}
}}

func getBuffer() *buffer { return buffers.Get().(*buffer) }

// content is the part of the buffer behind room for a record's header.
func (b *buffer) content() []byte {
	return b.b[protocol.HeaderLen : protocol.HeaderLen+protocol.MaxContent]
}

// free gives the buffer back, unless it has grown out of the common size.
func (b *buffer) free() {
	if cap(b.b) <= 2*protocol.MaxContent {
		buffers.Put(b)
	}
}

package server

import (
	"math/bits"
	"sync"

	"github.com/fcgid/fcgid/internal/protocol"
)

// A buffer is for records. The largest holds a record of the largest size and the few that end
// a request.
type buffer struct{ b []byte }

const (
	largestBuffer  = protocol.HeaderLen + protocol.MaxContent + 64
	smallestBuffer = 1 << 10
)

// buffers has those of smallestBuffer, of twice the size, and so on, and last the largest.
var buffers [7]sync.Pool

// getBufferFor returns the smallest empty buffer that holds n bytes; or the largest there is.
func getBufferFor(n int) *buffer {
	class := min(bits.Len(uint(max(n, 1)-1)/smallestBuffer), len(buffers)-1)
	if b, ok := buffers[class].Get().(*buffer); ok {
		return b
	}
	size := largestBuffer
	if class < len(buffers)-1 {
		size = smallestBuffer << class
	}
	return &buffer{b: make([]byte, 0, size)}
}

func getBuffer() *buffer { return getBufferFor(largestBuffer) }

// content is the part of the largest buffer behind room for a record's header.
func (b *buffer) content() []byte {
	return b.b[protocol.HeaderLen : protocol.HeaderLen+protocol.MaxContent]
}

// free gives the buffer back, unless there is none, or it has grown out of the common sizes.
func (b *buffer) free() {
	if b == nil {
		return
	}
	b.b = b.b[:0]
	switch size := cap(b.b); {
	case size >= largestBuffer && size <= 2*protocol.MaxContent:
		buffers[len(buffers)-1].Put(b)
	case size <= smallestBuffer<<(len(buffers)-2) && size&(size-1) == 0 && size >= smallestBuffer:
		buffers[bits.Len(uint(size)/smallestBuffer)-1].Put(b)
	}
}

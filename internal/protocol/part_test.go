package protocol_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/fcgid/fcgid/internal/protocol"
)

// A lending is a stream with buffers of its own, of which it counts those that
// are out.
type lending struct {
	io.Reader
	size, out int
}

func (l *lending) Lend() ([]byte, int, error) {
	buf := make([]byte, l.size)
	n, err := l.Read(buf)
	if n == 0 {
		return nil, 0, err
	}
	l.out++
	return buf, n, err
}

func (l *lending) GiveBack([]byte) { l.out-- }

// Whatever is taken from the stream, and whatever is left to the Reader, the
// records and their content are the same.
func TestNextPart(t *testing.T) {
	const large = 1000
	for range 200 {
		seed := rand.Uint64()
		rnd := rand.New(rand.NewPCG(seed, 0))
		var wire []byte
		var want string
		for id := range uint16(20) {
			kind := []protocol.Type{protocol.TypeStdin, protocol.TypeStdin, protocol.TypeParams}[rnd.IntN(3)]
			content := bytes.Repeat([]byte{byte('a' + id)}, []int{0, 1, large - 1, large, rnd.IntN(protocol.MaxContent)}[rnd.IntN(5)])
			pad := rnd.IntN(256)
			wire = protocol.AppendHeader(wire, kind, id, len(content), pad)
			wire = append(append(wire, content...), make([]byte, pad)...)
			want += fmt.Sprintf("%v %d %s\n", kind, id, content)
		}
		src := io.Reader(bytes.NewReader(wire))
		if rnd.IntN(2) == 0 {
			src = iotest.HalfReader(src)
		}
		lender := &lending{Reader: src, size: 1 + rnd.IntN(8<<10)}
		if rnd.IntN(2) == 0 {
			src = lender
		}
		got, err := readParts(protocol.NewReader(src), src, rnd, large)
		if err != io.EOF || got != want {
			t.Fatalf("seed %d: %v, %d bytes differ from %d", seed, err, len(got), len(want))
		}
		if lender.out != 0 {
			t.Errorf("seed %d: %d buffers are out", seed, lender.out)
		}
	}
}

// readParts reads all records, content here and there straight from src.
func readParts(r *protocol.Reader, src io.Reader, rnd *rand.Rand, large int) (got string, err error) {
	for {
		r.Release()
		rec, err := r.NextPart(large * rnd.IntN(2))
		if err != nil {
			r.Release()
			return got, err
		}
		got += fmt.Sprintf("%v %d %s", rec.Type, rec.ID, rec.Content)
		for r.Left() > 0 {
			if rnd.IntN(3) == 0 {
				rest, err := r.Next()
				if err != nil || rest.ID != rec.ID || r.Left() != 0 {
					return got, fmt.Errorf("rest of %d is of %d: %w", rec.ID, rest.ID, err)
				}
				got += string(rest.Content)
				break
			}
			buf := make([]byte, 1+rnd.IntN(r.Left()))
			n, err := src.Read(buf)
			if err != nil {
				return got, err
			}
			r.Took(n)
			got += string(buf[:n])
		}
		got += "\n"
	}
}

// The end of the stream inside a record is told, wherever it is.
func TestNextPartTruncated(t *testing.T) {
	whole := protocol.AppendHeader(nil, protocol.TypeStdin, 1, 100, 5)
	whole = append(whole, make([]byte, 105)...)
	for cut := 1; cut < len(whole); cut++ {
		r := protocol.NewReader(bytes.NewReader(whole[:cut]))
		_, err := r.NextPart(10)
		if err == nil && !r.Pending() {
			t.Errorf("cut at %d: nothing is pending", cut)
		}
		if err == nil {
			_, err = r.Next()
		}
		if err == nil {
			_, err = r.Next()
		}
		if err != io.ErrUnexpectedEOF {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

package privsep

import (
	"encoding/binary"
	"fmt"
)

// A body is a row of values of two types: numbers, of eight bytes, and strings, with their
// length before them as four bytes. A list is its length and its strings.

func appendUint(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

func appendString[T string | []byte](b []byte, s T) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

func appendStrings(b []byte, list []string) []byte {
	b = appendUint(b, uint64(len(list)))
	for _, s := range list {
		b = appendString(b, s)
	}
	return b
}

// A decoder takes values off a body. The first one that is not there makes it bad: all that
// follow are zero, and end says so.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.b) {
		d.bad = true
		return nil
	}
	taken := d.b[:n:n]
	d.b = d.b[n:]
	return taken
}

func (d *decoder) uint() uint64 {
	b := d.take(8)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// bytes is valid as long as the body is.
func (d *decoder) bytes() []byte {
	b := d.take(4)
	if b == nil {
		return nil
	}
	return d.take(int(binary.BigEndian.Uint32(b)))
}

func (d *decoder) string() string { return string(d.bytes()) }

// end returns an error if a value was not there, or if there is more than was taken.
func (d *decoder) end() error {
	if d.bad || len(d.b) > 0 {
		return fmt.Errorf("%w: its body is not what its kind has", ErrBroken)
	}
	return nil
}

package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
)

// ErrTruncatedPair tells that a stream of name-value pairs ended inside one.
var ErrTruncatedPair = errors.New("name-value pair is longer than what follows")

// Params are the name-value pairs of a request, in the order in which they came
// (section 5.2). A name may repeat. The zero value holds none. A copy of parsed
// Params is independent; of several copies of changed ones, only one may Add.
type Params struct {
	pairs []pair
	raw   string // the pairs as encoded; "" once they were changed
}

type pair struct{ name, value string }

// ParseParams reads the content of a whole PARAMS stream: name-value pairs
// with lengths of one or four bytes (section 3.4). On error it returns the pairs
// before the broken one.
func ParseParams(stream string) (Params, error) {
	p := Params{raw: stream, pairs: make([]pair, 0, countPairs(stream))}
	for rest := p.raw; rest != ""; {
		name, value, after, err := cutPair(rest)
		if err != nil {
			p.raw = p.raw[:len(p.raw)-len(rest)]
			return p, fmt.Errorf("byte %d: %w", len(p.raw), err)
		}
		p.pairs = append(p.pairs, pair{name, value})
		rest = after
	}
	return p, nil
}

// countPairs is the number of whole pairs that a stream begins with.
func countPairs(stream string) (n int) {
	for stream != "" {
		_, _, rest, err := cutPair(stream)
		if err != nil {
			break
		}
		stream = rest
		n++
	}
	return n
}

func cutPair(s string) (name, value, rest string, err error) {
	nameLen, s, ok := cutLength(s)
	if !ok {
		return "", "", "", ErrTruncatedPair
	}
	valueLen, s, ok := cutLength(s)
	// Each length is below 1<<31: their sum cannot overflow 64 bits.
	if !ok || nameLen+valueLen > uint64(len(s)) {
		return "", "", "", ErrTruncatedPair
	}
	return s[:nameLen], s[nameLen : nameLen+valueLen], s[nameLen+valueLen:], nil
}

func cutLength(s string) (n uint64, rest string, ok bool) {
	switch {
	case s == "":
		return 0, "", false
	case s[0]>>7 == 0:
		return uint64(s[0]), s[1:], true
	case len(s) < 4:
		return 0, "", false
	}
	return uint64(s[0]&0x7f)<<24 | uint64(s[1])<<16 | uint64(s[2])<<8 | uint64(s[3]), s[4:], true
}

// AppendPair appends one name-value pair. A length up to 127 takes one byte,
// a longer one four (section 3.4).
func AppendPair(dst []byte, name, value string) []byte {
	dst = appendLength(dst, len(name))
	dst = appendLength(dst, len(value))
	dst = append(dst, name...)
	return append(dst, value...)
}

func appendLength(dst []byte, n int) []byte {
	if n <= 127 {
		return append(dst, byte(n))
	}
	return binary.BigEndian.AppendUint32(dst, uint32(n)|1<<31)
}

// Len is the number of pairs.
func (p *Params) Len() int { return len(p.pairs) }

// All yields the pairs in their order.
func (p *Params) All() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for _, x := range p.pairs {
			if !yield(x.name, x.value) {
				return
			}
		}
	}
}

// Get is the value of name, "" without one. Of a repeated name it is the last.
func (p *Params) Get(name string) string {
	v, _ := p.Lookup(name)
	return v
}

// Lookup is Get that tells an empty value from none.
func (p *Params) Lookup(name string) (string, bool) {
	if i := p.last(name); i >= 0 {
		return p.pairs[i].value, true
	}
	return "", false
}

// last is the index of the last pair of that name, or -1.
func (p *Params) last(name string) int {
	for i, x := range slices.Backward(p.pairs) {
		if x.name == name {
			return i
		}
	}
	return -1
}

// Add appends a pair.
func (p *Params) Add(name, value string) {
	if p.raw != "" { // a copy may share what ParseParams allocated
		p.pairs = slices.Clip(p.pairs)
	}
	p.pairs = append(p.pairs, pair{name, value})
	p.raw = ""
}

// Set gives name this value alone: it replaces the last pair of that name where
// it is and drops the others, or adds one. It writes to a slice of its own,
// since a copy or an iteration may hold the old one.
func (p *Params) Set(name, value string) {
	last := p.last(name)
	kept := make([]pair, 0, len(p.pairs)+1)
	for i, x := range p.pairs {
		switch {
		case i == last:
			kept = append(kept, pair{name, value})
		case x.name != name:
			kept = append(kept, x)
		}
	}
	if last < 0 {
		kept = append(kept, pair{name, value})
	}
	p.pairs, p.raw = kept, ""
}

// FitRecords reports whether each pair fits into one record. Some applications,
// php-cgi among them, read each PARAMS record on its own.
func (p *Params) FitRecords() bool {
	if p.raw != "" && len(p.raw) <= MaxContent {
		return true
	}
	for _, x := range p.pairs {
		if encodedLen(x.name)+encodedLen(x.value) > MaxContent {
			return false
		}
	}
	return true
}

// encodedLen is the length of a name or value with that of its length.
func encodedLen(s string) int {
	if len(s) <= 127 {
		return 1 + len(s)
	}
	return 4 + len(s)
}

// Append appends the encoded pairs: the bytes that came, if nothing was changed.
func (p *Params) Append(dst []byte) []byte {
	if p.raw != "" {
		return append(dst, p.raw...)
	}
	for _, x := range p.pairs {
		dst = AppendPair(dst, x.name, x.value)
	}
	return dst
}

// AppendGetValues appends a GET_VALUES record that asks for names (section 4.1).
// It is padded: libfcgi answers an unpadded one only when more bytes come.
func AppendGetValues(dst []byte, names ...string) []byte {
	var content []byte
	for _, n := range names {
		content = AppendPair(content, n, "")
	}
	pad := PaddingFor(TypeGetValues, len(content))
	if pad == 0 {
		pad = 8
	}
	dst = AppendHeader(dst, TypeGetValues, 0, len(content), pad)
	dst = append(dst, content...)
	return append(dst, zeros[:pad]...)
}

// AppendGetValuesResult appends the one GET_VALUES_RESULT record that answers
// query, the content of a GET_VALUES record: each asked name that value knows,
// once, in the order asked (section 4.1). Names after a broken pair are not answered.
func AppendGetValuesResult(dst, query []byte, value func(name string) (string, bool)) []byte {
	asked, _ := ParseParams(string(query))
	var content []byte
	answered := make(map[string]bool, 3)
	for name := range asked.All() {
		if v, ok := value(name); ok && !answered[name] {
			answered[name] = true
			content = AppendPair(content, name, v)
		}
	}
	return AppendRecord(dst, TypeGetValuesResult, 0, content)
}

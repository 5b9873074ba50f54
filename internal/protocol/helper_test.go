package protocol_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// h is the bytes that the hex in parts stands for; blanks are for the reader.
func h(parts ...string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(strings.Join(parts, ""), " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// many is n times the byte c, as hex.
func many(n int, c byte) string { return strings.Repeat(hex.EncodeToString([]byte{c}), n) }

// text is s as hex.
func text(s string) string { return hex.EncodeToString([]byte(s)) }

// concat is what several append functions make.
func concat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// A record is a protocol.Record that outlives the next Next.
type record struct {
	Type    protocol.Type
	ID      uint16
	Content string
}

// readAll reads until the first error that is not a timeout.
func readAll(src io.Reader) ([]record, error) {
	var all []record
	r := protocol.NewReader(src)
	for {
		rec, err := r.Next()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case err != nil:
			return all, err
		}
		all = append(all, record{rec.Type, rec.ID, string(rec.Content)})
	}
}

// mustRead reads wire to its end between two records.
func mustRead(t testing.TB, wire []byte) []record {
	t.Helper()
	all, err := readAll(bytes.NewReader(wire))
	if err != io.EOF {
		t.Fatalf("after %d records: %v, want io.EOF", len(all), err)
	}
	return all
}

// feeds are the ways in which the same bytes may arrive.
var feeds = []struct {
	name string
	wrap func(io.Reader) io.Reader
}{
	{"whole", func(r io.Reader) io.Reader { return r }},
	{"one byte at a time", iotest.OneByteReader},
	{"halves", iotest.HalfReader},
	{"error with the last byte", iotest.DataErrReader},
	{"a timeout before each byte", func(r io.Reader) io.Reader { return &slowReader{src: r, err: os.ErrDeadlineExceeded} }},
	{"an empty read before each byte", func(r io.Reader) io.Reader { return &slowReader{src: r} }},
}

// A slowReader gives nothing and err, then one byte, and so on.
type slowReader struct {
	src  io.Reader
	err  error
	turn bool
}

func (s *slowReader) Read(p []byte) (int, error) {
	if s.turn = !s.turn; s.turn || len(p) == 0 {
		return 0, s.err
	}
	return s.src.Read(p[:1])
}

// A script is a reader that gives its steps one by one and fails the test when
// it is asked for more.
type script struct {
	t     testing.TB
	steps []step
	most  int // the longest buffer that was offered
}

type step struct {
	data []byte
	err  error
}

func (s *script) Read(p []byte) (int, error) {
	s.most = max(s.most, len(p))
	if len(s.steps) == 0 {
		s.t.Error("read more than needed")
		return 0, io.EOF
	}
	n := copy(p, s.steps[0].data)
	if s.steps[0].data = s.steps[0].data[n:]; len(s.steps[0].data) > 0 {
		return n, nil
	}
	err := s.steps[0].err
	s.steps = s.steps[1:]
	return n, err
}

// A writes collects what each call of Write got.
type writes struct {
	calls [][]byte
	left  int // calls until err
	err   error
}

func (w *writes) Write(p []byte) (int, error) {
	if w.err != nil && w.left == 0 {
		return 0, w.err
	}
	w.left--
	w.calls = append(w.calls, bytes.Clone(p))
	return len(p), nil
}

func (w *writes) wire() []byte { return concat(w.calls...) }

type pair struct{ Name, Value string }

func pairsOf(p *protocol.Params) []pair {
	var all []pair
	for name, value := range p.All() {
		all = append(all, pair{name, value})
	}
	return all
}

func newParams(pairs ...pair) *protocol.Params {
	p := new(protocol.Params)
	for _, x := range pairs {
		p.Add(x.Name, x.Value)
	}
	return p
}

func wantEqual(t testing.TB, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateErrors()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, shorten(diff))
	}
}

func wantBytes(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s is %d bytes\n  %s\nwant %d\n  %s", what, len(got), shorten(hex.EncodeToString(got)),
			len(want), shorten(hex.EncodeToString(want)))
	}
}

func shorten(s string) string {
	if len(s) > 2000 {
		return s[:2000] + "..."
	}
	return s
}

// wantDefensive checks what holds for each record that we send: zero reserved
// byte and padding, no 16-bit overflow, STDERR padded (sections 3.3, 5.3).
func wantDefensive(t testing.TB, wire []byte) {
	t.Helper()
	for len(wire) >= protocol.HeaderLen {
		length, padding := int(wire[4])<<8|int(wire[5]), int(wire[6])
		end := protocol.HeaderLen + length + padding
		switch {
		case len(wire) < end:
			t.Fatalf("record of %d bytes, %d left", end, len(wire))
		case wire[0] != 1 || wire[7] != 0:
			t.Errorf("header % x", wire[:protocol.HeaderLen])
		case length+padding > 65535:
			t.Errorf("content %d + padding %d overflow 16 bits", length, padding)
		case protocol.Type(wire[1]) == protocol.TypeStderr && padding == 0:
			t.Errorf("STDERR record with content %d is not padded", length)
		}
		wantBytes(t, "padding", wire[end-padding:end], make([]byte, padding))
		wire = wire[end:]
	}
	if len(wire) > 0 {
		t.Errorf("%d bytes after the last record", len(wire))
	}
}

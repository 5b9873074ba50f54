package protocol_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/fcgid/fcgid/internal/protocol"
)

// streams is the content of each type, whatever its id.
func streams(all []record) map[protocol.Type]string {
	m := make(map[protocol.Type]string)
	for _, rec := range all {
		m[rec.Type] += rec.Content
	}
	return m
}

func newStream(w io.Writer, t protocol.Type) *protocol.StreamWriter {
	return &protocol.StreamWriter{W: w, Type: t, ID: 258}
}

func TestStreamWrite(t *testing.T) {
	for _, row := range []struct {
		section, name string
		typ           protocol.Type
		content       string
		want          []int // content of each record
	}{
		{"3.3", "nothing is no record", protocol.TypeStdout, "", nil},
		{"3.3", "one byte", protocol.TypeStdout, "x", []int{1}},
		{"3.3", "a full record", protocol.TypeStdout, strings.Repeat("x", 65528), []int{65528}},
		{"3.3", "one more", protocol.TypeStdout, strings.Repeat("x", 65529), []int{65528, 1}},
		{"3.3", "three", protocol.TypeStdin, strings.Repeat("x", 2*65528+5), []int{65528, 65528, 5}},
		{"5.3", "STDERR nothing", protocol.TypeStderr, "", nil},
		{"5.3", "STDERR aligned", protocol.TypeStderr, "12345678", []int{8}},
		{"5.3", "STDERR full", protocol.TypeStderr, strings.Repeat("x", 65528), []int{65520, 8}},
	} {
		t.Run(row.section+" "+row.name, func(t *testing.T) {
			w := new(writes)
			n, err := newStream(w, row.typ).Write([]byte(row.content))
			if n != len(row.content) || err != nil {
				t.Errorf("wrote %d, %v", n, err)
			}
			checkStream(t, w, record{row.typ, 258, row.content}, row.want)
		})
	}
}

// checkStream wants the content of want in records of these lengths, each with a Write of its own.
func checkStream(t *testing.T, w *writes, want record, lengths []int) {
	t.Helper()
	var got []int
	content := ""
	for _, call := range w.calls {
		wantDefensive(t, call)
		all := mustRead(t, call)
		if len(all) != 1 || all[0].Type != want.Type || all[0].ID != want.ID {
			t.Fatalf("a write of %d records, not one of this stream", len(all))
		}
		got = append(got, len(all[0].Content))
		content += all[0].Content
	}
	wantEqual(t, "lengths", got, lengths)
	wantEqual(t, "content is whole", content == want.Content, true)
}

func TestStreamBytes(t *testing.T) {
	var out bytes.Buffer
	s := newStream(&out, protocol.TypeStderr)
	for _, part := range []string{"oops", ""} {
		if _, err := s.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.ReadFrom(strings.NewReader("12345678")); err != nil {
		t.Fatal(err)
	}
	wantEqual(t, "close", s.Close(), nil)
	wantBytes(t, "wire", out.Bytes(), h( // sections 3.3, 5.3
		"01 07 0102 0004 04 00", text("oops"), many(4, 0),
		"01 07 0102 0008 08 00", text("12345678"), many(8, 0),
		"01 07 0102 0000 08 00", many(8, 0)))
}

// Section 3.3: the empty record ends a stream, and is not more than its header.
func TestStreamClose(t *testing.T) {
	for _, typ := range []protocol.Type{protocol.TypeParams, protocol.TypeStdin, protocol.TypeStdout, protocol.TypeData} {
		w := new(writes)
		wantEqual(t, "error", newStream(w, typ).Close(), nil)
		wantBytes(t, typ.String(), w.wire(), concat(h("01"), []byte{byte(typ)}, h("0102 0000 00 00")))
	}
}

func TestStreamReadFrom(t *testing.T) {
	large := strings.Repeat("x", 200000)
	for _, typ := range []protocol.Type{protocol.TypeStdout, protocol.TypeStderr} {
		for name, src := range map[string]io.Reader{
			"whole":            strings.NewReader(large),
			"one byte":         iotest.OneByteReader(strings.NewReader(large[:20])),
			"halves":           iotest.HalfReader(strings.NewReader(large)),
			"EOF with data":    iotest.DataErrReader(strings.NewReader(large)),
			"with empty reads": &slowReader{src: strings.NewReader(large[:20])},
			"nothing":          strings.NewReader(""),
		} {
			t.Run(typ.String()+" "+name, func(t *testing.T) {
				var in bytes.Buffer
				w := new(writes)
				n, err := newStream(w, typ).ReadFrom(io.TeeReader(src, &in))
				if n != int64(in.Len()) || err != nil {
					t.Errorf("sent %d of %d, %v", n, in.Len(), err)
				}
				wantDefensive(t, w.wire())
				wantEqual(t, "content is whole", streams(mustRead(t, w.wire()))[typ] == in.String(), true)
			})
		}
	}
}

// A record for each read: output arrives when the program writes it.
func TestStreamReadFromEachRead(t *testing.T) {
	w := new(writes)
	src := &script{t: t, steps: []step{{data: []byte("ab")}, {}, {data: []byte("c")}, {err: io.EOF}}}
	_, err := newStream(w, protocol.TypeStdout).ReadFrom(src)
	wantEqual(t, "error", err, nil)
	checkStream(t, w, record{protocol.TypeStdout, 258, "abc"}, []int{2, 1})
}

// What was in the buffer must not leak as padding.
func TestStreamPaddingIsZero(t *testing.T) {
	w := new(writes)
	s := newStream(w, protocol.TypeStdout)
	src := &script{t: t, steps: []step{{data: bytes.Repeat([]byte{'x'}, 65528)}, {data: []byte("y")}, {err: io.EOF}}}
	_, err := s.ReadFrom(src)
	wantEqual(t, "error", err, nil)
	_, err = s.Write([]byte("z"))
	wantEqual(t, "error", err, nil)
	wantDefensive(t, w.wire())
	wantBytes(t, "last", w.calls[2], h("01 06 0102 0001 07 00 7a 00000000000000"))
}

func TestStreamErrors(t *testing.T) {
	broken := errors.New("broken")
	large := strings.Repeat("x", 100000)
	n, err := newStream(&writes{left: 1, err: broken}, protocol.TypeStdout).Write([]byte(large))
	if n != 65528 || err != broken {
		t.Errorf("Write: %d, %v", n, err)
	}
	m, err := newStream(&writes{left: 1, err: broken}, protocol.TypeStdout).ReadFrom(strings.NewReader(large))
	if m != 65528 || err != broken {
		t.Errorf("ReadFrom: %d, %v", m, err)
	}
	w := new(writes)
	src := &script{t: t, steps: []step{{[]byte("abc"), broken}}}
	m, err = newStream(w, protocol.TypeStdout).ReadFrom(src)
	if m != 3 || err != broken {
		t.Errorf("ReadFrom a broken reader: %d, %v", m, err)
	}
	checkStream(t, w, record{protocol.TypeStdout, 258, "abc"}, []int{3})
	wantEqual(t, "close", newStream(&writes{err: broken}, protocol.TypeStdout).Close(), broken)
}

// io.Copy takes the short way.
func TestStreamIsReaderFrom(t *testing.T) {
	var _ io.ReaderFrom = new(protocol.StreamWriter)
	var _ io.WriteCloser = new(protocol.StreamWriter)
}

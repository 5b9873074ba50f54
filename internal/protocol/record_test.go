package protocol_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/wiretest"
)

func appendRecord(t protocol.Type, id uint16, content string) []byte {
	return protocol.AppendRecord(nil, t, id, []byte(content))
}

// wireTable is section 3.3 both ways. Rows without encoded are what a peer may
// send and we do not.
var wireTable = []struct {
	section, name string
	wire          []byte
	want          []record
	encoded       []byte
}{
	{"3.3", "nothing", nil, nil, nil},
	{"3.3", "all types: BEGIN_REQUEST", h("01 01 0001 0000 00 00"), []record{{1, 1, ""}}, appendRecord(1, 1, "")},
	{"3.3", "all types: ABORT_REQUEST", h("01 02 0001 0000 00 00"), []record{{2, 1, ""}}, appendRecord(2, 1, "")},
	{"3.3", "all types: END_REQUEST", h("01 03 0001 0000 00 00"), []record{{3, 1, ""}}, appendRecord(3, 1, "")},
	{"3.3", "all types: PARAMS", h("01 04 0001 0000 00 00"), []record{{4, 1, ""}}, appendRecord(4, 1, "")},
	{"3.3", "all types: STDIN", h("01 05 0001 0000 00 00"), []record{{5, 1, ""}}, appendRecord(5, 1, "")},
	{"3.3", "all types: STDOUT", h("01 06 0001 0000 00 00"), []record{{6, 1, ""}}, appendRecord(6, 1, "")},
	{"3.3", "all types: STDERR", h("01 07 0001 0000 08 00", many(8, 0)), []record{{7, 1, ""}}, appendRecord(7, 1, "")},
	{"3.3", "all types: DATA", h("01 08 0001 0000 00 00"), []record{{8, 1, ""}}, appendRecord(8, 1, "")},
	{"3.3", "all types: GET_VALUES", h("01 09 0000 0000 00 00"), []record{{9, 0, ""}}, appendRecord(9, 0, "")},
	{"3.3", "all types: GET_VALUES_RESULT", h("01 0a 0000 0000 00 00"), []record{{10, 0, ""}}, appendRecord(10, 0, "")},
	{"3.3", "all types: UNKNOWN_TYPE", h("01 0b 0000 0000 00 00"), []record{{11, 0, ""}}, appendRecord(11, 0, "")},
	{"4.2", "types from the future are delivered", h("01 0c 0000 0000 00 00 01 ff 0000 0000 00 00"),
		[]record{{12, 0, ""}, {255, 0, ""}}, concat(appendRecord(12, 0, ""), appendRecord(255, 0, ""))},
	{"3.3", "type 0", h("01 00 0001 0000 00 00"), []record{{0, 1, ""}}, appendRecord(0, 1, "")},
	{"3.3", "the id is big-endian", h("01 02 1234 0000 00 00"), []record{{2, 0x1234, ""}}, appendRecord(2, 0x1234, "")},
	{"3.3", "the highest id", h("01 02 ffff 0000 00 00"), []record{{2, 65535, ""}}, appendRecord(2, 65535, "")},
	{"3.3", "the length is big-endian", h("01 05 0001 0102 06 00", many(258, 'x'), many(6, 0)),
		[]record{{5, 1, strings.Repeat("x", 258)}}, appendRecord(5, 1, strings.Repeat("x", 258))},
	{"3.3", "padding aligns to 8 bytes", h("01 05 0001 0001 07 00 61 00000000000000"), []record{{5, 1, "a"}}, appendRecord(5, 1, "a")},
	{"3.3", "no padding when aligned", h("01 05 0001 0008 00 00", text("12345678")), []record{{5, 1, "12345678"}}, appendRecord(5, 1, "12345678")},
	{"3.3", "no padding at all", h("01 05 0001 0001 00 00 61"), []record{{5, 1, "a"}}, nil},
	{"3.3", "padding is ignored", h("01 05 0001 0001 03 00 61 ffffff"), []record{{5, 1, "a"}}, nil},
	{"3.3", "padding alone", h("01 05 0001 0000 ff 00", many(255, 1)), []record{{5, 1, ""}}, nil},
	{"3.3", "reserved is ignored", h("01 05 0001 0001 00 ff 61"), []record{{5, 1, "a"}}, nil},
	{"3.3", "content of 65535", h("01 05 0001 ffff 00 00", many(65535, 'x')),
		[]record{{5, 1, strings.Repeat("x", 65535)}}, appendRecord(5, 1, strings.Repeat("x", 65535))},
	{"3.3", "content of 65535, padding of 255", h("01 05 0001 ffff ff 00", many(65535, 'x'), many(255, 0)),
		[]record{{5, 1, strings.Repeat("x", 65535)}}, nil},
	{"3.3", "one after the other", h("01 05 0001 0002 01 00 6162 00  01 05 0002 0001 00 00 63  01 05 0001 0000 00 00"),
		[]record{{5, 1, "ab"}, {5, 2, "c"}, {5, 1, ""}}, nil},
	{"3.3", "large, small, large", concat(appendRecord(5, 1, strings.Repeat("x", 60000)), appendRecord(5, 1, "y"), appendRecord(5, 1, strings.Repeat("z", 65535))),
		[]record{{5, 1, strings.Repeat("x", 60000)}, {5, 1, "y"}, {5, 1, strings.Repeat("z", 65535)}}, nil},
	{"5.3", "STDERR is padded when aligned", h("01 07 0001 0008 08 00", text("12345678"), many(8, 0)),
		[]record{{7, 1, "12345678"}}, appendRecord(7, 1, "12345678")},
	{"5.3", "STDERR at the end of 16 bits", h("01 07 0001 fff8 07 00", many(65528, 'x'), many(7, 0)),
		[]record{{7, 1, strings.Repeat("x", 65528)}}, appendRecord(7, 1, strings.Repeat("x", 65528))},
	{"5.4", "ABORT_REQUEST", h("01 02 0007 0000 00 00"), []record{{2, 7, ""}}, appendRecord(2, 7, "")},
}

func TestRecords(t *testing.T) {
	for _, row := range wireTable {
		for _, feed := range feeds {
			t.Run(row.section+" "+row.name+"/"+feed.name, func(t *testing.T) {
				got, err := readAll(feed.wrap(bytes.NewReader(row.wire)))
				wantEqual(t, "error", err == io.EOF, true)
				wantEqual(t, "records", got, row.want)
			})
		}
		if row.encoded != nil {
			t.Run(row.section+" "+row.name+"/encoded", func(t *testing.T) {
				wantBytes(t, "wire", row.encoded, row.wire)
				wantDefensive(t, row.encoded)
			})
		}
	}
}

// Section 3.3: io.EOF is only ever between two records.
func TestTruncatedRecord(t *testing.T) {
	whole := h("01 05 0001 0003 05 00 616263 0000000000  01 05 0001 0000 00 00")
	first := 16
	for cut := range len(whole) {
		for _, feed := range feeds {
			got, err := readAll(feed.wrap(bytes.NewReader(whole[:cut])))
			want := io.ErrUnexpectedEOF
			if cut == 0 || cut == first {
				want = io.EOF
			}
			if err != want || len(got) != cut/first {
				t.Errorf("%d bytes, %s: %d records, error %v, want %v", cut, feed.name, len(got), err, want)
			}
		}
	}
}

// Section 3.3: the first wrong byte is enough, nothing more is waited for.
func TestVersion(t *testing.T) {
	good := h("01 05 0001 0001 00 00 61")
	for _, v := range []byte{0, 2, 'G', 0x16, 255} {
		for _, before := range [][]byte{nil, good, concat(good, good)} {
			src := &script{t: t, steps: []step{{data: concat(before, []byte{v})}}}
			got, err := readAll(src)
			var bad protocol.VersionError
			if !errors.As(err, &bad) || byte(bad) != v {
				t.Errorf("version %d: %v", v, err)
			}
			wantEqual(t, "records before", len(got), len(before)/len(good))
		}
	}
	wantEqual(t, "message", protocol.VersionError(71).Error(), "record has version 71, not 1")
}

// The error stays: nothing after a wrong version can be understood.
func TestVersionErrorStays(t *testing.T) {
	r := protocol.NewReader(bytes.NewReader(h("02 01 0500 0100 0000 0000")))
	for range 3 {
		if _, err := r.Next(); err != protocol.VersionError(2) {
			t.Errorf("error %v, want version 2", err)
		}
	}
}

func TestReaderResumes(t *testing.T) {
	broken := errors.New("broken")
	wire := h("01 05 0001 0003 01 00 616263 00")
	for cut := range len(wire) {
		r := protocol.NewReader(&script{t: t, steps: []step{{data: wire[:cut]}, {err: broken}, {err: broken}, {data: wire[cut:]}}})
		for range 2 {
			if _, err := r.Next(); err != broken {
				t.Fatalf("cut at %d: error %v, want the stream's", cut, err)
			}
		}
		wantEqual(t, "buffered", r.Buffered(), cut)
		rec, err := r.Next()
		if err != nil || string(rec.Content) != "abc" {
			t.Errorf("cut at %d: %q, %v", cut, rec.Content, err)
		}
	}
}

// An error that comes with the last byte of a record waits for the next call.
func TestReaderErrorWithData(t *testing.T) {
	broken := errors.New("broken")
	wire := appendRecord(protocol.TypeStdin, 1, "abc")
	r := protocol.NewReader(&script{t: t, steps: []step{{wire, broken}, {nil, broken}}})
	if rec, err := r.Next(); err != nil || string(rec.Content) != "abc" {
		t.Errorf("%q, %v, want the record", rec.Content, err)
	}
	if _, err := r.Next(); err != broken {
		t.Errorf("error %v, want the stream's", err)
	}
}

func TestReaderBuffer(t *testing.T) {
	small := appendRecord(protocol.TypeStdin, 1, "small")
	claim := h("01 05 0001 ffff ff 00")
	src := &script{t: t, steps: []step{{data: small}, {data: small}, {data: claim}, {err: io.EOF}}}
	r := protocol.NewReader(src)
	for range 2 {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}
	wantEqual(t, "buffer of small records", src.most <= 4<<10, true)
	_, err := r.Next()
	wantEqual(t, "error", err == io.ErrUnexpectedEOF, true)
	wantEqual(t, "buffer of a large record", src.most <= 128<<10, true)
	wantEqual(t, "buffered", r.Buffered(), len(claim))
}

func TestReaderRelease(t *testing.T) {
	one := appendRecord(protocol.TypeStdin, 1, "one")
	src := &script{t: t, steps: []step{{data: concat(one, one[:5])}, {data: one[5:]}, {data: one}, {err: io.EOF}}}
	r := protocol.NewReader(src)
	r.Release()
	for i, buffered := range []int{5, 0, 0} {
		rec, err := r.Next()
		if err != nil || string(rec.Content) != "one" {
			t.Fatalf("record %d: %q, %v", i, rec.Content, err)
		}
		wantEqual(t, "buffered", r.Buffered(), buffered)
		r.Release() // must not lose the half record
		wantEqual(t, "buffered after Release", r.Buffered(), buffered)
	}
	_, err := r.Next()
	wantEqual(t, "end", err == io.EOF, true)
}

// A caller that appends to Content must not overwrite the next record.
func TestContentIsBounded(t *testing.T) {
	one := appendRecord(protocol.TypeStdin, 1, "one")
	r := protocol.NewReader(bytes.NewReader(concat(one, one)))
	rec, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	_ = append(rec.Content, "overwritten by append"...)
	if rec, err = r.Next(); err != nil || string(rec.Content) != "one" {
		t.Errorf("next record: %q, %v", rec.Content, err)
	}
}

func TestIsManagement(t *testing.T) {
	for id, want := range map[uint16]bool{0: true, 1: false, 65535: false} {
		wantEqual(t, fmt.Sprint("id ", id), protocol.Record{ID: id}.IsManagement(), want) // section 3.3
	}
}

// Section 3.3, for every length there is: aligned, within 16 bits, STDERR padded.
func TestPaddingFor(t *testing.T) {
	for n := range 65536 {
		plain, stderr := protocol.PaddingFor(protocol.TypeStdout, n), protocol.PaddingFor(protocol.TypeStderr, n)
		if plain < 0 || plain > 7 || n+plain > 65535 || n <= protocol.MaxContent && (n+plain)%8 != 0 {
			t.Fatalf("content %d: padding %d", n, plain)
		}
		if stderr < 0 || stderr > 8 || n+stderr > 65535 || n < 65535 && stderr == 0 {
			t.Fatalf("STDERR content %d: padding %d", n, stderr)
		}
	}
}

func TestAppendHeader(t *testing.T) {
	got := protocol.AppendHeader([]byte("x"), protocol.TypeStdout, 0x0102, 0x0304, 5)
	wantBytes(t, "header", got, h("78 01 06 0102 0304 05 00"))
	for _, bad := range [][2]int{{-1, 0}, {65536, 0}, {0, -1}, {0, 256}} {
		func() {
			defer func() { wantEqual(t, fmt.Sprint("panics with ", bad), recover() != nil, true) }()
			protocol.AppendHeader(nil, protocol.TypeStdout, 1, bad[0], bad[1])
		}()
	}
}

// What is left of a Reader goes on elsewhere, and the last record stays.
func TestReaderRest(t *testing.T) {
	wire := protocol.AppendRecord(nil, protocol.TypeStdout, 1, []byte("first"))
	wire = protocol.AppendRecord(wire, protocol.TypeStdout, 1, []byte("second"))
	wire = protocol.AppendRecord(wire, protocol.TypeStdout, 1, bytes.Repeat([]byte("x"), 60000))
	for cut := range len(wire) {
		if cut > 100 && cut < len(wire)-100 {
			continue
		}
		src := io.MultiReader(bytes.NewReader(wire[:cut]), bytes.NewReader(wire[cut:]))
		r := protocol.NewReader(src)
		first, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		r = r.Rest()
		for _, want := range []int{6, 60000} {
			if rec, err := r.Next(); err != nil || len(rec.Content) != want {
				t.Errorf("cut at %d: got %d bytes, %v, want %d", cut, len(rec.Content), err, want)
			}
			r = r.Rest()
		}
		if string(first.Content) != "first" {
			t.Errorf("cut at %d: the record has changed to %q", cut, first.Content)
		}
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("cut at %d: got %v at the end", cut, err)
		}
	}
}

func TestEndsNext(t *testing.T) {
	end := protocol.AppendEnd(nil, 1, protocol.End{})
	empty := protocol.AppendRecord(nil, protocol.TypeStdout, 1, nil)
	first := protocol.AppendRecord(nil, protocol.TypeStdout, 1, []byte("x"))
	tests := []struct {
		name string
		rest []byte
		want bool
	}{
		{"nothing", nil, false},
		{"the end", end, true},
		{"the header of the end", end[:protocol.HeaderLen], true},
		{"a part of it", end[:protocol.HeaderLen-1], false},
		{"the end of a stream", empty, false},
		{"the ends of streams and the end", slices.Concat(empty, empty, end), true},
		{"more of the stream", slices.Concat(first, end), false},
		{"padding", slices.Concat(protocol.AppendHeader(nil, protocol.TypeStdout, 1, 0, 1), []byte{0}, end), false},
	}
	for _, tt := range tests {
		r := protocol.NewReader(bytes.NewReader(slices.Concat(first, tt.rest)))
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
		if got := r.EndsNext(); got != tt.want {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
}

// A connection that is kept gives up its buffer after each large record, and takes one up for
// the next: that makes no new one.
func TestAllocationsOfLargeRecords(t *testing.T) {
	if wiretest.UnderRace() {
		t.Skip("the race detector keeps less for later")
	}
	large := appendRecord(protocol.TypeStdout, 1, strings.Repeat("x", 8184))
	src := bytes.NewReader(large)
	r := protocol.NewReader(src)
	if n := testing.AllocsPerRun(100, func() {
		src.Reset(large)
		if rec, err := r.Next(); err != nil || len(rec.Content) != 8184 {
			t.Fatalf("%d bytes, %v", len(rec.Content), err)
		}
		r.Trim()
	}); n > 0 {
		t.Errorf("%v allocations a record", n)
	}
}

// Two connections never have the same buffer at once.
func TestLargeRecordsStandApart(t *testing.T) {
	var readers []*protocol.Reader
	var records []protocol.Record
	for i := range 8 {
		text := strings.Repeat(string(rune('a'+i)), 8184)
		r := protocol.NewReader(strings.NewReader(string(appendRecord(protocol.TypeStdout, 1, text)) + string(appendRecord(protocol.TypeStdout, 1, text))))
		if i%2 == 1 { // one that had a buffer before
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
			r.Release()
		}
		rec, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		readers, records = append(readers, r), append(records, rec)
	}
	for i, rec := range records {
		if want := strings.Repeat(string(rune('a'+i)), 8184); string(rec.Content) != want {
			t.Errorf("record %d is %.20q", i, rec.Content)
		}
		readers[i].Release()
	}
}

package protocol_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
)

func appendPair(name, value string) []byte { return protocol.AppendPair(nil, name, value) }

var a127, a128, a64k = strings.Repeat("a", 127), strings.Repeat("a", 128), strings.Repeat("a", 70000)

// pairTable is section 3.4 both ways. Rows without encoded are valid, but not
// how we write them.
var pairTable = []struct {
	section, name string
	wire          []byte
	want          []pair
	encoded       []byte
}{
	{"3.4", "nothing", nil, nil, nil},
	{"3.4", "NameValuePair11", h("01 01 6e 76"), []pair{{"n", "v"}}, appendPair("n", "v")},
	{"3.4", "NameValuePair14", h("01 80000080 6e", many(128, 'a')), []pair{{"n", a128}}, appendPair("n", a128)},
	{"3.4", "NameValuePair41", h("80000080 01", many(128, 'a'), "76"), []pair{{a128, "v"}}, appendPair(a128, "v")},
	{"3.4", "NameValuePair44", h("80000080 80000080", many(256, 'a')), []pair{{a128, a128}}, appendPair(a128, a128)},
	{"3.4", "127 is one byte", h("7f 7f", many(254, 'a')), []pair{{a127, a127}}, appendPair(a127, a127)},
	{"3.4", "127 and 128", h("7f 80000080", many(255, 'a')), []pair{{a127, a128}}, appendPair(a127, a128)},
	{"3.4", "128 and 127", h("80000080 7f", many(255, 'a')), []pair{{a128, a127}}, appendPair(a128, a127)},
	{"3.4", "empty value", h("01 00 6e"), []pair{{"n", ""}}, appendPair("n", "")},
	{"3.4", "empty name", h("00 01 76"), []pair{{"", "v"}}, appendPair("", "v")},
	{"3.4", "both empty", h("00 00"), []pair{{"", ""}}, appendPair("", "")},
	{"3.4", "both empty, three times", h("00 00 00 00 00 00"), []pair{{"", ""}, {"", ""}, {"", ""}}, nil},
	{"3.4", "value over 64 KiB", h("01 80011170 6e", many(70000, 'a')), []pair{{"n", a64k}}, appendPair("n", a64k)},
	{"3.4", "name over 64 KiB", h("80011170 01", many(70000, 'a'), "76"), []pair{{a64k, "v"}}, appendPair(a64k, "v")},
	{"3.4", "all four length bytes count", h("01 81000001 6e", many(1<<24+1, 'a')), []pair{{"n", strings.Repeat("a", 1<<24+1)}}, nil},
	{"3.4", "longer length than needed", h("80000001 80000001 6e 76"), []pair{{"n", "v"}}, nil},
	{"3.4", "longer length than needed for nothing", h("80000000 80000000 80000000 00"), []pair{{"", ""}, {"", ""}}, nil},
	{"5.2", "in order, names repeat", h("01 01 61 31 01 01 62 32 01 01 61 33"), []pair{{"a", "1"}, {"b", "2"}, {"a", "3"}},
		concat(appendPair("a", "1"), appendPair("b", "2"), appendPair("a", "3"))},
	{"3.4", "any byte may be in it", h("04 04 00 0a ff 3d  01 00 80 20"), []pair{{"\x00\n\xff=", "\x01\x00\x80 "}}, appendPair("\x00\n\xff=", "\x01\x00\x80 ")},
}

func TestParams(t *testing.T) {
	for _, row := range pairTable {
		t.Run(row.section+" "+row.name, func(t *testing.T) {
			got, err := protocol.ParseParams(string(row.wire))
			wantEqual(t, "error", err, nil)
			wantEqual(t, "pairs", pairsOf(&got), row.want)
			wantEqual(t, "length", got.Len(), len(row.want))
			wantBytes(t, "raw", got.Append(nil), row.wire)
			if row.encoded != nil {
				wantBytes(t, "encoded", row.encoded, row.wire)
				wantBytes(t, "built", newParams(row.want...).Append(nil), row.wire)
			}
		})
	}
}

// Section 3.4: a stream that ends inside a pair gives the pairs before it, and no more.
func TestTruncatedPairs(t *testing.T) {
	for _, pairs := range [][]pair{
		{{"n", "v"}, {"name", "value"}, {"e", ""}},
		{{a128, "v"}, {"n", a128}, {a128, a128}},
		{{"", ""}, {"", a128}, {a128, ""}},
	} {
		var ends []int // of each pair
		var wire []byte
		for _, p := range pairs {
			wire = protocol.AppendPair(wire, p.Name, p.Value)
			ends = append(ends, len(wire))
		}
		for cut := range len(wire) {
			whole, end := 0, 0
			for whole < len(ends) && ends[whole] <= cut {
				end = ends[whole]
				whole++
			}
			checkTruncated(t, wire[:cut], pairs[:whole], end)
		}
	}
}

// checkTruncated wants the pairs of wire, which are whole until the byte end.
func checkTruncated(t *testing.T, wire []byte, want []pair, end int) {
	t.Helper()
	got, err := protocol.ParseParams(string(wire))
	if errors.Is(err, protocol.ErrTruncatedPair) != (end < len(wire)) {
		t.Fatalf("%d bytes, whole until %d: error %v", len(wire), end, err)
	}
	if got.Len() != len(want) || !bytes.Equal(got.Append(nil), wire[:end]) {
		t.Fatalf("%d bytes, whole until %d: %d pairs, raw % x", len(wire), end, got.Len(), got.Append(nil))
	}
}

func TestHostileLengths(t *testing.T) {
	for _, row := range []struct {
		section, name string
		wire          []byte
		pairs         int
	}{
		{"3.4", "CVE-2025-23016: 0x7fffffff + 0x7fffffff", h("ffffffff ffffffff"), 0},
		{"3.4", "CVE-2025-23016 with content", h("ffffffff ffffffff", many(64, 'a')), 0},
		{"3.4", "CVE-2025-23016: the sum is 2^32 with its two NUL", h("ffffffff ffffffff 6e 76"), 0},
		{"3.4", "name of 2 GiB", h("ffffffff 00 6e"), 0},
		{"3.4", "value of 2 GiB", h("00 ffffffff 76"), 0},
		{"3.4", "all 31 bits count", h("c0000000 00"), 0},
		{"3.4", "value one too long", h("01 02 6e 76"), 0},
		{"3.4", "name one too long", h("03 00 6e 76"), 0},
		{"3.4", "after a good one", h("01 01 6e 76 ffffffff ffffffff"), 1},
		{"3.4", "lengths alone", h("01"), 0},
		{"3.4", "three of four length bytes", h("00 800000"), 0},
	} {
		t.Run(row.section+" "+row.name, func(t *testing.T) {
			got, err := protocol.ParseParams(string(row.wire))
			wantEqual(t, "error", err, protocol.ErrTruncatedPair)
			wantEqual(t, "pairs", got.Len(), row.pairs)
			wantEqual(t, "raw is whole pairs", len(got.Append(nil)), 4*row.pairs)
		})
	}
	_, err := protocol.ParseParams(string(h("01 01 6e 76 7f")))
	wantEqual(t, "message", err.Error(), "byte 4: name-value pair is longer than what follows")
}

// Section 5.2: the pairs of a stream do not care for its records.
func TestParamsStraddleRecords(t *testing.T) {
	want := []pair{{"n", "v"}, {a128, ""}, {"", a128}, {"name", "value"}}
	raw := newParams(want...).Append(nil)
	for cut := range len(raw) + 1 {
		var wire []byte
		for _, part := range [][]byte{raw[:cut], raw[cut:]} {
			if len(part) > 0 { // an empty record would end the stream
				wire = protocol.AppendRecord(wire, protocol.TypeParams, 1, part)
			}
		}
		wire = protocol.AppendRecord(wire, protocol.TypeParams, 1, nil)
		got, err := protocol.ParseParams(string(streams(mustRead(t, wire))[protocol.TypeParams]))
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		wantEqual(t, "pairs", pairsOf(&got), want)
	}
}

func TestParamsZero(t *testing.T) {
	var p protocol.Params
	wantEqual(t, "length", p.Len(), 0)
	wantEqual(t, "pairs", pairsOf(&p), []pair(nil))
	wantEqual(t, "raw", p.Append(nil), []byte(nil))
	wantEqual(t, "get", p.Get("n"), "")
	p.Set("n", "v")
	wantEqual(t, "pairs", pairsOf(&p), []pair{{"n", "v"}})
}

func TestParamsLookup(t *testing.T) {
	p := newParams(pair{"a", "1"}, pair{"b", ""}, pair{"a", "2"}, pair{"", "x"})
	for _, row := range []struct {
		name, want string
		ok         bool
	}{{"a", "2", true}, {"b", "", true}, {"", "x", true}, {"c", "", false}, {"A", "", false}} {
		got, ok := p.Lookup(row.name)
		if got != row.want || ok != row.ok || p.Get(row.name) != row.want {
			t.Errorf("%q: %q, %v, want %q, %v", row.name, got, ok, row.want, row.ok)
		}
	}
}

func TestParamsSet(t *testing.T) {
	before := []pair{{"a", "1"}, {"b", "2"}, {"a", "3"}, {"c", "4"}}
	for _, row := range []struct {
		what        string
		name, value string
		want        []pair
	}{
		{"the only one", "b", "x", []pair{{"a", "1"}, {"b", "x"}, {"a", "3"}, {"c", "4"}}},
		{"the last of a name, the others go", "a", "x", []pair{{"b", "2"}, {"a", "x"}, {"c", "4"}}},
		{"a new one", "d", "x", []pair{{"a", "1"}, {"b", "2"}, {"a", "3"}, {"c", "4"}, {"d", "x"}}},
		{"to nothing", "c", "", []pair{{"a", "1"}, {"b", "2"}, {"a", "3"}, {"c", ""}}},
	} {
		t.Run(row.what, func(t *testing.T) {
			p, err := protocol.ParseParams(string(newParams(before...).Append(nil)))
			wantEqual(t, "error", err, nil)
			p.Set(row.name, row.value)
			wantEqual(t, "pairs", pairsOf(&p), row.want)
			wantBytes(t, "raw", p.Append(nil), newParams(row.want...).Append(nil))
			p.Set(row.name, row.value)
			wantEqual(t, "pairs when set again", pairsOf(&p), row.want)
		})
	}
}

// The bytes as they came are gone with the first change.
func TestParamsAppendAfterChange(t *testing.T) {
	p, err := protocol.ParseParams(string(h("80000001 80000001 6e 76")))
	wantEqual(t, "error", err, nil)
	wantBytes(t, "unchanged", p.Append([]byte("x")), h("78 80000001 80000001 6e 76"))
	p.Add("m", "w")
	wantBytes(t, "changed", p.Append([]byte("x")), h("78 01 01 6e 76 01 01 6d 77"))
}

// Params are passed by value: to change one copy must not change another.
func TestParamsCopies(t *testing.T) {
	want := []pair{{"a", "1"}, {"b", "2"}, {"a", "3"}}
	parsed, err := protocol.ParseParams(string(newParams(want...).Append(nil)))
	wantEqual(t, "error", err, nil)
	empty, err := protocol.ParseParams("")
	wantEqual(t, "error", err, nil)
	for _, p := range []protocol.Params{parsed, empty, *newParams(want...)} {
		before := pairsOf(&p)
		set, one := p, p
		set.Set("a", "x")
		set.Add("c", "set")
		one.Add("c", "one")
		wantEqual(t, "the original", pairsOf(&p), before)
		wantEqual(t, "set", set.Get("a")+" "+set.Get("c"), "x set")
		wantEqual(t, "one", one.Get("c"), "one")
	}
	one, two := parsed, parsed
	one.Add("c", "one")
	two.Add("c", "two")
	wantEqual(t, "one and two", one.Get("c")+two.Get("c"), "onetwo")
}

func TestParamsAllStops(t *testing.T) {
	p := newParams(pair{"a", "1"}, pair{"b", "2"})
	for name := range p.All() {
		wantEqual(t, "name", name, "a")
		break
	}
	for name := range p.All() { // changing what is iterated over is allowed
		p.Set(name, "x")
	}
	wantEqual(t, "pairs", pairsOf(p), []pair{{"a", "x"}, {"b", "x"}})
}

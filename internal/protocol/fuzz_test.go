package protocol_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
)

// What parses re-encodes to the same records, however it arrives, and the
// Reader asks for no more memory than its two buffers.
func FuzzReader(f *testing.F) {
	for _, row := range wireTable {
		if len(row.wire) < 500 { // the fuzzer is slow with large ones
			f.Add(row.wire)
		}
	}
	f.Add(h("01 05 0001 ffff ff 00"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		src := &script{t: t, steps: []step{{data: wire}, {err: io.EOF}}}
		want, wantErr := readAll(src)
		if limit := 128 << 10; src.most > limit || len(wire) < 8 && src.most > 4<<10 {
			t.Errorf("a buffer of %d bytes for %d", src.most, len(wire))
		}
		for _, feed := range feeds {
			got, err := readAll(feed.wrap(bytes.NewReader(wire)))
			if err != wantErr || !slices.Equal(got, want) {
				t.Errorf("%s: %d records, %v, want %d, %v", feed.name, len(got), err, len(want), wantErr)
			}
		}
		var again []byte
		for _, rec := range want {
			again = protocol.AppendRecord(again, rec.Type, rec.ID, []byte(rec.Content))
		}
		if !slices.Equal(mustRead(t, again), want) {
			t.Error("encoded, the records are others")
		}
		checkReaderError(t, wire, want, wantErr)
	})
}

// checkReaderError wants the error that the bytes after the last record call for.
func checkReaderError(t *testing.T, wire []byte, read []record, got error) {
	t.Helper()
	for range read {
		wire = wire[8+int(wire[4])<<8+int(wire[5])+int(wire[6]):]
	}
	var want error = io.ErrUnexpectedEOF
	switch {
	case len(wire) == 0:
		want = io.EOF
	case wire[0] != protocol.Version:
		want = protocol.VersionError(wire[0])
	}
	if got != want {
		t.Errorf("error %v, want %v", got, want)
	}
}

// What parses keeps its bytes, and re-encodes to something that parses equal.
func FuzzParams(f *testing.F) {
	for _, row := range pairTable {
		f.Add(row.wire[:min(len(row.wire), 500)], "n", "x")
	}
	f.Add(h("ffffffff ffffffff"), "", "")
	f.Add(h("01 01 61 31 01 01 61 32"), "a", "3")
	f.Fuzz(func(t *testing.T, raw []byte, name, value string) {
		p, err := protocol.ParseParams(string(raw))
		if err != nil && !errors.Is(err, protocol.ErrTruncatedPair) {
			t.Fatalf("error %v", err)
		}
		kept := p.Append(nil)
		if !bytes.HasPrefix(raw, kept) || (err == nil) != (len(kept) == len(raw)) {
			t.Fatalf("raw % x, want % x, error %v", kept, raw, err)
		}
		checkParams(t, kept, pairsOf(&p))
		checkParams(t, newParams(pairsOf(&p)...).Append(nil), pairsOf(&p))
		checkParamsRecords(t, protocol.AppendParams(nil, 1, &p, nil), &p)
		checkSet(t, p, name, value)
	})
}

func checkParams(t *testing.T, raw []byte, want []pair) {
	t.Helper()
	p, err := protocol.ParseParams(string(raw))
	if err != nil || !slices.Equal(pairsOf(&p), want) {
		t.Errorf("% x parses to %d pairs, want %d, error %v", raw, p.Len(), len(want), err)
	}
}

// checkSet wants one pair of that name after Set, and the others untouched.
func checkSet(t *testing.T, p protocol.Params, name, value string) {
	t.Helper()
	others := func(all []pair) []pair {
		return slices.DeleteFunc(all, func(x pair) bool { return x.Name == name })
	}
	before := others(pairsOf(&p))
	p.Set(name, value)
	if got, ok := p.Lookup(name); !ok || got != value || p.Len() != len(before)+1 {
		t.Errorf("after Set(%q, %q): %q, %d pairs", name, value, got, p.Len())
	}
	if !slices.Equal(others(pairsOf(&p)), before) {
		t.Errorf("Set(%q) changed another", name)
	}
	checkParams(t, p.Append(nil), pairsOf(&p))
}

// A request that was written is read as it was. The fuzzer is slow with large
// inputs, so params and body are repeated.
func FuzzRequest(f *testing.F) {
	f.Add(uint16(1), uint16(1), uint16(1), h("01 01 6e 76"), []byte("body"), []byte(nil))
	f.Add(uint16(2), uint16(65535), uint16(0), []byte(nil), []byte("no"), []byte("no"))
	f.Add(uint16(3), uint16(258), uint16(20000), h("00 00 80000001 80000001 6e 76"), []byte("body"), []byte("data"))
	f.Add(uint16(9), uint16(3), uint16(700), appendPair("n", a127), bytes.Repeat([]byte("x"), 100), []byte("data"))
	f.Fuzz(func(t *testing.T, role, id, times uint16, raw, stdin, data []byte) {
		if id == 0 {
			t.Skip("belongs to no request")
		}
		const most = 300000
		p, _ := protocol.ParseParams(string(bytes.Repeat(raw, min(int(times), most/(len(raw)+1)))))
		stdin = bytes.Repeat(stdin, min(int(times), most/(len(stdin)+1)))
		req := &protocol.Request{Role: protocol.Role(role), Params: p, Stdin: bytes.NewReader(stdin), Data: bytes.NewReader(data)}
		checkRequest(t, id, req, requestStreams(req.Role, p, stdin, data))
	})
}

// requestStreams is what a request of that role sends (section 6).
func requestStreams(role protocol.Role, p protocol.Params, stdin, data []byte) map[protocol.Type]string {
	m := map[protocol.Type]string{protocol.TypeParams: string(p.Append(nil)), protocol.TypeStdin: string(stdin)}
	switch role {
	case protocol.RoleAuthorizer:
		m[protocol.TypeStdin] = ""
	case protocol.RoleFilter:
		m[protocol.TypeData] = string(data)
	}
	return m
}

func checkRequest(t *testing.T, id uint16, req *protocol.Request, want map[protocol.Type]string) {
	t.Helper()
	var wire bytes.Buffer
	keep := id%2 == 0
	if err := protocol.WriteRequest(&wire, id, req, keep); err != nil {
		t.Fatal(err)
	}
	wantDefensive(t, wire.Bytes())
	got := readRequest(t, mustRead(t, wire.Bytes()), id, protocol.Begin{Role: req.Role, Keep: keep})
	if !maps.Equal(got, want) {
		wantEqual(t, "streams", got, want)
	}
}

// readRequest is the content of a request's streams. It wants BEGIN_REQUEST
// first, all records of this id, and each stream ended once, by the empty
// record, before the next begins.
func readRequest(t *testing.T, all []record, id uint16, want protocol.Begin) map[protocol.Type]string {
	t.Helper()
	begin, err := protocol.ParseBegin([]byte(all[0].Content))
	if all[0].Type != protocol.TypeBeginRequest || begin != want || err != nil {
		t.Fatalf("first is %v %+v, %v, want %+v", all[0].Type, begin, err, want)
	}
	ended := make(map[protocol.Type]string)
	var content strings.Builder
	for i, rec := range all[1:] {
		_, twice := ended[rec.Type]
		if rec.ID != id || twice || content.Len() > 0 && rec.Type != all[i].Type {
			t.Fatalf("%v of id %d out of place", rec.Type, rec.ID)
		}
		content.WriteString(rec.Content)
		if rec.Content == "" {
			ended[rec.Type] = content.String()
			content.Reset()
		}
	}
	wantEqual(t, "left without an end", content.Len(), 0)
	return ended
}

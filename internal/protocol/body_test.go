package protocol_test

import (
	"errors"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
)

func TestBegin(t *testing.T) {
	for _, row := range []struct {
		section, name string
		wire          []byte
		want          protocol.Begin
		sent          bool // we write it so, too
	}{
		{"5.1", "responder", h("01 01 0001 0008 00 00  0001 00 0000000000"), protocol.Begin{Role: 1}, true},
		{"5.1", "authorizer", h("01 01 0001 0008 00 00  0002 00 0000000000"), protocol.Begin{Role: 2}, true},
		{"5.1", "filter", h("01 01 0001 0008 00 00  0003 00 0000000000"), protocol.Begin{Role: 3}, true},
		{"5.1", "keep conn", h("01 01 0001 0008 00 00  0001 01 0000000000"), protocol.Begin{Role: 1, Keep: true}, true},
		{"5.1", "the role is big-endian", h("01 01 0001 0008 00 00  0102 00 0000000000"), protocol.Begin{Role: 0x0102}, true},
		{"5.1", "other flags are ignored", h("01 01 0001 0008 00 00  0001 fe 0000000000"), protocol.Begin{Role: 1}, false},
		{"5.1", "all flags", h("01 01 0001 0008 00 00  0001 ff 0000000000"), protocol.Begin{Role: 1, Keep: true}, false},
		{"5.1", "reserved is ignored", h("01 01 0001 0008 00 00  0001 01 ffffffffff"), protocol.Begin{Role: 1, Keep: true}, false},
	} {
		t.Run(row.section+" "+row.name, func(t *testing.T) {
			got, err := protocol.ParseBegin([]byte(mustRead(t, row.wire)[0].Content))
			wantEqual(t, "error", err, nil)
			wantEqual(t, "begin", got, row.want)
			if row.sent {
				wantBytes(t, "wire", protocol.AppendBegin(nil, 1, row.want), row.wire)
			}
		})
	}
}

func TestEnd(t *testing.T) {
	for _, row := range []struct {
		section, name string
		wire          []byte
		want          protocol.End
		sent          bool
	}{
		{"5.5", "complete", h("01 03 0001 0008 00 00  00000000 00 000000"), protocol.End{}, true},
		{"5.5", "cannot multiplex", h("01 03 0001 0008 00 00  00000000 01 000000"), protocol.End{Status: 1}, true},
		{"5.5", "overloaded", h("01 03 0001 0008 00 00  00000000 02 000000"), protocol.End{Status: 2}, true},
		{"5.5", "unknown role", h("01 03 0001 0008 00 00  00000000 03 000000"), protocol.End{Status: 3}, true},
		{"5.5", "appStatus is big-endian", h("01 03 0001 0008 00 00  01020304 00 000000"), protocol.End{AppStatus: 0x01020304}, true},
		{"5.5", "the exit status -1", h("01 03 0001 0008 00 00  ffffffff 00 000000"), protocol.End{AppStatus: 0xffffffff}, true},
		{"5.5", "reserved is ignored", h("01 03 0001 0008 00 00  00000001 00 ffffff"), protocol.End{AppStatus: 1}, false},
		{"5.5", "a status of the future", h("01 03 0001 0008 00 00  00000000 09 000000"), protocol.End{Status: 9}, true},
	} {
		t.Run(row.section+" "+row.name, func(t *testing.T) {
			got, err := protocol.ParseEnd([]byte(mustRead(t, row.wire)[0].Content))
			wantEqual(t, "error", err, nil)
			wantEqual(t, "end", got, row.want)
			if row.sent {
				wantBytes(t, "wire", protocol.AppendEnd(nil, 1, row.want), row.wire)
			}
		})
	}
}

func TestUnknownType(t *testing.T) {
	for typ, wire := range map[protocol.Type][]byte{ // section 4.2
		0:   h("01 0b 0000 0008 00 00  00 00000000000000"),
		12:  h("01 0b 0000 0008 00 00  0c 00000000000000"),
		255: h("01 0b 0000 0008 00 00  ff 00000000000000"),
	} {
		wantBytes(t, typ.String(), protocol.AppendUnknownType(nil, typ), wire)
	}
}

// Sections 5.1, 5.5: the bodies have eight bytes, no fewer, no more.
func TestBodyLength(t *testing.T) {
	for n := range 20 {
		if n == 8 {
			continue
		}
		body := make([]byte, n)
		_, begin := protocol.ParseBegin(body)
		_, end := protocol.ParseEnd(body)
		for _, err := range []error{begin, end} {
			if !errors.Is(err, protocol.ErrBodyLength) {
				t.Errorf("%d bytes: %v, want ErrBodyLength", n, err)
			}
		}
	}
	_, err := protocol.ParseEnd(nil)
	wantEqual(t, "message", err.Error(), "END_REQUEST: content is not 8 bytes long")
}

// Section 8 gives the names and numbers.
func TestNames(t *testing.T) {
	for typ, want := range map[protocol.Type]string{
		0: "type 0", 1: "BEGIN_REQUEST", 2: "ABORT_REQUEST", 3: "END_REQUEST", 4: "PARAMS", 5: "STDIN", 6: "STDOUT",
		7: "STDERR", 8: "DATA", 9: "GET_VALUES", 10: "GET_VALUES_RESULT", 11: "UNKNOWN_TYPE", 12: "type 12", 255: "type 255",
	} {
		wantEqual(t, "type", typ.String(), want)
	}
	for role, want := range map[protocol.Role]string{
		0: "role 0", 1: "RESPONDER", 2: "AUTHORIZER", 3: "FILTER", 4: "role 4", 65535: "role 65535",
	} {
		wantEqual(t, "role", role.String(), want)
	}
	for status, want := range map[protocol.Status]string{
		0: "REQUEST_COMPLETE", 1: "CANT_MPX_CONN", 2: "OVERLOADED", 3: "UNKNOWN_ROLE", 4: "status 4", 255: "status 255",
	} {
		wantEqual(t, "status", status.String(), want)
	}
}

// knows answers as a server does (section 4.1).
func knows(name string) (string, bool) {
	v, ok := map[string]string{protocol.MaxConns: "100", protocol.MaxReqs: "50", protocol.MpxsConns: "1"}[name]
	return v, ok
}

func TestGetValues(t *testing.T) {
	for _, row := range []struct {
		section, name string
		names         []string
		want          []byte
	}{
		{"4.1", "nothing", nil, h("01 09 0000 0000 08 00", many(8, 0))},
		{"4.1", "one, with an empty value", []string{"FCGI_MAX_REQS"},
			h("01 09 0000 000f 01 00  0d 00", text("FCGI_MAX_REQS"), "00")},
		{"4.1", "two in order", []string{"FCGI_MPXS_CONNS", "FCGI_MAX_CONNS"},
			h("01 09 0000 0021 07 00  0f 00", text("FCGI_MPXS_CONNS"), "0e 00", text("FCGI_MAX_CONNS"), many(7, 0))},
		{"4.1", "padded when aligned, for libfcgi", []string{"123456"}, h("01 09 0000 0008 08 00  06 00", text("123456"), many(8, 0))},
	} {
		t.Run(row.section+" "+row.name, func(t *testing.T) {
			got := protocol.AppendGetValues([]byte("x"), row.names...)
			wantBytes(t, "wire", got, concat([]byte("x"), row.want))
			wantDefensive(t, got[1:])
		})
	}
}

var getValuesResultTable = []struct {
	section, name string
	query         []byte // content of GET_VALUES
	want          []byte // content of GET_VALUES_RESULT
}{
	{"4.1", "nothing asked", nil, nil},
	{"4.1", "one", h("0e 00", text("FCGI_MAX_CONNS")), h("0e 03", text("FCGI_MAX_CONNS"), text("100"))},
	{"4.1", "all, in the order asked",
		h("0f 00", text("FCGI_MPXS_CONNS"), "0d 00", text("FCGI_MAX_REQS"), "0e 00", text("FCGI_MAX_CONNS")),
		h("0f 01", text("FCGI_MPXS_CONNS"), text("1"), "0d 02", text("FCGI_MAX_REQS"), text("50"), "0e 03", text("FCGI_MAX_CONNS"), text("100"))},
	{"4.1", "asked twice", h("0d 00", text("FCGI_MAX_REQS"), "0d 00", text("FCGI_MAX_REQS")), h("0d 02", text("FCGI_MAX_REQS"), text("50"))},
	{"4.1", "not understood", h("03 00", text("FOO")), nil},
	{"4.1", "not understood among others", h("03 00", text("FOO"), "0d 00", text("FCGI_MAX_REQS"), "00 00"), h("0d 02", text("FCGI_MAX_REQS"), text("50"))},
	{"4.1", "another case is another name", h("0d 00", text("fcgi_max_reqs")), nil},
	{"4.1", "a value in the query is not read", h("0d 01", text("FCGI_MAX_REQS"), text("9")), h("0d 02", text("FCGI_MAX_REQS"), text("50"))},
	{"4.1", "long lengths in the query", h("8000000d 80000000", text("FCGI_MAX_REQS")), h("0d 02", text("FCGI_MAX_REQS"), text("50"))},
	{"4.1", "broken after the first", h("0d 00", text("FCGI_MAX_REQS"), "0e 00", text("FCGI")), h("0d 02", text("FCGI_MAX_REQS"), text("50"))},
	{"4.1", "broken at once", h("ff"), nil},
	{"4.1", "CVE-2025-23016", h("ffffffff ffffffff"), nil},
}

func TestGetValuesResult(t *testing.T) {
	for _, row := range getValuesResultTable {
		t.Run(row.section+" "+row.name, func(t *testing.T) {
			got := protocol.AppendGetValuesResult(nil, row.query, knows)
			wantEqual(t, "records", mustRead(t, got), []record{{protocol.TypeGetValuesResult, 0, string(row.want)}})
			wantDefensive(t, got)
		})
	}
	got := protocol.AppendGetValuesResult([]byte("x"), nil, knows)
	wantBytes(t, "empty result", got, h("78 01 0a 0000 0000 00 00"))
}

// A query of a full record, all of one name or all of nonsense, has one short answer.
func TestGetValuesResultIsShort(t *testing.T) {
	for _, pair := range [][]byte{h("0d 00", text("FCGI_MAX_REQS")), h("00 00"), h("01 00 41")} {
		query := make([]byte, 0, 65535)
		for len(query)+len(pair) <= 65535 {
			query = append(query, pair...)
		}
		if got := protocol.AppendGetValuesResult(nil, query, knows); len(got) > 32 {
			t.Errorf("answer of %d bytes", len(got))
		}
	}
}

func TestRefusal(t *testing.T) {
	reason := errors.New("no such script")
	err := error(&protocol.Refusal{HTTPStatus: 404, AppStatus: 1, Reason: reason})
	wantEqual(t, "message", err.Error(), "no such script")
	wantEqual(t, "is its reason", errors.Is(err, reason), true)
}

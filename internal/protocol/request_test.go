package protocol_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
)

func TestAppendParams(t *testing.T) {
	small, full, huge := strings.Repeat("s", 20000), strings.Repeat("f", 65528-6), strings.Repeat("h", 150000)
	for _, row := range []struct {
		section, name string
		values        []string
		want          []int // content of each record
	}{
		{"5.2", "nothing is the end alone", nil, []int{0}},
		{"5.2", "one", []string{"v"}, []int{4, 0}},
		{"5.2", "as many as fit", []string{small, small, small}, []int{60018, 0}},
		{"5.2", "the fourth does not", []string{small, small, small, small}, []int{60018, 20006, 0}},
		{"5.2", "an exact fit", []string{full}, []int{65528, 0}},
		{"5.2", "an exact fit and one", []string{full, "v"}, []int{65528, 4, 0}},
		{"5.2", "one too long for a record", []string{full + "f"}, []int{65528, 1, 0}},
		{"5.2", "one of several records", []string{huge}, []int{65528, 65528, 18950, 0}},
		{"5.2", "small ones around a divided one are whole",
			[]string{"v", huge, small, small, small, small, "v"}, []int{4, 65528, 65528, 18950, 60018, 20010, 0}},
	} {
		t.Run(row.section+" "+row.name, func(t *testing.T) {
			p := new(protocol.Params)
			for _, v := range row.values {
				p.Add("n", v)
			}
			wire := protocol.AppendParams([]byte("x"), 258, p)[1:]
			wantDefensive(t, wire)
			var got []int
			for _, rec := range mustRead(t, wire) {
				got = append(got, len(rec.Content))
			}
			wantEqual(t, "lengths", got, row.want)
			checkParamsRecords(t, wire, p)
		})
	}
}

// checkParamsRecords wants the bytes of p in wire, cut between pairs except
// inside one that is longer than a record (php-fpm parses each record alone).
func checkParamsRecords(t testing.TB, wire []byte, p *protocol.Params) {
	t.Helper()
	all := mustRead(t, wire)
	raw, whole := "", ""
	for i, rec := range all {
		if rec.Type != protocol.TypeParams || (rec.Content == "") != (i == len(all)-1) {
			t.Fatalf("record %d of %d is %v with %d bytes", i, len(all), rec.Type, len(rec.Content))
		}
		raw += rec.Content
		whole += rec.Content
		parsed, err := protocol.ParseParams([]byte(whole))
		switch {
		case err == nil:
			whole = ""
		case parsed.Len() > 0 || len(rec.Content) != protocol.MaxContent:
			t.Errorf("record %d divides a pair that had room in another", i)
		}
	}
	wantBytes(t, "raw", []byte(raw), p.Append(nil))
}

// Whatever the lengths are: no pair is divided without need.
func TestAppendParamsRandom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		p := new(protocol.Params)
		for range rnd.IntN(40) {
			size := []int{10, 1000, 30000, 65528, 150000}[rnd.IntN(5)]
			// Zero and high bytes in a value look like lengths to who starts inside it.
			p.Add("n", strings.Repeat(string([]byte{byte(rnd.IntN(256))}), rnd.IntN(size)))
		}
		wire := protocol.AppendParams(nil, 1, p)
		wantDefensive(t, wire)
		checkParamsRecords(t, wire, p)
	}
}

// Bytes that came go on as they came: also lengths longer than needed.
func TestAppendParamsKeepsRaw(t *testing.T) {
	raw := h("80000001 80000001 6e 76")
	for len(raw) < 100000 {
		raw = append(raw, raw...)
	}
	p, err := protocol.ParseParams(raw)
	wantEqual(t, "error", err, nil)
	checkParamsRecords(t, protocol.AppendParams(nil, 1, &p), &p)
}

func TestWriteRequest(t *testing.T) {
	const begin1, params1 = "0008 00 00", "01 04 0102 0004 04 00 0101 6e76 00000000  01 04 0102 0000 00 00"
	const noStdin, noData = "01 05 0102 0000 00 00", "01 08 0102 0000 00 00"
	body := h("01 05 0102 0004 04 00", text("body"), "00000000", noStdin)
	for _, row := range []struct {
		section, name string
		req           protocol.Request
		keep          bool
		want          []byte
	}{
		{"6.2", "responder", protocol.Request{Role: 1, Stdin: strings.NewReader("body")}, false,
			concat(h("01 01 0102", begin1, "0001 00 0000000000", params1), body)},
		{"6.2", "responder without a body", protocol.Request{Role: 1}, false,
			h("01 01 0102", begin1, "0001 00 0000000000", params1, noStdin)},
		{"6.2", "responder with an empty body", protocol.Request{Role: 1, Stdin: strings.NewReader("")}, true,
			h("01 01 0102", begin1, "0001 01 0000000000", params1, noStdin)},
		{"6.2", "responder has no DATA", protocol.Request{Role: 1, Data: strings.NewReader("data")}, false,
			h("01 01 0102", begin1, "0001 00 0000000000", params1, noStdin)},
		{"6.3", "authorizer", protocol.Request{Role: 2}, true,
			h("01 01 0102", begin1, "0002 01 0000000000", params1, noStdin)},
		{"6.3", "authorizer gets no body", protocol.Request{Role: 2, Stdin: strings.NewReader("body")}, false,
			h("01 01 0102", begin1, "0002 00 0000000000", params1, noStdin)},
		{"6.4", "filter", protocol.Request{Role: 3, Stdin: strings.NewReader("body"), Data: strings.NewReader("data")}, false,
			concat(h("01 01 0102", begin1, "0003 00 0000000000", params1), body,
				h("01 08 0102 0004 04 00", text("data"), "00000000", noData))},
		{"6.4", "filter without streams", protocol.Request{Role: 3}, true,
			h("01 01 0102", begin1, "0003 01 0000000000", params1, noStdin, noData)},
	} {
		t.Run(row.section+" "+row.name, func(t *testing.T) {
			row.req.Params.Add("n", "v")
			w := new(writes)
			wantEqual(t, "error", protocol.WriteRequest(w, 258, &row.req, row.keep), nil)
			wantBytes(t, "wire", w.wire(), row.want)
			for _, call := range w.calls { // nothing is cut inside a record
				wantDefensive(t, call)
			}
		})
	}
}

// A body that breaks must not look like one that ended.
func TestWriteRequestBrokenBody(t *testing.T) {
	broken := errors.New("client went away")
	for _, typ := range []protocol.Type{protocol.TypeStdin, protocol.TypeData} {
		w := new(writes)
		src := &script{t: t, steps: []step{{[]byte("half"), broken}}}
		req := &protocol.Request{Role: protocol.RoleFilter, Stdin: src}
		if typ == protocol.TypeData {
			req.Stdin, req.Data = nil, src
		}
		err := protocol.WriteRequest(w, 1, req, true)
		wantEqual(t, "error", err, broken)
		wantEqual(t, "message", err.Error(), fmt.Sprintf("write %v: client went away", typ))
		all := mustRead(t, w.wire())
		wantEqual(t, "last record", all[len(all)-1], record{typ, 1, "half"})
	}
}

func TestWriteRequestBrokenConnection(t *testing.T) {
	broken := errors.New("broken pipe")
	for calls := range 5 {
		req := &protocol.Request{Role: protocol.RoleFilter, Stdin: strings.NewReader("a"), Data: strings.NewReader("b")}
		wantEqual(t, "error", protocol.WriteRequest(&writes{left: calls, err: broken}, 1, req, true), broken)
	}
}

const (
	endOf42 = "01 03 0102 0008 00 00  0000002a 00 000000"
	outRec  = "01 06 0102 0003 00 00 6f7574"
	errRec  = "01 07 0102 0003 01 00 657272 00"
)

var responseTable = []struct {
	section, name  string
	wire           []byte
	stdout, stderr string
	want           protocol.End
	err            error
}{
	{"5.5", "END alone", h(endOf42), "", "", protocol.End{AppStatus: 42}, nil},
	{"5.3", "STDOUT", h(outRec, endOf42), "out", "", protocol.End{AppStatus: 42}, nil},
	{"5.3", "both, with their ends", h(outRec, errRec, outRec, "01 06 0102 0000 00 00", errRec, "01 07 0102 0000 00 00", endOf42),
		"outout", "errerr", protocol.End{AppStatus: 42}, nil},
	{"5.5", "refused", h("01 03 0102 0008 00 00  00000000 02 000000"), "", "", protocol.End{Status: protocol.StatusOverloaded}, nil},
	{"3.3", "other ids are passed over", h("01 06 0001 0001 00 00 78", "01 03 0001 0008 00 00 0000000000000000", outRec, endOf42),
		"out", "", protocol.End{AppStatus: 42}, nil},
	{"3.3", "management records are passed over", h("01 0a 0000 0002 00 00 0000", "01 0b 0000 0008 00 00 ff00000000000000", outRec, endOf42),
		"out", "", protocol.End{AppStatus: 42}, nil},
	{"3.3", "also STDOUT and END with the id 0", h("01 06 0000 0001 00 00 78", "01 03 0000 0008 00 00 0000000000000000", outRec, endOf42),
		"out", "", protocol.End{AppStatus: 42}, nil},
	{"3.3", "other types are passed over", h("01 05 0102 0001 00 00 78", "01 63 0102 0001 00 00 78", outRec, endOf42),
		"out", "", protocol.End{AppStatus: 42}, nil},
	{"5.5", "what follows END is the next request's", h(outRec, endOf42, outRec), "out", "", protocol.End{AppStatus: 42}, nil},
	{"5.5", "closed at once", nil, "", "", protocol.End{}, protocol.ErrNoEnd},
	{"5.5", "closed before END", h(outRec), "out", "", protocol.End{}, protocol.ErrNoEnd},
	{"5.5", "closed inside END", h(outRec, endOf42)[:20], "out", "", protocol.End{}, io.ErrUnexpectedEOF},
	{"5.5", "short END", h("01 03 0102 0007 00 00 0000002a 00 0000"), "", "", protocol.End{}, protocol.ErrBodyLength},
	{"5.5", "END without content", h("01 03 0102 0000 00 00"), "", "", protocol.End{}, protocol.ErrBodyLength},
	{"3.3", "not FastCGI", []byte("HTTP/1.1 400 Bad Request"), "", "", protocol.End{}, protocol.VersionError('H')},
}

func TestReadResponse(t *testing.T) {
	for _, row := range responseTable {
		for _, feed := range feeds {
			if strings.HasPrefix(feed.name, "a timeout") {
				continue // see TestReadResponseTimeout
			}
			t.Run(row.section+" "+row.name+"/"+feed.name, func(t *testing.T) {
				var stdout, stderr bytes.Buffer
				req := &protocol.Request{Stdout: &stdout, Stderr: &stderr}
				got, err := protocol.ReadResponse(protocol.NewReader(feed.wrap(bytes.NewReader(row.wire))), 258, req)
				wantEqual(t, "error", err, row.err)
				wantEqual(t, "end", got, row.want)
				wantEqual(t, "output", []string{stdout.String(), stderr.String()}, []string{row.stdout, row.stderr})
			})
		}
	}
}

// A timeout goes to the caller, who may call again and loses nothing.
func TestReadResponseTimeout(t *testing.T) {
	wire := concat(appendRecord(protocol.TypeStdout, 1, "output"), protocol.AppendEnd(nil, 1, protocol.End{AppStatus: 3}))
	r := protocol.NewReader(&slowReader{src: bytes.NewReader(wire), err: os.ErrDeadlineExceeded})
	var stdout strings.Builder
	for timeouts := 0; ; timeouts++ {
		end, err := protocol.ReadResponse(r, 1, &protocol.Request{Stdout: &stdout})
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil || end.AppStatus != 3 || stdout.String() != "output" || timeouts != len(wire) {
			t.Errorf("%+v, %v, %q after %d timeouts", end, err, stdout.String(), timeouts)
		}
		return
	}
}

// After END the connection is at the next record, and can be used again.
func TestReadResponseTwice(t *testing.T) {
	one := concat(appendRecord(protocol.TypeStdout, 1, "one"), protocol.AppendEnd(nil, 1, protocol.End{}))
	two := concat(appendRecord(protocol.TypeStdout, 1, "two"), protocol.AppendEnd(nil, 1, protocol.End{AppStatus: 2}))
	r := protocol.NewReader(bytes.NewReader(concat(one, two)))
	for i, want := range []string{"one", "two"} {
		var stdout strings.Builder
		end, err := protocol.ReadResponse(r, 1, &protocol.Request{Stdout: &stdout})
		if err != nil || stdout.String() != want || end.AppStatus != uint32(2*i) {
			t.Errorf("%q, %+v, %v", stdout.String(), end, err)
		}
	}
	wantEqual(t, "buffered", r.Buffered(), 0)
}

func TestReadResponseErrors(t *testing.T) {
	broken := errors.New("broken")
	wire := concat(appendRecord(protocol.TypeStdout, 1, "out"), appendRecord(protocol.TypeStderr, 1, "err"), protocol.AppendEnd(nil, 1, protocol.End{AppStatus: 1}))
	src := func() *protocol.Reader { return protocol.NewReader(bytes.NewReader(wire)) }
	_, err := protocol.ReadResponse(src(), 1, &protocol.Request{Stdout: &writes{err: broken}})
	wantEqual(t, "message", err.Error(), "deliver STDOUT: broken")
	wantEqual(t, "error", err, broken)
	_, err = protocol.ReadResponse(src(), 1, &protocol.Request{Stderr: &writes{err: broken}})
	wantEqual(t, "message", err.Error(), "deliver STDERR: broken")
	_, err = protocol.ReadResponse(protocol.NewReader(&script{t: t, steps: []step{{err: broken}}}), 1, &protocol.Request{})
	wantEqual(t, "message", err.Error(), "read response: broken")
	end, err := protocol.ReadResponse(src(), 1, &protocol.Request{}) // nil writers discard
	if err != nil || end.AppStatus != 1 {
		t.Errorf("%+v, %v", end, err)
	}
}

package protocol_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
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
			wire := protocol.AppendParams([]byte("x"), 258, p, nil)[1:]
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
		parsed, err := protocol.ParseParams(whole)
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
		wire := protocol.AppendParams(nil, 1, p, nil)
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
	p, err := protocol.ParseParams(string(raw))
	wantEqual(t, "error", err, nil)
	checkParamsRecords(t, protocol.AppendParams(nil, 1, &p, nil), &p)
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

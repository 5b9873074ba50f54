package protocol

import (
	"strings"
	"testing"
)

func paramsOf(pairs ...string) *Params {
	var raw []byte
	for i := 0; i < len(pairs); i += 2 {
		raw = AppendPair(raw, pairs[i], pairs[i+1])
	}
	p, err := ParseParams(string(raw))
	if err != nil {
		panic(err)
	}
	return &p
}

const (
	traceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	traceOf     = "4bf92f3577b34da6a3ce929d0e0e4736"
)

// The web server's word comes first, then the client's, then that of a trace; what could
// do harm anywhere is not taken.
func TestIdentify(t *testing.T) {
	for name, test := range map[string]struct {
		params []string
		want   string // "" is one that is made
	}{
		"nothing":              {nil, ""},
		"web server":           {[]string{"REQUEST_ID", "a-1", "HTTP_X_REQUEST_ID", "b", "HTTP_TRACEPARENT", traceParent}, "a-1"},
		"client":               {[]string{"HTTP_X_REQUEST_ID", "Root=1-67891233:x_y.z+@", "HTTP_TRACEPARENT", traceParent}, "Root=1-67891233:x_y.z+@"},
		"trace":                {[]string{"HTTP_TRACEPARENT", traceParent}, traceOf},
		"trace of the future":  {[]string{"HTTP_TRACEPARENT", "cc" + traceParent[2:] + "-more"}, traceOf},
		"empty of both":        {[]string{"REQUEST_ID", "", "HTTP_X_REQUEST_ID", "", "HTTP_TRACEPARENT", ""}, ""},
		"unfit of web server":  {[]string{"REQUEST_ID", "a b", "HTTP_X_REQUEST_ID", "c"}, "c"},
		"longest":              {[]string{"HTTP_X_REQUEST_ID", strings.Repeat("a", maxID)}, strings.Repeat("a", maxID)},
		"too long":             {[]string{"HTTP_X_REQUEST_ID", strings.Repeat("a", maxID+1)}, ""},
		"end of a line":        {[]string{"HTTP_X_REQUEST_ID", "a\nb"}, ""},
		"quotation mark":       {[]string{"HTTP_X_REQUEST_ID", `a"b`}, ""},
		"markup":               {[]string{"HTTP_X_REQUEST_ID", "a<b>"}, ""},
		"path":                 {[]string{"HTTP_X_REQUEST_ID", "a/../b"}, ""},
		"folder above":         {[]string{"HTTP_X_REQUEST_ID", ".."}, ""},
		"option":               {[]string{"HTTP_X_REQUEST_ID", "-rf"}, ""},
		"no ASCII":             {[]string{"HTTP_X_REQUEST_ID", "a\xc3\xbc"}, ""},
		"NUL":                  {[]string{"HTTP_X_REQUEST_ID", "a\x00"}, ""},
		"trace of zeros":       {[]string{"HTTP_TRACEPARENT", "00-" + strings.Repeat("0", 32) + traceParent[35:]}, ""},
		"trace in capitals":    {[]string{"HTTP_TRACEPARENT", strings.ToUpper(traceParent)}, ""},
		"trace that is short":  {[]string{"HTTP_TRACEPARENT", traceParent[:54]}, ""},
		"trace that is broken": {[]string{"HTTP_TRACEPARENT", strings.Replace(traceParent, "-", "0", 2)}, ""},
	} {
		id := Identify(paramsOf(test.params...))
		got := id.String()
		isParam := len(test.params) > 1 && test.params[0] == IDParam && test.params[1] == got
		if test.want != "" && got != test.want || test.want == "" && (len(got) != 32 || strings.Trim(got, "0123456789abcdef") != "") ||
			string(id.Append(nil)) != got || !id.IsKnown() || id.IsParam() != isParam {
			t.Errorf("%s: got %q, a param: %v", name, got, id.IsParam())
		}
	}
	a, b := Identify(new(Params)), Identify(new(Params))
	if a.String() == b.String() {
		t.Errorf("%s was made twice", a.String())
	}
}

// The id stands among the params, in a record of its own where the first is full.
func TestAppendParamsWithID(t *testing.T) {
	for _, value := range []string{"", "v", strings.Repeat("v", MaxContent-13), strings.Repeat("v", 100_000)} {
		for _, sent := range []string{"", strings.Repeat("i", 128)} {
			p := paramsOf("NAME", value, "HTTP_X_REQUEST_ID", sent)
			id := Identify(p)
			r := NewReader(strings.NewReader(string(AppendParams(nil, 7, p, &id))))
			var raw []byte
			for {
				rec, err := r.Next()
				if err != nil || rec.Type != TypeParams || rec.ID != 7 {
					t.Fatalf("%+v, %v", rec, err)
				}
				if len(rec.Content) == 0 {
					break
				}
				if _, err := ParseParams(string(rec.Content)); err != nil && len(value) < MaxContent {
					t.Errorf("a record ends within a pair: %v", err)
				}
				raw = append(raw, rec.Content...)
			}
			got, err := ParseParams(string(raw))
			if err != nil || got.Len() != 3 || got.Get("NAME") != value || got.Get(IDParam) != id.String() {
				t.Errorf("%d bytes: %d params, id %q, %v", len(value), got.Len(), got.Get(IDParam), err)
			}
		}
	}
}

func TestIdentifyAllocatesNothing(t *testing.T) {
	p := paramsOf("A", "b", "HTTP_X_REQUEST_ID", "a b")
	dst := make([]byte, 0, 4<<10)
	if n := testing.AllocsPerRun(100, func() {
		id := Identify(p)
		AppendParams(dst, 1, p, &id)
		id.Append(dst)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

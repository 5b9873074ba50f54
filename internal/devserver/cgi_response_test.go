package devserver

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHeaderCutter(t *testing.T) {
	for response, want := range map[string][2]string{
		"A: b\n\nbody":                {"A: b\n\n", "body"},
		"A: b\r\n\r\nbody":            {"A: b\r\n\r\n", "body"},
		"A: b\n\r\n\nbody":            {"A: b\n\r\n", "\nbody"},
		"A: b\r\n\nbody":              {"A: b\r\n\n", "body"},
		"\nbody":                      {"\n", "body"},
		"\r\nbody":                    {"\r\n", "body"},
		"A: b\n":                      {"A: b\n", ""},
		"":                            {"", ""},
		"A: b\n\n":                    {"A: b\n\n", ""},
		strings.Repeat("x", 64<<10+1): {strings.Repeat("x", 64<<10+1), ""},
	} {
		for _, bytewise := range []bool{false, true} {
			var header, body bytes.Buffer
			calls := 0
			c := &HeaderCutter{Body: &body, Header: func(block []byte) error {
				calls++
				header.Write(block)
				return nil
			}}
			piece := max(1, len(response))
			if bytewise {
				piece = 1
			}
			for p := range slices.Chunk([]byte(response), piece) {
				if _, err := c.Write(p); err != nil {
					t.Errorf("%.20q: %v", response, err)
				}
			}
			if err := c.Finish(); err != nil {
				t.Errorf("%.20q: %v", response, err)
			}
			if got := [2]string{header.String(), body.String()}; got != want || calls != 1 {
				t.Errorf("%.20q: got %.20q in %d calls, want %.20q", response, got, calls, want)
			}
		}
	}
}

func TestParseCGIHeader(t *testing.T) {
	for block, want := range map[string]struct {
		status int
		fields http.Header
		err    string
	}{
		"Status: 404 Not Found\nX-A: 1\nx-a:2\n\n": {status: 404, fields: http.Header{"X-A": {"1", "2"}}},
		"Status:201\r\n\r\n":                       {status: 201, fields: http.Header{}},
		"A:  b c \n\n":                             {fields: http.Header{"A": {"b c"}}},
		"":                                         {err: "response is empty"},
		"\n":                                       {err: "response has no header"},
		"A: b\n":                                   {err: "response ended inside its header"},
		"A: b":                                     {err: "response ended inside its header"},
		"hello\n\n":                                {err: `header has the line "hello"`},
		"a b: c\n\n":                               {err: `header has the line "a b: c"`},
		"A: b\n c\n\n":                             {err: `header has the line " c"`},
		"Status: 100\n\n":                          {err: `header has the status "100"`},
		"Status: fine\n\n":                         {err: `header has the status "fine"`},
	} {
		status, fields, err := ParseHeader([]byte(block))
		text := ""
		if err != nil {
			text = err.Error()
		}
		if status != want.status || text != want.err || !cmp.Equal(fields, want.fields) {
			t.Errorf("%q: got %d, %v, %q, want %+v", block, status, fields, text, want)
		}
	}
	long := "A: " + strings.Repeat("x", maxCGIHeader) + "\n\n"
	if _, _, err := ParseHeader([]byte(long)); err == nil || !strings.Contains(err.Error(), "longer than 65536") {
		t.Errorf("got %v", err)
	}
}

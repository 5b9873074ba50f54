package cli

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/cgi"
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
			c := &headerCutter{Body: &body, Header: func(block []byte) error {
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
			if err := c.finish(); err != nil {
				t.Errorf("%.20q: %v", response, err)
			}
			if got := [2]string{header.String(), body.String()}; got != want || calls != 1 {
				t.Errorf("%.20q: got %.20q in %d calls, want %.20q", response, got, calls, want)
			}
		}
	}
}

func TestParseHeader(t *testing.T) {
	for block, want := range map[string]error{
		"A: b\n\n": nil, "": cgi.ErrNoHeader, "\n": cgi.ErrNoHeader, "A: b\n": cgi.ErrHeaderUnfinished, "hello": cgi.ErrNoHeader,
		strings.Repeat("x", cgi.MaxHeader+1): cgi.ErrHeaderTooLarge, "A: " + strings.Repeat("x", cgi.MaxHeader) + "\n\n": cgi.ErrHeaderTooLarge,
	} {
		if _, err := parseHeader([]byte(block)); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%.20q: %v, want %v", block, err, want)
		}
	}
}

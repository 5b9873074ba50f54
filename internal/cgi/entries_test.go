package cgi

import (
	"slices"
	"strings"
	"testing"
)

func TestEntries(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", MaxEntry/16)
	for name, test := range map[string]struct {
		writes, want []string
	}{
		"a line":                 {[]string{"a\n"}, []string{"a"}},
		"a line each":            {[]string{"a\n", "b\n"}, []string{"a", "b"}},
		"lines at once":          {[]string{"PHP Fatal error: boom\nStack trace:\n#0 {main}\n  thrown\n"}, []string{"PHP Fatal error: boom\nStack trace:\n#0 {main}\n  thrown"}},
		"CR LF":                  {[]string{"a\r\nb\r\n"}, []string{"a\nb"}},
		"byte by byte":           {strings.Split("a b\nc\n", ""), []string{"a b", "c"}},
		"a line in two":          {[]string{"a\nb", "c\n"}, []string{"a\nbc"}},
		"no final newline":       {[]string{"a\nb"}, []string{"a\nb"}},
		"a lone CR":              {[]string{"a\rb\r"}, []string{"a\rb"}},
		"blank lines":            {[]string{"\n\na\n\nb\n\n", "\n", "\r\n"}, []string{"a\n\nb"}},
		"nothing":                {[]string{""}, nil},
		"indented":               {[]string{"  a\n"}, []string{"  a"}},
		"as long as can be":      {[]string{long + "\nb\n"}, []string{long, "b"}},
		"much longer":            {[]string{long + long + "x"}, []string{long, long, "x"}},
		"cut behind a line":      {[]string{"a\n" + long + "b\nc\n"}, []string{"a", long, "b\nc"}},
		"long in many":           {[]string{"a\n" + long[:9000], long[9000:] + "\n"}, []string{"a", long}},
		"the last line is short": {[]string{long[1:] + "\n" + "b\n"}, []string{long[1:], "b"}},
	} {
		var e Entries
		var got []string
		emit := func(entry string) { got = append(got, entry) }
		for _, w := range test.writes {
			e.Add([]byte(w), emit)
		}
		if e.Flush(emit); !slices.Equal(got, test.want) {
			t.Errorf("%s: %.200q, want %.200q", name, got, test.want)
		}
	}
}

package cgi

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestEntries(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", MaxEntry/16)
	for name, test := range map[string]struct {
		writes, want []string
	}{
		"a line":                {[]string{"a\n"}, []string{"a"}},
		"a line each":           {[]string{"a\n", "b\n"}, []string{"a", "b"}},
		"lines at once":         {[]string{"PHP Fatal error: boom\nStack trace:\n#0 {main}\n  thrown\n"}, []string{"PHP Fatal error: boom\nStack trace:\n#0 {main}\n  thrown"}},
		"CR LF":                 {[]string{"a\r\nb\r\n"}, []string{"a\nb"}},
		"byte by byte":          {strings.Split("a b\nc\n", ""), []string{"a b", "c"}},
		"a line in two":         {[]string{"a\nb", "c\n"}, []string{"a\nbc"}},
		"no final newline":      {[]string{"a\nb"}, []string{"a\nb"}},
		"a lone CR":             {[]string{"a\rb\r"}, []string{"a\rb"}},
		"blank lines":           {[]string{"\n\na\n\nb\n\n", "\n", "\r\n"}, []string{"a\n\nb"}},
		"indented lines behind": {[]string{"x.rb:1: boom\n", "\tfrom x.rb:3\n", "\tfrom x.rb:5\n", "next\n"}, []string{"x.rb:1: boom\n\tfrom x.rb:3\n\tfrom x.rb:5", "next"}},
		"Python's trace": {[]string{"start\n", "Traceback (most recent call last):\n", "  File \"x\", line 1\n", "    f()\n", "ValueError: boom\n", "end\n"},
			[]string{"start", "Traceback (most recent call last):\n  File \"x\", line 1\n    f()\nValueError: boom", "end"}},
		"Python's two traces": {[]string{"Traceback (most recent call last):\n", "  f()\n", "KeyError: 1\n", "\n", "During handling of it:\n", "\n", "Traceback (most recent call last):\n", "  g()\n", "ValueError: 2\n", "end\n"},
			[]string{"Traceback (most recent call last):\n  f()\nKeyError: 1\n\nDuring handling of it:\n\nTraceback (most recent call last):\n  g()\nValueError: 2", "end"}},
		"a long write in parts":  {[]string{long[:4095] + "\n", "b\n", "c\n"}, []string{long[:4095] + "\nb", "c"}},
		"nothing":                {[]string{""}, nil},
		"indented":               {[]string{"  a\n"}, []string{"  a"}},
		"as long as can be":      {[]string{long + "\nb\n"}, []string{long, "b"}},
		"much longer":            {[]string{long + long + "x"}, []string{long, long, "x"}},
		"cut behind a line":      {[]string{"a\n" + long + "b\nc\n"}, []string{"a", long, "b\nc"}},
		"long in many":           {[]string{"a\n" + long[:9000], long[9000:] + "\n"}, []string{"a", long}},
		"the last line is short": {[]string{long[1:] + "\n" + "b\n"}, []string{long[1:], "b"}},
	} {
		synctest.Test(t, func(t *testing.T) { // no time passes between the writes
			var e Entries
			var got []string
			emit := func(entry string) { got = append(got, entry) }
			for _, w := range test.writes {
				e.Add([]byte(w), emit)
			}
			if e.Flush(emit); !slices.Equal(got, test.want) {
				t.Errorf("%s: %.200q, want %.200q", name, got, test.want)
			}
		})
	}
}

// An entry does not wait for long for what may belong to it, and nothing is told of it
// after Flush.
func TestEntriesInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e Entries
		var got []string
		var mu sync.Mutex
		emit := func(entry string) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, entry)
		}
		wantAfter := func(wait time.Duration, want ...string) {
			t.Helper()
			time.Sleep(wait)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
			got = nil
		}
		e.Add([]byte("a\n"), emit)
		wantAfter(holdEntry-1, nil...)
		wantAfter(1, "a")
		e.Add([]byte("half"), emit)
		wantAfter(time.Hour, nil...)
		e.Add([]byte(" a line\n"), emit)
		wantAfter(holdEntry, "half a line")
		e.Add([]byte("Traceback (most recent call last):\n"), emit)
		wantAfter(holdTrace-1, nil...)
		e.Add([]byte("  f()\n"), emit)
		wantAfter(holdTrace-1, nil...)
		e.Add([]byte("KeyError\n"), emit)
		wantAfter(holdEntry, "Traceback (most recent call last):\n  f()\nKeyError")
		e.Add([]byte("b\n"), emit)
		e.Flush(emit)
		wantAfter(0, "b")
		wantAfter(time.Hour, nil...)
	})
}

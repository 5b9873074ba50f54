// Package migrate writes fcgid's configuration for what another program was told: the
// pools of php-fpm, the arguments of fcgiwrap and spawn-fcgi. Each thing that has no
// counterpart is a comment which says why.
package migrate

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// A page is a configuration that is being written.
type page struct{ strings.Builder }

// line writes text with that many levels of indentation.
func (p *page) line(level int, format string, args ...any) {
	p.WriteString(strings.Repeat("  ", level))
	fmt.Fprintf(p, format, args...)
	p.WriteByte('\n')
}

// comment writes a comment, whatever is in it.
func (p *page) comment(level int, format string, args ...any) {
	text := strings.Map(func(r rune) rune {
		if r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, fmt.Sprintf(format, args...))
	p.line(level, "# %s", text)
}

// quote is a string as YAML has it, in quotes where it could be something else.
func quote(s string) string {
	if s != "" && strings.Trim(s, plain) == "" && strings.Trim(s[:1], letters+"/") == "" && !words[strings.ToLower(s)] {
		return s
	}
	return strconv.Quote(s) // whose escapes YAML has too
}

const (
	letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	plain   = letters + "0123456789/._-"
)

// words are what YAML may take for something else.
var words = map[string]bool{"y": true, "n": true, "yes": true, "no": true, "on": true, "off": true, "true": true, "false": true, "null": true}

func list(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quote(w)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

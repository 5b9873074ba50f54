// Package migrate writes fcgid's configuration for what another program was told: the
// pools of php-fpm, the arguments of fcgiwrap and spawn-fcgi. Each thing that has no
// counterpart is a comment which says why.
package migrate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// A page is a configuration that is being written, line by line: half of it is comments
// on what is not there, each beside what it is about, where the nodes of a YAML library
// have a place for comments on what is there. So a value is only written by quote, list or
// number, and what has keys is a mapping.
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

func list(texts []string) string {
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = quote(text)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// number is what should be a number: what is none is text, which a check refuses.
func number(s string) string {
	if n, err := strconv.Atoi(s); err == nil {
		return strconv.Itoa(n)
	}
	return quote(s)
}

// A mapping has keys with values as YAML has them, in the order in which they came.
type mapping []pair

type pair struct{ key, value string }

// set gives a key its value: the last one counts.
func (m *mapping) set(key, value string) {
	for i := range *m {
		if (*m)[i].key == key {
			(*m)[i].value = value
			return
		}
	}
	*m = append(*m, pair{key, value})
}

func (m mapping) has(key string) bool {
	return slices.ContainsFunc(m, func(p pair) bool { return p.key == key })
}

// flow is a mapping on one line.
func (m mapping) flow() string {
	var pairs []string
	for _, p := range m {
		pairs = append(pairs, p.key+": "+p.value)
	}
	return "{" + strings.Join(pairs, ", ") + "}"
}

// words is a mapping of plain texts as the list of KEY=text that env and rlimits are.
func (m mapping) words() string {
	var words []string
	for _, p := range m {
		words = append(words, p.key+"="+p.value)
	}
	return list(words)
}

// mapping writes the keys of one, each on a line of its own.
func (p *page) mapping(level int, m mapping) {
	for _, pair := range m {
		p.line(level, "%s: %s", pair.key, pair.value)
	}
}

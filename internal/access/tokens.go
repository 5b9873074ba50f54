package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A FormatError is what is wrong with a format, and where.
type FormatError struct {
	Column int // of the text, in bytes from 1
	Text   string
}

// Error says both.
func (e *FormatError) Error() string { return fmt.Sprintf("column %d: %s", e.Column, e.Text) }

// A parser reads a format with php-fpm's tokens, which are %x or %{argument}x.
type parser struct {
	text   string
	at     int
	quoted bool // the literal text so far has opened a quotation mark
	parts  []part
}

func parseTokens(text string) ([]part, error) {
	if !strings.Contains(text, "%") {
		return nil, &FormatError{1, fmt.Sprintf("%q is neither json nor combined, and has no token such as %%r", text)}
	}
	p := parser{text: text}
	err := p.rest()
	return p.parts, err
}

// rest takes the rest of the text.
func (p *parser) rest() error {
	for p.at < len(p.text) {
		if p.text[p.at] != '%' {
			p.literal()
			continue
		}
		if err := p.token(); err != nil {
			return err
		}
	}
	return nil
}

// literal takes the text before the next token.
func (p *parser) literal() {
	rest := p.text[p.at:]
	if n := strings.IndexByte(rest, '%'); n >= 0 {
		rest = rest[:n]
	}
	p.at += len(rest)
	p.quoted = p.quoted != (strings.Count(rest, `"`)%2 == 1)
	p.add(func(dst []byte, _ *Line) []byte { return append(dst, rest...) })
}

func (p *parser) add(f part) { p.parts = append(p.parts, f) }

// token takes one that begins here.
func (p *parser) token() error {
	start := p.at
	p.at++
	argument, hasArgument := "", false
	if strings.HasPrefix(p.text[p.at:], "{") {
		n := strings.IndexByte(p.text[p.at:], '}')
		if n < 0 {
			return p.fault(start, "%s has no }", p.text[start:])
		}
		argument, hasArgument = p.text[p.at+1:p.at+n], true
		p.at += n + 1
	}
	if p.at == len(p.text) {
		return p.fault(start, "%s is no token: a letter is missing", p.text[start:])
	}
	letter := p.text[p.at]
	p.at++
	written := p.text[start:p.at]
	t, known := tokens[letter]
	switch {
	case !known:
		return p.fault(start, "%s is no token of php-fpm's: they are %s", written, allTokens())
	case !t.takes && hasArgument:
		return p.fault(start, "%s: %%%c has no argument in braces", written, letter)
	case t.needs != "" && argument == "":
		return p.fault(start, "%s: %%%c needs %s in braces", written, letter, t.needs)
	}
	f, err := t.make(argument, p.quoted)
	if err != nil {
		return p.fault(start, "%s: %v", written, err)
	}
	p.add(f)
	return nil
}

func (p *parser) fault(at int, format string, args ...any) error {
	return &FormatError{at + 1, fmt.Sprintf(format, args...)}
}

// allTokens lists them.
func allTokens() string {
	var all []string
	for _, letter := range slices.Sorted(maps.Keys(tokens)) {
		all = append(all, "%"+string(letter))
	}
	return strings.Join(all, " ")
}

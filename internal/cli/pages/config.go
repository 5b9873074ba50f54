package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/fcgid/fcgid/internal/version"
)

// A key is one of the configuration, and what the file says of it.
type key struct {
	path  string // pools[].limits.queue
	value string // its default; "" for one that holds keys
	text  string
}

var (
	keyLine    = regexp.MustCompile(`^( *)(- )?([a-z_]+):(?: +(.*))?$`)
	ownDefault = regexp.MustCompile(`^\(([^ )]+)\) (.*)`)
	// otherPools stands before pools that are comments.
	otherPools = "To use one of the pools below"
)

// A reader takes configs/fcgid.yaml for what it is: lines of keys with a comment behind
// them, which may go on in the next lines, or with a paragraph before them.
type reader struct {
	head      []string // the paragraphs before the first key
	keys      []key
	stack     []level
	paragraph []string
	seen      map[string]bool
	isOther   bool // the first '#' of a line with a key is to be taken away
	isAfter   bool // a blank line has come since the last key: comments are of the next one
}

// A level is a key that the next ones may stand in.
type level struct {
	indent int
	path   string
}

func read(text string) *reader {
	r := &reader{seen: make(map[string]bool)}
	for line := range strings.Lines(text) {
		r.line(strings.TrimRight(line, "\n"))
	}
	return r
}

func (r *reader) line(line string) {
	if r.isOther && strings.HasPrefix(line, "#  ") {
		line = line[1:]
	}
	comment, isComment := strings.CutPrefix(strings.TrimLeft(line, " "), "#")
	comment = strings.TrimPrefix(comment, " ")
	switch {
	case strings.TrimSpace(line) == "":
		r.isAfter = true
		if len(r.keys) == 0 {
			r.head = append(r.head, append(r.paragraph, "")...)
			r.paragraph = nil
		}
	case isComment && !strings.HasPrefix(line, "#") && len(r.keys) > 0 && !r.isAfter:
		r.keys[len(r.keys)-1].text += " " + comment
	case isComment:
		if strings.HasPrefix(comment, otherPools) {
			r.isOther, r.paragraph = true, nil
			return
		}
		r.paragraph = append(r.paragraph, comment)
	default:
		r.key(line)
	}
}

func (r *reader) key(line string) {
	m := keyLine.FindStringSubmatch(line)
	if m == nil {
		return
	}
	r.isAfter = false
	indent := len(m[1])
	for len(r.stack) > 0 && r.stack[len(r.stack)-1].indent >= indent+len(m[2]) {
		r.stack = r.stack[:len(r.stack)-1]
	}
	path := m[3]
	if len(r.stack) > 0 {
		top := &r.stack[len(r.stack)-1]
		if m[2] != "" && !strings.HasSuffix(top.path, "[]") {
			top.path += "[]"
		}
		path = top.path + "." + path
	}
	r.stack = append(r.stack, level{indent + len(m[2]), path})
	value, text, _ := cutComment(m[4])
	if m := ownDefault.FindStringSubmatch(text); m != nil { // it has another value in the file
		value, text = m[1], m[2]
	}
	text = strings.Join(append(r.paragraph, text), " ")
	r.paragraph = nil
	if !r.seen[path] {
		r.seen[path] = true
		r.keys = append(r.keys, key{path, value, strings.TrimSpace(text)})
	} else { // of a second pool: what follows is its own
		r.keys = append(r.keys, key{path: ""})
	}
}

// cutComment parts a value from what is said of it. No value has a '#' after a blank.
func cutComment(s string) (value, comment string, found bool) {
	if rest, ok := strings.CutPrefix(s, "# "); ok {
		return "", rest, true
	}
	value, comment, found = strings.Cut(s, " # ")
	return strings.TrimSpace(value), comment, found
}

// configPage is fcgid.yaml(5).
func configPage(text string) []byte {
	r := read(text)
	var b bytes.Buffer
	fmt.Fprintf(&b, ".TH FCGID.YAML 5 \"\" \"fcgid %s\" fcgid\n", version.Version)
	b.WriteString(".SH NAME\nfcgid.yaml \\- the configuration of fcgid\n.SH SYNOPSIS\n.B /etc/fcgid/fcgid.yaml\n.SH DESCRIPTION\n")
	for _, line := range r.head {
		switch {
		case line == "":
			b.WriteString(".PP\n")
		case strings.HasPrefix(line, " "):
			b.WriteString(roff(strings.TrimSpace(line)) + "\n.br\n")
		default:
			b.WriteString(roff(line) + "\n")
		}
	}
	b.WriteString("A name with [] is that of a key which each item of a list has.\n.SH KEYS\n")
	for _, k := range r.keys {
		if k.path == "" {
			continue
		}
		fmt.Fprintf(&b, ".TP\n\\fB%s\\fR", roff(k.path))
		if k.value != "" {
			fmt.Fprintf(&b, " (%s)", roff(k.value))
		}
		b.WriteString("\n" + roff(k.text) + "\n")
	}
	b.WriteString(".SH FILES\n.TP\n.B /etc/fcgid/fcgid.yaml\nas it is installed, with every key and its default.\n.SH SEE ALSO\n.BR fcgid (1),\n.BR fcgid\\-check (1)\n")
	return b.Bytes()
}

// roff is text as it is to be seen.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...", "×", "*").Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	return text
}

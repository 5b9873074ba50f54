package config

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
)

// anyKey are the names of all keys, without those around them.
var anyKey = sync.OnceValue(func() map[string]bool {
	known := map[string]bool{}
	for _, typ := range []reflect.Type{reflect.TypeFor[Config](), poolType, listenType} {
		for _, name := range names(typ) {
			known[lastName(name)] = true
		}
	}
	return known
})

var iniSection = regexp.MustCompile(`^\[[^\[\]{},:"']+\]\s*$`)

// sectionOf is the number of the line with which an INI file begins, its comments aside, and
// 0 for a file of another kind.
func sectionOf(lines []string) int {
	for i, line := range lines {
		if !isBlank(line) && strings.TrimSpace(line)[0] != ';' {
			if iniSection.MatchString(line) {
				return i + 1
			}
			return 0
		}
	}
	return 0
}

// explainSyntax says what people do wrong most often where YAML names what it did not
// find: tabs, a key and its value with no space between them, a column in which nothing
// can begin. It may find the slip in a line before the one at which YAML stopped.
func explainSyntax(lines []string, f *Fault) {
	if f.Line < 1 || f.Line > len(lines) {
		return
	}
	for _, explain := range []func([]string, *Fault) bool{explainTab, explainGlue, explainIndent, explainPlainly} {
		if explain(lines, f) {
			break
		}
	}
	f.Source = lines[f.Line-1]
}

// explainTab finds a tab in the indentation of a line, not far before the one that YAML
// names, which may be the first of the block.
func explainTab(lines []string, f *Fault) bool {
	for n := max(1, f.Line-1); n <= len(lines); n++ {
		if i := strings.IndexByte(indentation(lines[n-1]), '\t'); i >= 0 {
			f.Line, f.Column, f.Text = n, i+1, "a tab: YAML is indented with spaces only"
			return true
		}
	}
	return false
}

// glued are a pair and an item of a list with no space after the sign, each with what is
// before it, and a pair within braces.
var (
	gluedPair = regexp.MustCompile(`^([ \t]*(?:- +)*)([a-z_]+):([^\s:].*)$`)
	gluedItem = regexp.MustCompile(`^([ \t]*(?:- +)*)-((?:[a-z_]+:.*|/.*))$`)
	gluedFlow = regexp.MustCompile(`([{,]\s*)([a-z_]+):(\[[^\]]*\]?|[^\s:,}\]][^,}\]]*)`)
)

// explainGlue finds "key:value" or "-item" in the line, or in the last one before it that
// is not empty, where YAML takes all of it for one word.
func explainGlue(lines []string, f *Fault) bool {
	looked := 0
	for n := f.Line; n > 0 && looked < 2; n-- {
		if isBlank(lines[n-1]) {
			continue
		}
		looked++
		if column, text := glueIn(lines[n-1]); text != "" {
			f.Line, f.Column, f.Text = n, column, text
			return true
		}
	}
	return false
}

// glueIn finds what lacks its space in a line that YAML does not understand.
func glueIn(line string) (column int, text string) {
	if m := gluedItem.FindStringSubmatch(line); m != nil {
		if text := gluedItemText("-" + m[2]); text != "" {
			return len(m[1]) + 2, text
		}
	}
	if m := gluedPair.FindStringSubmatch(line); m != nil && anyKey()[m[2]] {
		return len(m[1]) + len(m[2]) + 2, gluedText(m[2], m[3])
	}
	for _, m := range gluedFlow.FindAllStringSubmatchIndex(line, -1) {
		if key := line[m[4]:m[5]]; anyKey()[key] {
			return m[6] + 1, gluedText(key, line[m[6]:m[7]])
		}
	}
	return 0, ""
}

func gluedText(key, value string) string {
	value = gluedFlow.ReplaceAllString(value, "$1$2: $3")
	return fmt.Sprintf("no space after the colon: write %q", key+": "+value)
}

// gluedItemText says what lacks in "-name: p2", "-/x" and "-unix:/x", and is empty for what
// is no item of a list.
func gluedItemText(text string) string {
	item, dashed := strings.CutPrefix(text, "-")
	key, _, _ := strings.Cut(item, ":")
	if dashed && (anyKey()[key] || strings.HasPrefix(item, "/") || key == "unix" || key == "tcp" || key == "systemd") {
		return fmt.Sprintf("no space after the dash: write %q", "- "+item)
	}
	return ""
}

// ofIndent are the errors of YAML that a wrong column leads to.
var ofIndent = regexp.MustCompile(`^(mapping values are not allowed|did not find expected (key|'-')|could not find expected ':'|block sequence entries are not allowed)`)

// explainIndent finds the first line, from the one that YAML names on, that begins in a
// column in which nothing above it leaves room for it.
func explainIndent(lines []string, f *Fault) bool {
	if !ofIndent.MatchString(f.Text) {
		return false
	}
	var above blocks
	for n, line := range lines {
		if n+1 >= f.Line && !above.haveRoomFor(line) {
			f.Line, f.Column = n+1, len(indentation(line))+1
			f.Text = fmt.Sprintf("wrong indentation: this line begins in column %d, and what is above it in column %s", f.Column, above.columns())
			explainGlue(lines, f) // which leads to it
			return true
		}
		above.add(line)
	}
	return false
}

// blocks are those that are open above a line.
type blocks struct {
	indents []int // of their lines
	opens   bool  // the last line takes a block below it
}

func isBlank(line string) bool {
	text := strings.TrimSpace(line)
	return text == "" || text[0] == '#'
}

func (b *blocks) haveRoomFor(line string) bool {
	indent := len(indentation(line))
	return isBlank(line) || len(b.indents) == 0 || slices.Contains(b.indents, indent) || b.opens && indent > b.indents[len(b.indents)-1]
}

func (b *blocks) add(line string) {
	if isBlank(line) {
		return
	}
	indent, text := len(indentation(line)), strings.TrimSpace(line)
	b.indents = slices.DeleteFunc(b.indents, func(c int) bool { return c >= indent })
	for b.indents = append(b.indents, indent); strings.HasPrefix(text, "- "); {
		rest := strings.TrimLeft(text[1:], " ")
		indent += len(text) - len(rest)
		text = rest
		b.indents = append(b.indents, indent)
	}
	b.opens = text == "-" || strings.HasSuffix(text, ":") || strings.HasSuffix(text, "|") || strings.HasSuffix(text, ">")
}

func (b *blocks) columns() string {
	var columns []string
	for _, indent := range b.indents {
		columns = append(columns, strconv.Itoa(indent+1))
	}
	return strings.Join(columns, " or ")
}

// plainer are errors of YAML in other words.
var plainer = map[string]string{
	"found unexpected end of stream":   "a quote that opens here is not closed",
	"did not find expected ',' or '}'": "a { that opens here is not closed, or a comma is missing before this line",
	"did not find expected ',' or ']'": "a [ that opens here is not closed, or a comma is missing before this line",
}

// explainPlainly says the same in other words.
func explainPlainly(_ []string, f *Fault) bool {
	text, ok := plainer[f.Text]
	if ok {
		f.Text = text
	}
	return ok
}

func indentation(line string) string { return line[:len(line)-len(strings.TrimLeft(line, " \t"))] }

// Excerpt is the line of a fault in the YAML itself, and below it, where it is known, a
// caret at the column. It is empty for other faults, whose path says where they are.
func (f Fault) Excerpt() string {
	const margin = "    "
	if f.Source == "" {
		return ""
	}
	var shown strings.Builder
	caret := -1
	for i, r := range f.Source {
		if i == f.Column-1 {
			caret = shown.Len()
		}
		switch {
		case r == '\t':
			shown.WriteString("→   ")
		case unicode.IsPrint(r):
			shown.WriteRune(r)
		default:
			shown.WriteRune('?')
		}
	}
	text := margin + shown.String() + "\n"
	if caret >= 0 {
		text += margin + strings.Repeat(" ", len([]rune(shown.String()[:caret]))) + "^\n"
	}
	return text
}

package config

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// parse returns the root of the one document in data, nil when it is empty.
// Its error is a place without a column and a text.
func parse(data []byte) (*yaml.Node, *Fault) {
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	switch err := dec.Decode(&doc); {
	case err == io.EOF:
		return nil, nil
	case err != nil:
		return nil, syntaxFault(data, err)
	}
	var second yaml.Node
	switch err := dec.Decode(&second); {
	case err == nil:
		return nil, &Fault{Line: second.Line, Column: second.Column, Text: "a second YAML document: one file holds one"}
	case err != io.EOF:
		return nil, syntaxFault(data, err)
	}
	return doc.Content[0], nil
}

var (
	yamlLine = regexp.MustCompile(`^line (\d+): `)
	// yamlFromZero matches the errors of the library's parser, which counts
	// lines from 0; its scanner counts from 1.
	yamlFromZero = regexp.MustCompile(`^did not find expected (<|node|'-'|key|',' or)`)
)

// syntaxFault finds the line of a YAML error. The library does not tell it for
// the first line, for a bad byte and for an unknown anchor: there it is the
// shortest run of lines that has the same error.
func syntaxFault(data []byte, err error) *Fault {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		line, _ := strconv.Atoi(m[1])
		text = text[len(m[0]):]
		if yamlFromZero.MatchString(text) {
			line++
		}
		return &Fault{Line: line, Text: text}
	}
	lines := bytes.SplitAfter(data, []byte("\n"))
	i := sort.Search(len(lines)-1, func(i int) bool {
		dec := yaml.NewDecoder(bytes.NewReader(bytes.Join(lines[:i+1], nil)))
		var got error
		for got == nil {
			got = dec.Decode(new(yaml.Node))
		}
		return got.Error() == err.Error()
	})
	return &Fault{Line: i + 1, Text: text}
}

// maxNodes bounds what aliases and merges may unfold to.
const maxNodes = 1 << 18

// A tree turns the nodes of one file into plain maps, lists and texts with
// every default filled in, and notes the place of each value. What is wrong in
// shape becomes a fault and is replaced, so that the rest can be checked too.
type tree struct {
	*report
	file      string
	firstPool int      // how many pools the files before this one gave
	lines     []string // of the file
	visited   int
	merging   map[*yaml.Node]bool
}

func newTree(r *report, file string, firstPool int) *tree {
	return &tree{report: r, file: file, firstPool: firstPool, merging: map[*yaml.Node]bool{}}
}

// read returns the mapping that the whole file is; an empty file is an empty
// mapping. ok is false when it is anything else.
func (t *tree) read(data []byte, typ reflect.Type, root spot) (m map[string]any, ok bool) {
	t.places[root.key] = place{file: t.file, line: 1, column: 1}
	for line := range strings.Lines(string(data)) {
		t.lines = append(t.lines, strings.TrimRight(line, "\r\n"))
	}
	if line := sectionOf(t.lines); line > 0 {
		t.addAt(place{file: t.file, line: line}, "this is no YAML: php-fpm's file? fcgid import php-fpm %s", t.file)
		return nil, false
	}
	n, fault := parse(data)
	switch {
	case fault != nil:
		explainSyntax(t.lines, fault)
		fault.File = t.file
		t.faults = append(t.faults, *fault)
		return nil, false
	case n == nil || isNull(n):
		return defaults(typ), true
	}
	v, ok := t.value(n, typ, root)
	m, _ = v.(map[string]any)
	return m, ok
}

// A spot is a value's path in the whole Config and in its own file.
type spot struct{ key, shown string }

func (s spot) field(name string) spot {
	if !plainWord.MatchString(name) {
		name = strconv.Quote(name)
	}
	return spot{strings.TrimPrefix(s.key+"."+name, "."), strings.TrimPrefix(s.shown+"."+name, ".")}
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func (t *tree) element(list spot, i int) spot {
	shown := fmt.Sprintf("%s[%d]", list.shown, i)
	if list.shown == "pools" {
		return spot{fmt.Sprintf("pools[%d]", t.firstPool+i), shown}
	}
	return spot{fmt.Sprintf("%s[%d]", list.key, i), shown}
}

func (t *tree) place(n *yaml.Node, at spot) place {
	return place{t.file, n.Line, n.Column, at.shown}
}

// fault reports what is wrong with the shape of the value at a spot.
func (t *tree) fault(n *yaml.Node, at spot, format string, args ...any) {
	t.muted[at.key] = true
	t.addAt(t.place(n, at), format, args...)
}

// value returns the plain form of n as typ; ok is false if its shape is wrong.
func (t *tree) value(n *yaml.Node, typ reflect.Type, at spot) (plain any, ok bool) {
	n = resolve(n)
	optional := typ.Kind() == reflect.Pointer // its key alone says something
	if optional {
		typ = typ.Elem()
	}
	t.places[at.key] = t.place(n, at)
	delete(t.muted, at.key) // given: what is wrong with it is its own
	switch {
	case !t.spend(n):
		return nil, false
	case isNull(n) && optional:
		return defaults(typ), true
	case isNull(n):
		t.fault(n, at, "needs a value")
		return nil, false
	case typ == listensType && n.Kind != yaml.SequenceNode:
		v, ok := t.value(n, listenType, spot{at.key + "[0]", at.shown})
		return []any{v}, ok
	case typ == capabilitiesType && n.Kind == yaml.ScalarNode && n.Value == "":
		return []any{}, true // as they are
	case typ.Kind() == reflect.Slice && n.Kind != yaml.SequenceNode && !isMapping(typ.Elem()):
		return t.listOf(n, typ.Elem(), at)
	case typ == listenType && n.Kind == yaml.ScalarNode:
		m := defaults(listenType)
		m["address"], _ = t.scalar(n, reflect.TypeFor[string](), spot{at.key + ".address", at.shown})
		return m, true
	case isMapping(typ) && n.Kind == yaml.MappingNode:
		return t.mapping(n, typ, at), true
	case typ.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		return t.list(n, typ.Elem(), at), true
	default:
		return t.scalar(n, typ, at)
	}
}

// spend counts n against maxNodes and reports the excess once.
func (t *tree) spend(n *yaml.Node) bool {
	t.visited++
	if t.visited == maxNodes {
		t.fault(n, spot{}, "aliases unfold to too many values")
	}
	return t.visited < maxNodes
}

func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

func (t *tree) list(n *yaml.Node, elem reflect.Type, at spot) []any {
	out := make([]any, len(n.Content))
	for i, c := range n.Content {
		v, ok := t.value(c, elem, t.element(at, i))
		if !ok {
			v = fallback(elem, "")
		}
		out[i] = v
	}
	return out
}

// pairLists are the lists of NAME=value, which may be mappings as well.
var pairLists = map[string]bool{"env": true, "warm_up": true, "interpreters": true, "rlimits": true}

// listOf is a list in another form: one value, which is a list of one, or a mapping
// of names to values.
func (t *tree) listOf(n *yaml.Node, elem reflect.Type, at spot) (plain any, ok bool) {
	name := lastName(at.key)
	switch {
	case n.Kind == yaml.MappingNode && pairLists[name]:
		return t.pairs(n, at), true
	case n.Kind != yaml.ScalarNode:
		t.fault(n, at, "must be a list, not %s", described(n.ShortTag()))
		return nil, false
	case name == "command" && strings.ContainsAny(n.Value, " \t"):
		t.fault(n, at, "must be a list of words: write [%s]", strings.Join(strings.Fields(n.Value), ", "))
		return nil, false
	}
	v, ok := t.value(n, elem, spot{at.key + "[0]", at.shown})
	return []any{v}, ok
}

func (t *tree) pairs(n *yaml.Node, at spot) []any {
	out := []any{}
	for i, e := range t.entries(n, at) {
		own := spot{fmt.Sprintf("%s[%d]", at.key, i), at.field(e.key.Value).shown}
		t.places[own.key] = t.place(e.value, own)
		if e.value.Kind != yaml.ScalarNode || isNull(e.value) {
			t.fault(e.value, own, "needs a value, as text")
		}
		out = append(out, e.key.Value+"="+e.value.Value)
	}
	return out
}

func (t *tree) mapping(n *yaml.Node, typ reflect.Type, at spot) map[string]any {
	out := defaults(typ)
	known := map[string]reflect.Type{}
	for _, f := range fields(typ) {
		known[f.name] = f.typ
	}
	entries := t.entries(n, at)
	for _, e := range entries {
		name := e.key.Value
		if known[name] == nil {
			t.unknown(e, typ, at, entries)
		} else if v, ok := t.value(e.value, known[name], at.field(name)); ok {
			out[name] = v
		}
	}
	return out
}

// unknown reports a key that typ does not have. The key that was meant, if one
// can be told, is not reported as missing.
func (t *tree) unknown(e entry, typ reflect.Type, at spot, beside []entry) {
	key := e.key.Value
	text, candidate := t.glued(e.key)
	if text == "" {
		text, candidate = misplaced(e, typ, at)
	}
	if foreign, ok := foreignKey(key); text == "" && ok {
		text = foreign
	}
	if text == "" {
		candidate = meant(key, candidates(typ, beside))
		text = "unknown key" + didYouMean(candidate)
	}
	if typ == includedType {
		text += ": an included file holds pools only"
	}
	t.fault(e.key, at.field(key), "%s", text)
	t.explain(at.key + "." + candidate)
	if at.key == "" && isKey(poolType, key) {
		t.explain("pools")
	}
}

// lastName is the name of the mapping at key, without an index.
func lastName(key string) string {
	name, _, _ := strings.Cut(key[strings.LastIndexByte(key, '.')+1:], "[")
	return name
}

// candidates lists the keys that an unknown one among entries may have meant: in
// a pool that says what it runs, none of the other kinds of pool.
func candidates(typ reflect.Type, entries []entry) []string {
	given := func(name string) bool {
		return slices.ContainsFunc(entries, func(e entry) bool { return e.key.Value == name })
	}
	if typ != poolType || !slices.ContainsFunc(runners, given) {
		return names(typ)
	}
	return slices.DeleteFunc(names(typ), func(name string) bool {
		first, _, _ := strings.Cut(name, ".")
		return slices.Contains(runners, first) && !given(first)
	})
}

// explain mutes a key that is absent for a reason already reported.
func (t *tree) explain(key string) {
	key = strings.TrimPrefix(key, ".")
	if _, given := t.places[key]; !given {
		t.muted[key] = true
	}
}

// scalar returns the text of n, if YAML takes it for something that typ can be.
func (t *tree) scalar(n *yaml.Node, typ reflect.Type, at spot) (text string, ok bool) {
	t.places[at.key] = t.place(n, at)
	tag := n.ShortTag()
	want := map[string]string{"a string": "!!str", "true or false": "!!bool", "an integer": "!!int"}[wanted(typ)]
	switch glued := gluedPair.FindStringSubmatch(n.Value); {
	case isMapping(typ) && glued != nil && anyKey()[glued[2]]:
		t.fault(n, at, "must be a mapping: %s", gluedText(glued[2], glued[3]))
	case n.Kind == yaml.MappingNode && typ.Kind() == reflect.Slice && len(n.Content) > 0:
		t.fault(n, at, "must be a list: %s", listFrom(n))
	case n.Kind != yaml.ScalarNode || isMapping(typ) || typ.Kind() == reflect.Slice:
		t.fault(n, at, "must be %s, not %s%s", wanted(typ), described(tag), t.example(n, typ, at))
	case want == "!!str" && strings.HasSuffix(at.key, ".address"):
		return n.Value, true // a port alone is a number, and answered as an address
	case want == "!!str" && isAccount[lastName(at.key)] && isID(n.Value):
		return n.Value, true
	case want == "!!str" && tag != want:
		t.fault(n, at, "must be a string, not %s: put it in quotes", described(tag))
	case want != "" && tag != want:
		t.fault(n, at, "must be %s, not %q", wanted(typ), n.Value)
	default:
		return n.Value, true
	}
	return "", false
}

// isAccount are the keys whose text is a user or a group, which may be a number.
var isAccount = map[string]bool{"user": true, "group": true, "groups": true, "owner": true}

func described(tag string) string {
	switch tag {
	case "!!map":
		return "a mapping"
	case "!!seq":
		return "a list"
	case "!!str":
		return "a string"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!timestamp":
		return "a date"
	default:
		return "a value tagged " + tag
	}
}

type entry struct{ key, value *yaml.Node }

// entries lists the pairs of a mapping, each key once: its own, then those
// that it merges.
func (t *tree) entries(n *yaml.Node, at spot) []entry {
	var own, merged []entry
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content) && t.spend(n); i += 2 {
		key, value := resolve(n.Content[i]), resolve(n.Content[i+1])
		switch line, twice := seen[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			t.fault(key, at.field("?"), "a key must be a word")
		case twice:
			t.addAt(t.place(key, at.field(key.Value)), "given twice, first in line %d", line)
		case key.ShortTag() == "!!merge":
			seen[key.Value] = key.Line
			merged = t.merged(value, at)
		default:
			seen[key.Value] = key.Line
			own = append(own, entry{key, value})
		}
	}
	for _, e := range merged {
		if _, overridden := seen[e.key.Value]; !overridden {
			seen[e.key.Value] = e.key.Line
			own = append(own, e)
		}
	}
	return own
}

// merged lists the pairs that "<<: n" brings in; of equal keys the first counts.
func (t *tree) merged(n *yaml.Node, at spot) []entry {
	switch {
	case !t.spend(n):
		return nil
	case t.merging[n]:
		t.addAt(t.place(n, at), "<< merges a mapping into itself")
		return nil
	}
	t.merging[n] = true
	defer delete(t.merging, n)
	switch n.Kind {
	case yaml.MappingNode:
		return t.entries(n, at)
	case yaml.SequenceNode:
		var all []entry
		for _, c := range n.Content {
			all = append(all, t.merged(resolve(c), at)...)
		}
		return all
	default:
		t.addAt(t.place(n, at), "<< needs a mapping or a list of them")
		return nil
	}
}

package cgi

import (
	"fmt"
	"iter"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/fcgid/fcgid/internal/protocol"
)

// variables are names with their values, each name once, in the order in which
// they first came.
type variables struct {
	list    []variable
	index   map[string]int
	changed bool // they are not the params that were added
}

// A variable without a name was taken out.
type variable struct {
	name, value string
	more        []string // further values of a header's field
}

// emptyVariables are used again: they take more memory than what they tell of.
var emptyVariables = sync.Pool{New: func() any {
	return &variables{list: make([]variable, 0, 64), index: make(map[string]int, 64)}
}}

func newVariables() *variables { return emptyVariables.Get().(*variables) }

// done ends the use of the variables. A map that was large stays so.
func (v *variables) done() {
	if len(v.list) <= 256 {
		clear(v.list)
		clear(v.index)
		v.list, v.changed = v.list[:0], false
		emptyVariables.Put(v)
	}
}

func (v *variables) set(name, value string) {
	i, known := v.index[name]
	v.changed = v.changed || !known || v.list[i].value != value
	if known {
		v.list[i].value = value
		return
	}
	v.append(name, value)
}

func (v *variables) append(name, value string) {
	v.index[name] = len(v.list)
	v.list = append(v.list, variable{name: name, value: value})
}

// get is the value of a variable, "" without one.
func (v *variables) get(name string) string {
	if i, known := v.index[name]; known {
		return v.list[i].value
	}
	return ""
}

func (v *variables) setMissing(name, value string) {
	if _, known := v.index[name]; !known {
		v.set(name, value)
	}
}

// setPairs is set of each NAME=value.
func (v *variables) setPairs(pairs []string) {
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		v.set(name, value)
	}
}

func (v *variables) setMissingPairs(pairs []string) {
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		v.setMissing(name, value)
	}
}

func (v *variables) takeOut(name string) {
	if i, known := v.index[name]; known {
		v.list[i], v.changed = variable{}, true
		delete(v.index, name)
	}
}

// A fields knows which fields of a request's header may come once only.
type fields []string // patterns of path.Match, of the names of params or of what follows HTTP_ in them

// singles are those that have one value by their definition, or whose first
// value and last are understood by different programs.
var singles = fields{"HOST", "AUTHORIZATION", "CONTENT_*", "RANGE", "IF_*", "USER_AGENT", "REFERER"}

func (f fields) has(name string) bool {
	for _, pattern := range f {
		whole, _ := path.Match(pattern, name)
		field, _ := path.Match(pattern, strings.TrimPrefix(name, "HTTP_"))
		if whole || field {
			return true
		}
	}
	return false
}

// add takes a param. Of a repeated one the last wins, as in every FastCGI
// program; but the fields of a header are a list.
func (v *variables) add(name, value string) {
	i, known := v.index[name]
	switch {
	case !known:
		v.append(name, value)
		return
	case strings.HasPrefix(name, "HTTP_"):
		v.list[i].more = append(v.list[i].more, value)
	default:
		v.list[i].value = value
	}
	v.changed = true
}

// join makes lists of repeated fields. One that may be there once only is refused when its values differ: the
// web server may have taken the one for the user's name, and the client have
// sent the other. The names of two fields of HTTP can be one name here, such as
// X-User and X_User.
func (v *variables) join(single fields) error {
	for i := range v.list {
		x := &v.list[i]
		if len(x.more) == 0 {
			continue
		}
		switch {
		case singles.has(x.name) || single.has(x.name):
			if slices.ContainsFunc(x.more, func(other string) bool { return other != x.value }) {
				return &protocol.Refusal{HTTPStatus: 400, AppStatus: 400,
					Reason: fmt.Errorf("%.100s has come twice with different values and may come once only (limits.single_fields)", x.name)}
			}
		default:
			separator := Separator(x.name)
			x.value += separator + strings.Join(x.more, separator)
		}
		x.more = nil
	}
	return nil
}

// Separator stands between the values of a field that is repeated, by the name of
// its param (RFC 9110, section 5.3; RFC 6265, section 5.4).
func Separator(name string) string {
	if name == "HTTP_COOKIE" {
		return "; "
	}
	return ", "
}

// A Merger makes one of params that repeat a name.
type Merger struct{ v *variables }

// NewMerger returns a Merger without params. Free ends its use.
func NewMerger() Merger { return Merger{newVariables()} }

// Add adds a param. Of a repeated one the last counts, but of a header's field all.
func (m Merger) Add(name, value string) { m.v.add(name, value) }

// Join makes lists of repeated fields. It is a *protocol.Refusal where the values of
// one differ that may come once only, as those may whose names match single.
func (m Merger) Join(single []string) error { return m.v.join(single) }

// All yields the params, each name once.
func (m Merger) All() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for _, x := range m.v.list {
			if !yield(x.name, x.value) {
				return
			}
		}
	}
}

// Free gives back what the Merger was made with.
func (m Merger) Free() { m.v.done() }

// CheckFields is Join of params that are left as they are.
func CheckFields(params *protocol.Params, single []string) error {
	if !repeatsField(params) {
		return nil
	}
	m := NewMerger()
	defer m.Free()
	for name, value := range params.All() {
		m.Add(name, value)
	}
	return m.Join(single)
}

// repeatsField reports whether a field of the header is there twice, or may be.
func repeatsField(params *protocol.Params) bool {
	var seen [32]string // a browser's are fewer
	n := 0
	for name := range params.All() {
		switch {
		case !strings.HasPrefix(name, "HTTP_"):
		case n == len(seen), slices.Contains(seen[:n], name):
			return true
		default:
			seen[n] = name
			n++
		}
	}
	return false
}

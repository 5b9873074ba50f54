package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Fault is one thing that is wrong, and where. File is the name of a variable
// or a flag when the value came from there; Line and Column count from 1 and
// are 0 where they are not known; Path is the key's path in that file.
type Fault struct {
	File         string
	Line, Column int
	Path, Text   string
	Source       string // the line, of a fault in the YAML itself
}

// String is one line, "file:line:column: path: text", without what is not known.
func (f Fault) String() string {
	parts := []string{place{f.File, f.Line, f.Column, ""}.String(), f.Path, f.Text}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ": ")
}

// Faults is everything that is wrong, sorted by file, line and column.
type Faults []Fault

// Error has one line for each fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

// A place is where a value was written; path is how its own file calls it.
type place struct {
	file         string
	line, column int
	path         string
}

func (p place) fault(text string) Fault {
	return Fault{File: p.file, Line: p.line, Column: p.column, Path: p.path, Text: text}
}

func (p place) String() string {
	s := p.file
	for _, n := range []int{p.line, p.column} {
		if n > 0 {
			s += ":" + strconv.Itoa(n)
		}
	}
	return s
}

// A report collects faults. Keys are paths in the whole Config, such as
// pools[2].limits.queue; the key "" is the main file.
type report struct {
	source    source // of the files
	faults    Faults
	warnings  Faults
	places    map[string]place
	muted     map[string]bool // keys that have their fault, or whose absence another explains
	matchless map[string]bool // of include: patterns of no file

	requireUser bool // see RequireUserFlag
}

func newReport(places map[string]place) *report {
	return &report{places: places, muted: map[string]bool{}, matchless: map[string]bool{}}
}

// add reports a fault of the value at key, unless it or a mapping around it has one.
func (r *report) add(key, format string, args ...any) {
	if r.silent(key) {
		return
	}
	r.muted[key] = true
	r.addAt(r.find(key), format, args...)
}

// silent tells that the value at key, or a mapping around it, has its fault.
func (r *report) silent(key string) bool {
	for k, more := key, true; more; k, more = parent(k) {
		if r.muted[k] {
			return true
		}
	}
	return false
}

// given tells that the file has a value at key, right or wrong.
func (r *report) given(key string) bool {
	_, given := r.places[key]
	return given
}

func (r *report) addAt(p place, format string, args ...any) {
	r.faults = append(r.faults, p.fault(fmt.Sprintf(format, args...)))
}

// find returns the place of key; for an absent one, that of the mapping which lacks it.
func (r *report) find(key string) place {
	for k, more := key, true; more; k, more = parent(k) {
		if p, ok := r.places[k]; ok {
			p.path = strings.TrimPrefix(p.path+key[len(k):], ".")
			return p
		}
	}
	return place{path: key}
}

// FaultAt is what somebody else finds wrong with the value at key, with its place.
func (c *Config) FaultAt(key, text string) Fault {
	return (&report{places: c.places}).find(key).fault(text)
}

// parent cuts the last name or index off key; "" has none.
func parent(key string) (string, bool) {
	if key == "" {
		return "", false
	}
	return key[:max(strings.LastIndexAny(key, ".["), 0)], true
}

// err returns the faults, sorted and each once, or nil.
func (r *report) err() error {
	if len(r.faults) == 0 {
		return nil
	}
	return sorted(r.faults)
}

// sorted are faults in the order of their files, each once.
func sorted(faults Faults) Faults {
	slices.SortStableFunc(faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(faults)
}

package config

import (
	"io/fs"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/agnivade/levenshtein"
)

// A field is one key of a mapping.
type field struct {
	name     string
	typ      reflect.Type
	fallback any // its default in the form the file would give it; nil for none
	index    int // of the struct's field
}

var (
	configType  = reflect.TypeFor[Config]()
	poolType    = reflect.TypeFor[Pool]()
	listenType  = reflect.TypeFor[Listen]()
	listensType = reflect.TypeFor[[]Listen]()

	capabilitiesType = reflect.TypeFor[[]Capability]()
)

// runners are the keys of a pool that say what it runs.
var runners = []string{"process", "worker", "function"}

// Runner is the key that says what a checked pool runs: process, worker or function.
func (p *Pool) Runner() string { return p.kinds()[0] }

// StartsPrograms reports whether a pool runs programs, and not functions of this process.
func (p *Pool) StartsPrograms() bool { return p.Function == nil }

// kinds are those of runners that the pool has.
func (p *Pool) kinds() []string {
	has := map[string]bool{"process": p.Process != nil, "worker": p.Worker != nil, "function": p.Function != nil}
	return slices.DeleteFunc(slices.Clone(runners), func(key string) bool { return !has[key] })
}

// isMapping tells the structs whose fields are keys from those that are one value.
func isMapping(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.NumField() > 0 && t.Field(0).Tag.Get("mapstructure") != ""
}

// fieldLists are what fields has found, by type: a file with hundreds of pools asks for the
// same few, and to look through the tags of a struct takes longer than to read what stands
// in the file for it.
var fieldLists sync.Map

// fields lists the keys of a mapping in the order of the struct. Nobody may change it, nor
// what is in it.
func fields(t reflect.Type) []field {
	if list, ok := fieldLists.Load(t); ok {
		return list.([]field)
	}
	var list []field
	for f := range t.Fields() {
		if name := f.Tag.Get("mapstructure"); name != "" {
			list = append(list, field{name, f.Type, fallback(f.Type, f.Tag.Get("default")), f.Index[0]})
		}
	}
	fieldLists.Store(t, list)
	return list
}

func fallback(t reflect.Type, text string) any {
	switch {
	case t.Kind() == reflect.Pointer:
		return nil
	case isMapping(t):
		return defaults(t)
	case t.Kind() == reflect.Slice:
		list := []any{}
		for word := range strings.SplitSeq(text, ",") {
			if word != "" {
				list = append(list, word)
			}
		}
		return list
	default:
		return text
	}
}

// isKey tells whether a mapping has a key of that name.
func isKey(t reflect.Type, name string) bool {
	return slices.ContainsFunc(fields(t), func(f field) bool { return f.name == name })
}

// defaults is the mapping that has no key of its own. It is the caller's, but not what is in it.
func defaults(t reflect.Type) map[string]any {
	m := map[string]any{}
	for _, f := range fields(t) {
		if f.fallback != nil {
			m[f.name] = f.fallback
		}
	}
	return m
}

// names lists the keys of t and, dotted, those of the mappings in it.
func names(t reflect.Type) []string {
	var own, below []string
	for _, f := range fields(t) {
		own = append(own, f.name)
		typ := f.typ
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		if isMapping(typ) {
			for _, name := range names(typ) {
				below = append(below, f.name+"."+name)
			}
		}
	}
	return append(own, below...)
}

// meant returns the key whose last name is nearest to what was written, "" when
// none is near.
func meant(written string, keys []string) string {
	return nearest(written, keys, func(key string) string { return key[strings.LastIndexByte(key, '.')+1:] })
}

// nearest returns the candidate of which the given part is nearest to what was
// written, "" when none is near.
func nearest(written string, candidates []string, part func(string) string) string {
	if len(written) > 40 { // longer than any of them: not worth a matrix
		return ""
	}
	best, least := "", 1+min(3, 1+len(written)/3)
	for _, c := range candidates {
		if d := levenshtein.ComputeDistance(written, part(c)); d < least {
			best, least = c, d
		}
	}
	return best
}

// whole is the part of a candidate that is all of it.
func whole(s string) string { return s }

// didYouMean is the end of a fault's text, "" when nothing is near.
func didYouMean(candidate string) string {
	if candidate == "" {
		return ""
	}
	return " (did you mean " + candidate + "?)"
}

// wanted says in words what a value of type t looks like.
func wanted(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "a duration"
	case reflect.TypeFor[int64]():
		return "a size"
	case reflect.TypeFor[fs.FileMode]():
		return "an octal mode"
	case reflect.TypeFor[netip.Prefix]():
		return "a network"
	case reflect.TypeFor[syscall.Signal]():
		return "the name of a signal"
	}
	switch t.Kind() {
	case reflect.Slice:
		return "a list"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int32, reflect.Uint32:
		return "an integer"
	case reflect.Float64:
		return "a number"
	}
	if isMapping(t) {
		return "a mapping"
	}
	return "a string"
}

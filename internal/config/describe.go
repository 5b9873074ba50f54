package config

import (
	"fmt"
	"reflect"
	"strings"
)

// A Key is one that a file may have, as its documentation describes it.
type Key struct {
	Path    string // pools[].limits.queue; [] is each item of a list
	Type    string // a duration
	Default string // in the form of a file; "" for one that holds keys or has none
	// Reload is what a reload does with another value: ReloadsAtOnce, ReloadsWorkers or ReloadsNever.
	Reload string
}

// What a reload does with another value of a key; the tag `reload` of its field says so.
const (
	ReloadsAtOnce  = ""        // it is in force for what begins from then on
	ReloadsWorkers = "workers" // so it is for CGI programs; a pool's workers are replaced
	ReloadsNever   = "start"   // it is read when the daemon starts
)

// Keys lists all keys in the order of the structs: those that hold others before these.
func Keys() []Key { return keysOf("", configType) }

func keysOf(path string, t reflect.Type) (all []Key) {
	for f := range t.Fields() {
		name := f.Tag.Get("mapstructure")
		if name == "" {
			continue
		}
		k := Key{Path: strings.TrimPrefix(path+"."+name, "."), Type: wanted(f.Type), Reload: f.Tag.Get("reload")}
		holder := f.Type
		switch {
		case holder.Kind() == reflect.Pointer:
			holder = holder.Elem()
			k.Type = wanted(holder)
		case holder.Kind() == reflect.Slice && isMapping(holder.Elem()):
			holder = holder.Elem()
			k.Type, k.Path = "a list of mappings", k.Path+"[]"
		case !isMapping(holder):
			k.Default = shownDefault(fallback(f.Type, f.Tag.Get("default")))
		}
		all = append(all, k)
		if isMapping(holder) {
			all = append(all, keysOf(k.Path, holder)...)
		}
	}
	return all
}

// shownDefault is a default as a file gives it.
func shownDefault(value any) string {
	list, isList := value.([]any)
	if !isList {
		if value == "" {
			return `""`
		}
		return fmt.Sprint(value)
	}
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = fmt.Sprint(v)
	}
	return "[" + strings.Join(words, ", ") + "]"
}

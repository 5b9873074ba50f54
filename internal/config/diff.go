package config

import (
	"fmt"
	"reflect"
	"slices"
)

// Diff names the keys whose values differ, in the order of [Config], as they stand in a
// file: limits.queue, listen[1].mode. The lists of pools and of included files are left
// out; see [Pool.Diff].
func (c *Config) Diff(other *Config) []string {
	a, b := *c, *other
	a.Pools, b.Pools, a.Include, b.Include = nil, nil, nil, nil
	return diff("", reflect.ValueOf(a), reflect.ValueOf(b))
}

// Diff names the keys of a pool whose values differ. One that has become another kind
// differs in the keys of both kinds.
func (p *Pool) Diff(other *Pool) []string {
	return diff("", reflect.ValueOf(*p), reflect.ValueOf(*other))
}

func diff(key string, a, b reflect.Value) (keys []string) {
	switch {
	case a.Kind() == reflect.Pointer:
		if a.IsNil() != b.IsNil() {
			return []string{key}
		}
		if a.IsNil() {
			return nil
		}
		return diff(key, a.Elem(), b.Elem())
	case isMapping(a.Type()):
		for i := range a.NumField() {
			name := a.Type().Field(i).Tag.Get("mapstructure")
			if name == "" {
				continue
			}
			if key != "" {
				name = key + "." + name
			}
			keys = append(keys, diff(name, a.Field(i), b.Field(i))...)
		}
		return keys
	case a.Kind() == reflect.Slice && isMapping(a.Type().Elem()) && a.Len() == b.Len():
		for i := range a.Len() {
			keys = append(keys, diff(fmt.Sprintf("%s[%d]", key, i), a.Index(i), b.Index(i))...)
		}
		return keys
	}
	if reflect.DeepEqual(a.Interface(), b.Interface()) {
		return nil
	}
	return []string{key}
}

// Named is the pool of that name, or nil.
func (c *Config) Named(name string) *Pool {
	i := slices.IndexFunc(c.Pools, func(p Pool) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &c.Pools[i]
}

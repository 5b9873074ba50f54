package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Diff tells which keys differ, in the order of [Config] and as they stand in a file:
// "log.level info→debug", "listen[1].mode 0660→0600". The lists of pools and of included
// files are left out; see [Pool.Diff].
func (c *Config) Diff(other *Config) []string {
	a, b := *c, *other
	a.Pools, b.Pools, a.Include, b.Include = nil, nil, nil, nil
	return diff("", reflect.ValueOf(a), reflect.ValueOf(b))
}

// Diff tells which keys of a pool differ. One that has become another kind differs in the
// keys of both kinds. Of what programs are given, which may be secret, it has the names alone,
// and of a max_reqs of 0 also how many that are.
func (p *Pool) Diff(other *Pool) []string {
	changes := diff("", reflect.ValueOf(*p), reflect.ValueOf(*other))
	const key = "limits.max_reqs "
	if i := slices.IndexFunc(changes, func(c string) bool { return strings.HasPrefix(c, key) }); i >= 0 {
		changes[i] = key + p.maxReqs() + "→" + other.maxReqs()
	}
	return changes
}

// maxReqs is limits.max_reqs as the file has it, and what 0 stands for: "0 (8)".
func (p *Pool) maxReqs() string {
	if p.Limits.MaxReqs == 0 {
		return fmt.Sprintf("0 (%d)", p.Places())
	}
	return strconv.Itoa(p.Limits.MaxReqs)
}

func diff(key string, a, b reflect.Value) (changes []string) {
	switch {
	case a.Kind() == reflect.Pointer && a.IsNil() && b.IsNil():
		return nil
	case a.Kind() == reflect.Pointer && a.IsNil():
		return []string{key + " added"}
	case a.Kind() == reflect.Pointer && b.IsNil():
		return []string{key + " removed"}
	case a.Kind() == reflect.Pointer:
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
			changes = append(changes, diff(name, a.Field(i), b.Field(i))...)
		}
		return changes
	case a.Kind() == reflect.Slice && isMapping(a.Type().Elem()) && a.Len() == b.Len():
		for i := range a.Len() {
			changes = append(changes, diff(fmt.Sprintf("%s[%d]", key, i), a.Index(i), b.Index(i))...)
		}
		return changes
	}
	switch {
	case reflect.DeepEqual(a.Interface(), b.Interface()):
		return nil
	case isSecret(key):
		return []string{key + " " + diffNames(a.Interface().([]string), b.Interface().([]string))}
	}
	return []string{key + " " + brief(a) + "→" + brief(b)}
}

// isSecret reports whether the values of a list of NAME=value are not to be shown.
func isSecret(key string) bool { return key == "env" || key == "worker.warm_up" }

// diffNames tells which of some NAME=value are others.
func diffNames(a, b []string) string {
	before, after := byName(a), byName(b)
	changed := make(map[string][]string)
	for name, value := range after {
		switch old, had := before[name]; {
		case !had:
			changed["added"] = append(changed["added"], name)
		case old != value:
			changed["changed"] = append(changed["changed"], name)
		}
	}
	for name := range before {
		if _, has := after[name]; !has {
			changed["removed"] = append(changed["removed"], name)
		}
	}
	if len(changed) == 0 {
		return "in another order"
	}
	var parts []string
	for _, how := range []string{"changed", "added", "removed"} {
		if names := changed[how]; len(names) > 0 {
			slices.Sort(names)
			parts = append(parts, strings.Join(names, " and ")+" "+how)
		}
	}
	return strings.Join(parts, ", ")
}

// byName are the values of a list of NAME=value; the last one wins, as for programs.
func byName(list []string) map[string]string {
	values := make(map[string]string)
	for _, item := range list {
		name, value, _ := strings.Cut(item, "=")
		values[name] = value
	}
	return values
}

// maxBrief is how many characters of a value are shown.
const maxBrief = 60

// brief is a value as a file has it, in a line and not too long.
func brief(v reflect.Value) string {
	var text string
	switch {
	case isMapping(v.Type()):
		text = fmt.Sprint(plain(v.Field(0).Interface())) // the address of a Listen
	case v.Kind() == reflect.Slice:
		var items []string
		for _, item := range v.Seq2() {
			items = append(items, brief(item))
		}
		text = "[" + strings.Join(items, ", ") + "]"
	default:
		text = fmt.Sprint(plain(v.Interface()))
	}
	if runes := []rune(text); len(runes) > maxBrief {
		text = string(runes[:maxBrief]) + "…"
	}
	if v.Kind() == reflect.String && (text == "" || strings.ContainsFunc(text, func(r rune) bool { return r == ' ' || !strconv.IsPrint(r) })) {
		return strconv.Quote(text)
	}
	return text
}

// Named is the pool of that name, or nil.
func (c *Config) Named(name string) *Pool {
	i := slices.IndexFunc(c.Pools, func(p Pool) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &c.Pools[i]
}

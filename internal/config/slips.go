package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/fcgid/fcgid/internal/address"
)

// glued says of a key that it is one with its value and no space between them, or one after
// a dash, and which it is.
func (t *tree) glued(n *yaml.Node) (text, key string) {
	if text := gluedItemText(n.Value + ":"); text != "" {
		return strings.TrimSuffix(text, `:"`) + `: ..."`, ""
	}
	m := gluedPair.FindStringSubmatch(n.Value)
	if m == nil || !anyKey()[m[2]] {
		return "", ""
	}
	value := m[3]
	if strings.ContainsAny(value[:1], "{[") && n.Line <= len(t.lines) { // and the rest is in the value
		_, value, _ = strings.Cut(t.lines[n.Line-1], m[2]+":")
	}
	return gluedText(m[2], strings.TrimSpace(value)), m[2]
}

// misplaced says where a key belongs that typ does not have, and which of typ's it stands
// for; "" is nowhere, or not only there.
func misplaced(e entry, typ reflect.Type, at spot) (text, key string) {
	name, inPool := e.key.Value, strings.HasPrefix(at.key, "pools[")
	_, isLimit := limitable[name]
	switch other := otherRunner(typ, name); {
	case typ != poolType && inPool && name != "name" && isKey(poolType, name):
		return "unknown key: it is one of the pool, not of " + lastName(at.key), ""
	case typ == configType && isKey(poolType, name):
		return "unknown key: it belongs to a pool, below pools:", ""
	case typ == poolType && isKey(listenType, name) && (name != "owner" || e.value.ShortTag() != "!!bool"):
		return "unknown key: it is one of listen, beside its address", ""
	case typ == reflect.TypeFor[Sandbox]() && isLimit:
		return fmt.Sprintf("unknown key: here that is rlimits: [%s=%s]", name, e.value.Value), ""
	case typ == listenType && (name == "unix" || name == "tcp" || name == "systemd"):
		return fmt.Sprintf("unknown key: write address: %s:%s", name, e.value.Value), "address"
	case typ == listenType && name == "path":
		return "unknown key" + didYouMean("address: unix:"+strings.TrimPrefix(e.value.Value, "unix:")), "address"
	case other != "":
		return fmt.Sprintf("unknown key: it is one of %s, not of %s", other, lastName(at.key)), ""
	case inPool && name != "memory" && isKey(configType, name):
		return "unknown key: it is one of the whole daemon, beside pools:", ""
	}
	return "", ""
}

// otherRunner is the runner that has a key which the one of type typ has not.
func otherRunner(typ reflect.Type, name string) string {
	isRunner, other := false, ""
	for _, f := range fields(poolType) {
		switch own := f.typ; {
		case !slices.Contains(runners, f.name):
		case own.Elem() == typ:
			isRunner = true
		case isKey(own.Elem(), name):
			other = f.name
		}
	}
	if !isRunner {
		return ""
	}
	return other
}

// listFrom says how a list begins that was written as the mapping n, of pools by name or of
// the keys of one.
func listFrom(n *yaml.Node) string {
	key, value := resolve(n.Content[0]), resolve(n.Content[1])
	if text := gluedItemText(key.Value + ": " + value.Value); text != "" {
		return text
	}
	if value.Kind == yaml.ScalarNode {
		return fmt.Sprintf("write %q", "- "+key.Value+": "+value.Value)
	}
	return fmt.Sprintf("write %q", "- name: "+key.Value)
}

// example is what was meant by a word in the place of a mapping, or by a mapping in the place
// of a pair, to stand at the end of a fault; "" is not known.
func (t *tree) example(n *yaml.Node, typ reflect.Type, at spot) string {
	if n.Kind == yaml.MappingNode && len(n.Content) == 2 && pairLists[lastName(at.key)] {
		return ": write " + n.Content[0].Value + "=" + resolve(n.Content[1]).Value
	}
	word := n.Value
	if meant := address.Meant(word); typ == reflect.TypeFor[Admin]() && meant != "" {
		word = meant
	}
	if key := mainKey(typ, word); n.Kind == yaml.ScalarNode && key != "" {
		return didYouMean(fmt.Sprintf("%s: {%s: %s}", lastName(at.key), key, word))
	}
	return ""
}

// mainKey is the key of typ that a word alone is a value of.
func mainKey(typ reflect.Type, word string) string {
	isOutput := strings.HasPrefix(word, "/") || word == "stderr" || word == "stdout"
	_, err := address.Parse(word)
	switch {
	case typ == reflect.TypeFor[Sandbox]() && word == "strict":
		return "preset"
	case typ == reflect.TypeFor[Log]() && slices.Contains([]string{"debug", "info", "warn", "error"}, word):
		return "level"
	case typ == reflect.TypeFor[Log]() && isOutput, typ == reflect.TypeFor[AccessLog]() && isOutput:
		return "output"
	case typ == reflect.TypeFor[Process]() && strings.HasPrefix(word, "/"):
		return "root"
	case typ == reflect.TypeFor[Worker]() && strings.HasPrefix(word, "/"):
		return "command"
	case typ == reflect.TypeFor[Admin]() && err == nil:
		return "listen"
	}
	return ""
}

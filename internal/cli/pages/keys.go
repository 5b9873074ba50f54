package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/fcgid/fcgid/internal/config"
)

// keysPage is the document that has a table of all keys between two comments.
const (
	keysPage            = "docs/configuration.md"
	keysBegin, keysRest = "<!-- keys: make docs -->\n", "<!-- /keys -->\n"
)

// withKeys is the page with the table of all keys: what the file says of them, what their
// type and default are, and what a value has to be, in the words of check.
func withKeys(page, file string) (string, error) {
	before, rest, ok := strings.Cut(page, keysBegin)
	_, after, ok2 := strings.Cut(rest, keysRest)
	if !ok || !ok2 {
		return "", fmt.Errorf("%s has no place for keys", keysPage)
	}
	texts := make(map[string]string)
	for _, k := range read(file).keys {
		texts[strings.TrimSuffix(k.path, "[]")] = k.text
	}
	dir, err := os.MkdirTemp("", "fcgid-keys-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	var b bytes.Buffer
	b.WriteString(before + keysBegin)
	holder := "none yet"
	for _, k := range byHolder(config.Keys()) {
		h, name := parts(k.Path)
		if h != holder {
			holder = h
			b.WriteString(heading(h, texts[strings.TrimSuffix(h, "[]")]))
		}
		rule, err := probe(dir, k)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s |\n", name, cell(kindOf(k, rule)), k.Default, cell(texts[k.Path]+reloadText[k.Reload]))
	}
	b.WriteString("\n" + keysRest + after)
	return b.String(), nil
}

// heading begins the table of the keys that one holds; "" is the file.
func heading(holder, text string) string {
	title := "The file"
	if holder != "" {
		title = "`" + holder + "`"
	}
	if text != "" {
		text = cell(text) + "\n\n"
	}
	return "\n### " + title + "\n\n" + text + "| key | is | default | what |\n| --- | --- | --- | --- |\n"
}

// parts are the path of what holds a key, and the key's name.
func parts(path string) (holder, name string) {
	i := strings.LastIndexByte("."+path, '.')
	return path[:max(0, i-1)], path[i:]
}

// byHolder leaves out keys that hold others, and puts those together that one holds, the
// file's own first.
func byHolder(keys []config.Key) (all []config.Key) {
	holders := []string{""}
	for i, k := range keys {
		if i+1 < len(keys) && strings.HasPrefix(keys[i+1].Path, k.Path+".") {
			continue
		}
		all = append(all, k)
		if h, _ := parts(k.Path); !slices.Contains(holders, h) {
			holders = append(holders, h)
		}
	}
	place := func(k config.Key) int {
		h, _ := parts(k.Path)
		return slices.Index(holders, h)
	}
	slices.SortStableFunc(all, func(a, b config.Key) int { return place(a) - place(b) })
	return all
}

// reloadText is what the page says of a reload; of one key the file says so itself.
var reloadText = map[string]string{config.ReloadsWorkers: " †"}

// kindOf is the type of a key, and the rule for its values.
func kindOf(k config.Key, rule string) string {
	kind, rule := withoutArticle(k.Type), withoutArticle(rule)
	_, name := parts(k.Path)
	switch {
	case rule == "":
		return kind
	case kind == "list" && name == "command":
		return "list; the first " + rule
	case kind == "list":
		return "list; each " + rule
	case kind == "string" || strings.HasPrefix(rule, kind) || k.Type == "the name of a signal":
		return rule
	}
	return kind + " " + rule
}

func withoutArticle(text string) string {
	return strings.TrimPrefix(strings.TrimPrefix(text, "a "), "an ")
}

var (
	pageName = regexp.MustCompile(`docs/([a-z-]+\.md)`)
	asterisk = regexp.MustCompile(`\*_([A-Z]+)`)
)

// cell is text in a table.
func cell(text string) string {
	text = strings.ReplaceAll(text, "|", `\|`)
	text = asterisk.ReplaceAllString(text, `\*\_$1`)
	return pageName.ReplaceAllString(text, "[$1]($1)")
}

// values are what no key of that type takes, as a file has them.
var values = map[string][]any{
	"an integer":           {-1_000_000, 1_000_000_000},
	"a size":               {"1", "1000000GiB"},
	"a duration":           {"1ms", "100000h"},
	"a number":             {1e-9, 1e9},
	"a string":             {"\u2026"},
	"a list":               {[]any{"\u2026"}},
	"an octal mode":        {"9"},
	"the name of a signal": {"\u2026"},
}

// probe is the rule for the values of a key: what a fault says that tells of a wrong one.
func probe(dir string, k config.Key) (string, error) {
	_, name := parts(k.Path)
	isAbout := regexp.MustCompile(`(^|\.)` + name + `(\[0\])?$`).MatchString
	var rules []string
	for _, value := range values[k.Type] {
		faults, err := check(dir, k.Path, value)
		if err != nil {
			return "", err
		}
		for _, f := range faults {
			if rule := ruleOf(f.Text); isAbout(f.Path) && rule != "" && !slices.Contains(rules, rule) {
				rules = append(rules, rule)
			}
		}
	}
	return strings.Join(rules, ", "), nil
}

// check loads a configuration that has this value, and what a pool needs besides.
func check(dir, path string, value any) (config.Faults, error) {
	pool := map[string]any{"name": "a", "listen": []any{map[string]any{"address": "unix:/s"}}}
	switch {
	case strings.HasPrefix(path, "pools[].worker"):
		pool["worker"] = map[string]any{"command": []any{"/bin/true"}}
	case strings.HasPrefix(path, "pools[].function"):
		pool["function"] = map[string]any{}
	default:
		pool["process"] = map[string]any{"root": []any{"/srv"}}
	}
	file := map[string]any{"pools": []any{pool}}
	set(file, strings.Split(path, "."), value)
	text, err := yaml.Marshal(file)
	if err != nil {
		return nil, err
	}
	name := filepath.Join(dir, "fcgid.yaml")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		return nil, err
	}
	var faults config.Faults
	if _, err := config.Load(name, nil); err != nil && !errors.As(err, &faults) {
		return nil, err
	}
	return faults, nil
}

// set puts a value at a path into a tree.
func set(m map[string]any, path []string, value any) {
	name, isList := strings.CutSuffix(path[0], "[]")
	if len(path) == 1 {
		m[name] = value
		return
	}
	if isList {
		set(m[name].([]any)[0].(map[string]any), path[1:], value)
		return
	}
	below, ok := m[name].(map[string]any)
	if !ok {
		below = make(map[string]any)
		m[name] = below
	}
	set(below, path[1:], value)
}

var rules = []*regexp.Regexp{
	regexp.MustCompile(`^must be (from .*?|at least .*?|at most .*?)(?:, not .*|: .*)?$`),
	regexp.MustCompile(`is not one of (.*?)(?: \(did you mean.*)?$`),
	regexp.MustCompile(`is (?:not|no) (an? .*?)(?:, for example .*)?$`),
}

// ruleOf is what a fault says that a value should be.
func ruleOf(text string) string {
	for _, rule := range rules {
		if m := rule.FindStringSubmatch(text); m != nil {
			return m[1]
		}
	}
	return ""
}

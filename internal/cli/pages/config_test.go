package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// walk collects the keys of a document by path.
func walk(n *yaml.Node, path string, to map[string]bool) {
	switch n.Kind {
	case yaml.DocumentNode:
		walk(n.Content[0], path, to)
	case yaml.SequenceNode:
		for _, item := range n.Content {
			if item.Kind == yaml.MappingNode {
				walk(item, path+"[]", to)
			}
		}
	case yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			child := strings.TrimPrefix(path+"."+n.Content[i].Value, ".")
			to[child] = true
			walk(n.Content[i+1], child, to)
		}
	}
}

// fcgid.yaml(5) has every key of configs/fcgid.yaml, and says something of each that has
// a value.
func TestConfigPage(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("../../..", configFile))
	if err != nil {
		t.Fatal(err)
	}
	before, after, _ := strings.Cut(string(data), otherPools)
	text := before + "\n" + regexp.MustCompile(`(?m)^#(  .*)$`).ReplaceAllString(after[strings.Index(after, "\n"):], "$1")
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	want, got := map[string]bool{}, map[string]bool{}
	walk(&doc, "", want)
	r := read(string(data))
	for _, k := range r.keys {
		if k.path == "" {
			continue
		}
		got[k.path] = true
		if k.value != "" && k.text == "" && k.path != "pools[].worker.command" {
			t.Errorf("nothing is said of %s", k.path)
		}
		if strings.Contains(k.value, "#") || strings.Contains(k.text, " # ") {
			t.Errorf("%s: %q is the value of %q", k.path, k.value, k.text)
		}
	}
	delete(got, "") // of a second pool
	if missing := slices.Sorted(maps.Keys(want)); !slices.Equal(missing, slices.Sorted(maps.Keys(got))) {
		t.Errorf("the page has\n%q\nand the file\n%q", slices.Sorted(maps.Keys(got)), missing)
	}
	page := string(configPage(string(data)))
	for _, part := range []string{"\\fBpools[].worker.scale\\fR (dynamic)\nstatic: always max", "\\fBpools[].silence\\fR (0)\n", "\n.SH NAME\nfcgid.yaml \\- ", "\\fBpools[].limits.max_reqs\\fR (0)\nrequests running at once"} {
		if !strings.Contains(page, part) {
			t.Errorf("the page does not have %q", part)
		}
	}
}

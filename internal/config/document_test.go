package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each key that the documents name with the one that holds it is there.
func TestDocumentedKeys(t *testing.T) {
	known := make(map[string]bool)
	for _, k := range Keys() {
		path := strings.ReplaceAll(k.Path, "[]", "")
		known[path], known[strings.TrimPrefix(path, "pools.")] = true, true
	}
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:log|access_log|admin|pools|listen|limits|sandbox|slow|process|worker|function)\\.[a-z_.]+)`")
	count := 0
	for _, file := range append(files, "../../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(file) == "php-fpm.md" { // its tables begin with php-fpm's directives
			text = regexp.MustCompile(`(?m)^\| [^|]* \|`).ReplaceAll(text, nil)
		}
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			if !known[m[1]] {
				t.Errorf("%s: there is no key %s", file, m[1])
			}
			count++
		}
	}
	if count < 50 {
		t.Errorf("found %d keys only", count)
	}
}

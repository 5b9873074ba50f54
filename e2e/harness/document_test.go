package harness

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A name that a test asks for means one block.
func TestDocumentedNames(t *testing.T) {
	seen := make(map[string]Block)
	for _, file := range Documents(t) {
		for _, b := range Blocks(t, file) {
			if other, ok := seen[b.Name]; ok && b.Name != "" {
				t.Errorf("the blocks of %s:%d and %s:%d are both %s", other.File, other.Line, file, b.Line, b.Name)
			}
			seen[b.Name] = b
			if strings.Contains(b.Text, "<!-- test:") {
				t.Errorf("%s:%d: the block has the comment of another one in it", file, b.Line)
			}
		}
	}
}

// A block that has a name is one that a test runs, and each has one that is not a drawing.
func TestDocumentedNamesAreRun(t *testing.T) {
	var tests strings.Builder
	for _, pattern := range []string{"e2e/*.go", "e2e/apps/*.go", "e2e/systemd/*", "scripts/*", "bench/*.go"} {
		files, _ := filepath.Glob(filepath.Join(Root(t), pattern))
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				continue // a folder
			}
			tests.Write(text)
		}
	}
	for _, file := range Documents(t) {
		for _, b := range Blocks(t, file) {
			if b.Name == "" && (b.Lang != "" || !strings.ContainsAny(b.Text, "▶─")) {
				t.Errorf("%s:%d: the block has no <!-- test: NAME -->", file, b.Line)
			}
			asked := regexp.MustCompile(`["'` + "`" + ` ]` + regexp.QuoteMeta(b.Name) + `["'` + "`" + ` )\n]`)
			if b.Name != "" && !asked.MatchString(tests.String()) {
				t.Errorf("%s:%d: no test runs %s", file, b.Line, b.Name)
			}
		}
	}
}

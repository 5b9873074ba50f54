package harness

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// documents are those whose blocks people copy.
func documents(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(Root(t), "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	documents := []string{"README.md"}
	for _, file := range files {
		documents = append(documents, "docs/"+filepath.Base(file))
	}
	return documents
}

// A name that a test asks for means one block.
func TestDocumentedNames(t *testing.T) {
	for _, file := range documents(t) {
		seen := make(map[string]int)
		for _, b := range Blocks(t, file) {
			if line := seen[b.Name]; b.Name != "" && line != 0 {
				t.Errorf("%s: the blocks of lines %d and %d are both %s", file, line, b.Line, b.Name)
			}
			seen[b.Name] = b.Line
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
	for _, file := range documents(t) {
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

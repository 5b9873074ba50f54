package harness

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Root is the folder of the repository.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for dir != "/" {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	t.Fatal("no go.mod above the tests")
	return ""
}

// A Block is a fenced block of a document.
type Block struct {
	File string // relative to the repository
	Line int    // of its first fence
	Lang string
	// Name is what a comment on the line before it says: "<!-- test: NAME -->". A
	// test runs the block by that name.
	Name string
	Text string
}

// Blocks are the fenced blocks of a document, in order.
func Blocks(t testing.TB, file string) (blocks []Block) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root(t), file))
	if err != nil {
		t.Fatal(err)
	}
	var open *Block
	before := ""
	for i, line := range strings.Split(string(text), "\n") {
		lang, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence && open == nil:
			name, _ := strings.CutPrefix(before, "<!-- test: ")
			name, marked := strings.CutSuffix(name, " -->")
			if !marked {
				name = ""
			}
			open = &Block{File: file, Line: i + 1, Lang: lang, Name: name}
		case fence:
			blocks = append(blocks, *open)
			open = nil
		case open != nil:
			open.Text += line + "\n"
		}
		before = strings.TrimSpace(line)
	}
	if open != nil {
		t.Fatalf("%s:%d: the block does not end", file, open.Line)
	}
	return blocks
}

// Documents are those whose blocks people copy, relative to the repository.
func Documents(t testing.TB) []string {
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

// Named is Documented of the document that has a block of this name. No two have: a
// block may move from one to the other.
func Named(t testing.TB, name string, oldnew ...string) string {
	t.Helper()
	for _, file := range Documents(t) {
		for _, b := range Blocks(t, file) {
			if b.Name == name {
				return Documented(t, file, name, oldnew...)
			}
		}
	}
	t.Fatalf("no document has a block with the comment <!-- test: %s --> before it", name)
	return ""
}

// Documented is the block of a document that has this name, with other paths in it:
// old, new, old, new. Each of the old ones has to be there.
func Documented(t testing.TB, file, name string, oldnew ...string) string {
	t.Helper()
	for _, b := range Blocks(t, file) {
		if b.Name != name {
			continue
		}
		for i := 0; i < len(oldnew); i += 2 {
			if !strings.Contains(b.Text, oldnew[i]) {
				t.Fatalf("%s:%d: block %s does not have %q", file, b.Line, name, oldnew[i])
			}
		}
		return strings.NewReplacer(oldnew...).Replace(b.Text)
	}
	t.Fatalf("%s has no block with the comment <!-- test: %s --> before it", file, name)
	return ""
}

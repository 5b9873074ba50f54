package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What the two documents about the code name is there: a name that has changed is one
// that nobody finds.
func TestNamesInDocuments(t *testing.T) {
	code := readCode(t)
	for _, doc := range []string{"architecture.md", "requests.md"} {
		text, err := os.ReadFile("../docs/" + doc)
		if err != nil {
			t.Fatal(err)
		}
		quoted := regexp.MustCompile("`[^`\n]+`").FindAllString(fence.ReplaceAllString(string(text), ""), -1)
		if len(quoted) < 50 {
			t.Errorf("%s quotes %d words: are they looked for?", doc, len(quoted))
		}
		for _, q := range quoted {
			if word := strings.Trim(q, "`"); !code.has(word) {
				t.Errorf("%s: nothing in the code is called %s", doc, word)
			}
		}
	}
}

var (
	fence  = regexp.MustCompile("(?s)```.*?```")
	path   = regexp.MustCompile(`^[a-z_]+(/[a-z_]+)*(/[a-z_]+)?\.go$|^[a-z_]+(/[a-z_]+)+$`)
	dotted = regexp.MustCompile(`^[A-Za-z]+(\.[A-Za-z]+)+$`)
	mixed  = regexp.MustCompile(`^[A-Za-z]*([a-z][A-Z]|[A-Z][a-z])[A-Za-z]*$`)
)

// notOurs are what may stand before a dot that is neither a package nor a type here: the
// standard library's, parts of keys, usual variables.
var notOurs = []string{"context", "exec", "net", "Cmd", "cfg", "req", "limits", "sandbox"}

// A code is what names there are in it.
type code struct {
	files   []string
	names   map[string]bool
	members map[string]map[string]bool // of packages and of types
}

// has reports whether a word that is a name is one, and is true of what is none.
func (c *code) has(word string) bool {
	parts := strings.Split(word, ".")
	switch {
	case path.MatchString(word):
		return slices.ContainsFunc(c.files, func(f string) bool {
			return strings.HasSuffix(f, "/"+word) || strings.Contains(f, "/"+word+"/")
		})
	case dotted.MatchString(word) && !slices.Contains(notOurs, parts[0]) && !strings.HasSuffix(word, ".md"):
		for i, part := range parts[1:] {
			if !c.members[parts[i]][part] {
				return false
			}
		}
	case mixed.MatchString(word):
		return c.names[word]
	}
	return true
}

func readCode(t *testing.T) *code {
	t.Helper()
	c := &code{names: make(map[string]bool), members: make(map[string]map[string]bool)}
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") {
			return err
		}
		c.files = append(c.files, name)
		if strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err == nil {
			c.read(f)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// read adds what a file declares.
func (c *code) read(f *ast.File) {
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok {
			of := f.Name.Name
			if fn.Recv != nil {
				of = receiver(fn.Recv.List[0].Type)
			}
			c.add(of, fn.Name)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.TypeSpec:
			c.add(f.Name.Name, n.Name)
			switch typ := n.Type.(type) {
			case *ast.StructType:
				c.addFields(n.Name.Name, typ.Fields)
			case *ast.InterfaceType:
				c.addFields(n.Name.Name, typ.Methods)
			}
		case *ast.ValueSpec:
			for _, name := range n.Names {
				c.add(f.Name.Name, name)
			}
		}
		return true
	})
}

func (c *code) addFields(of string, list *ast.FieldList) {
	for _, field := range list.List {
		for _, name := range field.Names {
			c.add(of, name)
		}
	}
}

func (c *code) add(of string, name *ast.Ident) {
	if c.members[of] == nil {
		c.members[of] = make(map[string]bool)
	}
	c.members[of][name.Name] = true
	c.names[name.Name] = true
}

// receiver is the name of a method's type.
func receiver(x ast.Expr) string {
	for {
		switch typ := x.(type) {
		case *ast.StarExpr:
			x = typ.X
		case *ast.IndexExpr:
			x = typ.X
		case *ast.Ident:
			return typ.Name
		default:
			return ""
		}
	}
}

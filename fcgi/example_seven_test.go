package fcgi_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"testing"
)

// seven are what a newcomer wants first, and the examples that show it.
var seven = map[string]string{
	"a server on a socket, with programs": "Program",
	"a client that waits":                 "Client_Do",
	"a function by its name":              "Registry",
	"the timeouts":                        "TimeoutHandler",
	"the three limits":                    "Client_Values",
	"does it run":                         "Dial",
	"a stop":                              "Server_Serve",
}

// maxExample is how many lines the body of one may have, its output included.
const maxExample = 14

// Each of them is run by go test, and short.
func TestSevenExamples(t *testing.T) {
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range []string{"example_test.go", "example_server_test.go"} {
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	examples := make(map[string]*doc.Example)
	for _, e := range doc.Examples(files...) {
		examples[e.Name] = e
	}
	for what, name := range seven {
		e := examples[name]
		switch {
		case e == nil:
			t.Errorf("%s: there is no Example%s", what, name)
			continue
		case e.Output == "":
			t.Errorf("%s: Example%s is not run: it has no output", what, name)
		case e.Doc == "":
			t.Errorf("%s: Example%s says nothing", what, name)
		}
		for _, f := range files {
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == "Example"+name {
					if n := fset.Position(fn.Body.Rbrace).Line - fset.Position(fn.Body.Lbrace).Line - 1; n > maxExample {
						t.Errorf("%s: Example%s has %d lines, more than %d", what, name, n, maxExample)
					}
				}
			}
		}
	}
}

package server

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/doctest"
)

// The table of locks in the documentation has every mutex of this package, and the door.
func TestLocksAreDocumented(t *testing.T) {
	want := map[string]bool{"outlet.door": true}
	for _, f := range sources(t) {
		ast.Inspect(f, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				for _, field := range mutexes(spec) {
					want[field] = true
				}
			}
			return true
		})
	}
	got := make(map[string]bool)
	for _, row := range doctest.Table(t, "../../docs/requests.md", "| lock ")[1:] {
		for name := range strings.SplitSeq(row[0], ",") {
			got[strings.Trim(name, " `")] = true
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("the table has %v, the code %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// sources are the files of this package that are not tests.
func sources(t *testing.T) (files []*ast.File) {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// mutexes are the fields of a struct that are one, as Type.field.
func mutexes(spec *ast.TypeSpec) (fields []string) {
	s, ok := spec.Type.(*ast.StructType)
	if !ok {
		return nil
	}
	for _, field := range s.Fields.List {
		of, ok := field.Type.(*ast.SelectorExpr)
		if !ok || of.Sel.Name != "Mutex" && of.Sel.Name != "RWMutex" {
			continue
		}
		for _, name := range field.Names {
			fields = append(fields, spec.Name.Name+"."+name.Name)
		}
	}
	return fields
}

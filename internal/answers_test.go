package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/doctest"
)

// refusers are the functions that make an answer of fcgid's own of a reason, and the
// status that it has; "" is their first argument.
var refusers = map[string]string{
	"refuse": "", "overload": "503", "notFound": "404", "forbidden": "403", "refused": "403",
}

// An answers collects what the code of some packages answers by itself.
type answers struct {
	vars    map[string]string    // reasons of package-level errors, by name
	texts   map[string]bool      // all string literals, as reasons
	reasons map[[2]string]string // status and reason: where
}

// verb is one of a format.
var verb = regexp.MustCompile(`(%[-+#.*0-9]*[a-zA-Z])+`)

// reason is a string literal as a reader of the log knows it: what differs is …
func reason(lit *ast.BasicLit) string {
	text, err := strconv.Unquote(lit.Value)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(verb.ReplaceAllString(text, "…"))
}

// literal is the first string in an expression that is an error, or the reason of one that
// has a name.
func (a *answers) literal(e ast.Expr) (text string) {
	ast.Inspect(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			if n.Kind == token.STRING && text == "" {
				text = reason(n)
			}
		case *ast.Ident:
			if text == "" {
				text = a.vars[n.Name]
			}
		}
		return text == ""
	})
	return text
}

func (a *answers) note(status string, e ast.Expr, at token.Position) {
	if text := a.literal(e); text != "" && status != "" && status != "0" { // 0: an answer that has begun
		a.reasons[[2]string{status, text}] = at.String()
	}
}

// call looks at a call of one of the refusers.
func (a *answers) call(c *ast.CallExpr, at token.Position) {
	name, ok := c.Fun.(*ast.Ident)
	if !ok || len(c.Args) == 0 {
		return
	}
	status, ok := refusers[name.Name]
	if lit, isLit := c.Args[0].(*ast.BasicLit); ok && status == "" && isLit && len(c.Args) > 1 {
		a.note(lit.Value, c.Args[1], at)
	} else if ok && status != "" {
		a.note(status, c.Args[0], at)
	}
}

// composite looks at a refusal that is written out.
func (a *answers) composite(c *ast.CompositeLit, at token.Position) {
	var status string
	for i, e := range c.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok { // a refusal of the server: httpStatus, appStatus, status, outcome, reason
			if lit, isLit := e.(*ast.BasicLit); i == 0 && isLit {
				status = lit.Value
			} else if i == 4 {
				a.note(status, e, at)
			}
			continue
		}
		switch key, _ := kv.Key.(*ast.Ident); {
		case key == nil:
		case key.Name == "HTTPStatus" || key.Name == "Status":
			if lit, isLit := kv.Value.(*ast.BasicLit); isLit {
				status = lit.Value
			}
		case key.Name == "Reason" || key.Name == "Err":
			a.note(status, kv.Value, at)
		}
	}
}

func isRefusal(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "refusal" || e.Name == "StatusError"
	case *ast.SelectorExpr:
		return e.Sel.Name == "Refusal" || e.Sel.Name == "StatusError"
	}
	return false
}

// read takes a package.
func (a *answers) read(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no files, %v", dir, err)
	}
	set := token.NewFileSet()
	a.vars = make(map[string]string)
	var parsed []*ast.File
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, f)
		a.declared(f)
	}
	for _, f := range parsed {
		ast.Inspect(f, func(n ast.Node) bool { return a.node(n, set) })
	}
}

// declared notes the reasons that have a name.
func (a *answers) declared(f *ast.File) {
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			a.vars[v.Names[0].Name] = a.literal(v.Values[0])
		}
		_, isFunction := n.(*ast.FuncDecl)
		return !isFunction
	})
}

func (a *answers) node(n ast.Node, set *token.FileSet) bool {
	switch n := n.(type) {
	case *ast.BasicLit:
		if n.Kind == token.STRING {
			a.texts[reason(n)] = true
		}
	case *ast.CallExpr:
		a.call(n, set.Position(n.Pos()))
	case *ast.CompositeLit:
		if isRefusal(n.Type) {
			a.composite(n, set.Position(n.Pos()))
		}
	}
	return true
}

// docs/answers.md has each status with each reason that the code answers it for, as the
// log has it, and no reason that is not in the code.
func TestDocumentedAnswers(t *testing.T) {
	a := &answers{texts: make(map[string]bool), reasons: make(map[[2]string]string)}
	for _, dir := range []string{"server", "cgi", "protocol", "pool", "runner/process", "runner/worker", "runner/function", "daemon", "../fcgi"} {
		a.read(t, dir)
	}
	documented := make(map[[2]string]bool)
	quoted := regexp.MustCompile("`([^`]+)`")
	for _, row := range doctest.Table(t, "../docs/answers.md", "| status ")[1:] {
		for _, m := range quoted.FindAllStringSubmatch(row[1], -1) {
			documented[[2]string{row[0], m[1]}] = true
			if !a.texts[m[1]] {
				t.Errorf("%s: no code has the reason %q", row[0], m[1])
			}
		}
	}
	var missing []string
	for r, at := range a.reasons {
		if !documented[r] {
			missing = append(missing, r[0]+" `"+r[1]+"` ("+at+")")
		}
	}
	slices.Sort(missing)
	for _, m := range missing {
		t.Errorf("docs/answers.md lacks %s", m)
	}
}

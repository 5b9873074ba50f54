// Package internal_test holds what is true of the module as a whole.
package internal_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/fcgid/fcgid"

// rules say which of our packages a package may import, and what it must not
// link, however deep down.
var rules = []struct {
	pkg   string
	ours  []string
	never []string
}{
	{"internal/protocol", nil, []string{"go.uber.org/", "github.com/spf13/", "github.com/prometheus/", "os/exec", "golang.org/"}},
	{"internal/nbio", nil, []string{"go.uber.org/", "github.com/spf13/", "github.com/prometheus/"}},
	{"internal/listen", nil, []string{"github.com/spf13/", "github.com/prometheus/"}},
	{"internal/config", nil, []string{"github.com/prometheus/"}},
	{"internal/cgi", []string{"internal/protocol"}, []string{"go.uber.org/", "github.com/spf13/", "github.com/prometheus/", "os/exec"}},
	{"internal/server", []string{"internal/protocol", "internal/cgi", "internal/nbio"}, []string{"github.com/spf13/", "github.com/prometheus/", "os/exec"}},
	{"internal/spawn", []string{"internal/nbio"}, []string{"go.uber.org/", "github.com/spf13/", "github.com/prometheus/", "os/exec"}},
	{"internal/runner/process", []string{"internal/protocol", "internal/cgi", "internal/nbio", "internal/spawn"}, []string{"go.uber.org/", "github.com/spf13/", "github.com/prometheus/", "os/exec"}},
	{"internal/runner/worker", []string{"internal/protocol", "internal/cgi", "internal/nbio", "internal/spawn"}, []string{"go.uber.org/", "github.com/spf13/", "github.com/prometheus/"}},
	{"internal/runner/function", []string{"internal/protocol"}, []string{"go.uber.org/", "github.com/spf13/", "github.com/prometheus/", "os/exec", "golang.org/"}},
	{"fcgi", []string{"internal/protocol", "internal/cgi", "internal/server", "internal/runner/function", "internal/nbio"}, []string{"github.com/spf13/", "github.com/prometheus/"}},
}

// Imports point one way only, and heavy libraries stay where they belong.
func TestImports(t *testing.T) {
	for _, r := range rules {
		out, err := exec.Command("go", "list", "-deps", module+"/"+r.pkg).CombinedOutput()
		if err != nil {
			t.Fatalf("go list %s: %v\n%s", r.pkg, err, out)
		}
		for dep := range strings.FieldsSeq(string(out)) {
			own, ours := strings.CutPrefix(dep, module+"/")
			if ours && own != r.pkg && !slices.Contains(r.ours, own) {
				t.Errorf("%s imports %s", r.pkg, own)
			}
			for _, never := range r.never {
				if !ours && strings.HasPrefix(dep, never) {
					t.Errorf("%s links %s", r.pkg, dep)
				}
			}
		}
	}
}

// Only one package of ours uses viper: its habits with keys stay in there.
func TestOnlyConfigUsesViper(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", module+"/...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		pkg, imports, _ := strings.Cut(line, " ")
		if strings.Contains(imports, "github.com/spf13/viper") && pkg != module+"/internal/config" {
			t.Errorf("%s imports viper", pkg)
		}
	}
}

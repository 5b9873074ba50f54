// Package internal_test holds what is true of the module as a whole.
package internal_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/fcgid/fcgid"

// layers are the packages that the program is made of, from the top down. A
// package imports only what stands in a line below its own.
var layers = [][]string{
	{"cmd/fcgid", "examples/functions", "internal/cli/pages"},
	{""}, // fcgid.Main
	{"internal/cli"},
	{"internal/daemon", "internal/top"},
	{"internal/admin", "internal/upgrade"},
	{"internal/pool", "internal/devserver", "internal/migrate"},
	{"internal/privsep"},
	{"internal/launch"},
	{"fcgi"},
	{"internal/server", "internal/runner/process", "internal/runner/worker", "internal/runner/function"},
	{"internal/spawn"},
	{"internal/cgroup"},
	{"internal/cgi"},
	{"internal/listen", "internal/config", "internal/metrics", "internal/logs", "internal/status", "internal/phpfpm"},
	{"internal/plural", "internal/terminal", "internal/version", "internal/address", "internal/access", "internal/users"},
	{"internal/protocol"},
	{"internal/nbio", "internal/later"},
}

// forTests are packages that none of layers may import.
var forTests = []string{"e2e/harness", "internal/doctest", "internal/polltest", "internal/wiretest", "internal/logtest", "internal/runner/runnertest"}

// narrow are packages that may import less of ours than what is below them.
var narrow = map[string][]string{
	"internal/server":          {"internal/protocol", "internal/cgi", "internal/nbio", "internal/later", "internal/plural"},
	"internal/runner/process":  {"internal/protocol", "internal/cgi", "internal/nbio", "internal/later", "internal/spawn", "internal/cgroup", "internal/users"},
	"internal/runner/worker":   {"internal/protocol", "internal/cgi", "internal/nbio", "internal/spawn", "internal/cgroup"},
	"internal/runner/function": {"internal/protocol"},
	"internal/spawn":           {"internal/nbio", "internal/cgroup"},
	"internal/cgroup":          nil,
	"internal/cgi":             {"internal/protocol", "internal/users"},
	"internal/listen":          {"internal/address", "internal/nbio"},
	"internal/config":          {"internal/address", "internal/access", "internal/users"},
	"internal/metrics":         {"internal/version"},
	"internal/top":             {"internal/status", "internal/plural"},
	"internal/logs":            {"internal/access", "internal/terminal"},
	"internal/access":          nil,
	"internal/users":           nil,
	"internal/phpfpm":          {"internal/access"},
	"internal/status":          {"internal/plural"},
	"internal/plural":          nil,
	"internal/terminal":        nil,
	"internal/version":         nil,
	"internal/address":         nil,
	"internal/protocol":        nil,
	"internal/nbio":            nil,
	"internal/later":           nil,
}

// users of a library are the packages that may import it.
var users = map[string][]string{
	"github.com/spf13/viper":              {"internal/config"},
	"github.com/spf13/cobra":              {"internal/cli", "internal/cli/pages"},
	"github.com/prometheus/client_golang": {"internal/metrics"},
	"github.com/prometheus/client_model":  {"internal/metrics"},
	"go.uber.org/zap":                     {"internal/logs"},
	"charm.land/bubbletea/v2":             {"internal/top"},
	"github.com/charmbracelet":            {"internal/top"},
}

// links say what a package must not link, however deep down.
var links = []struct {
	pkg   string
	never []string
}{
	{"internal/protocol", []string{"go.uber.org/", "github.com/spf13/", "github.com/prometheus/", "os/exec", "golang.org/"}},
	{"internal/nbio", []string{"go.uber.org/", "github.com/spf13/", "github.com/prometheus/"}},
	{"internal/listen", []string{"github.com/spf13/", "github.com/prometheus/"}},
	{"internal/config", []string{"github.com/prometheus/"}},
	{"internal/server", []string{"go.uber.org/", "github.com/spf13/", "github.com/prometheus/", "os/exec"}},
	{"internal/cgi", []string{"go.uber.org/", "github.com/spf13/", "github.com/prometheus/", "os/exec"}},
	{"internal/spawn", []string{"go.uber.org/", "github.com/spf13/", "github.com/prometheus/", "os/exec"}},
	{"internal/runner/process", []string{"go.uber.org/", "github.com/spf13/", "github.com/prometheus/", "os/exec"}},
	{"internal/runner/worker", []string{"go.uber.org/", "github.com/spf13/", "github.com/prometheus/"}},
	{"internal/runner/function", []string{"go.uber.org/", "github.com/spf13/", "github.com/prometheus/", "os/exec", "golang.org/"}},
	{"internal/status", []string{"go.uber.org/", "github.com/", "golang.org/"}},
	{"fcgi", []string{"go.uber.org/", "github.com/spf13/", "github.com/prometheus/"}},
}

// list runs go list and returns its words by line.
func list(t *testing.T, args ...string) (lines [][]string) {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("go list %q: %v\n%s", args, err, out)
	}
	for line := range strings.Lines(string(out)) {
		lines = append(lines, strings.Fields(line))
	}
	return lines
}

// own is the path of a package of ours inside the module.
func own(path string) (string, bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

func layerOf(pkg string) int {
	return slices.IndexFunc(layers, func(layer []string) bool { return slices.Contains(layer, pkg) })
}

// Imports point down only, and what a library is for is one package's business.
func TestImports(t *testing.T) {
	for _, words := range list(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"/...") {
		pkg, _ := own(words[0])
		layer := layerOf(pkg)
		if layer < 0 && !slices.Contains(forTests, pkg) && pkg != "internal" {
			t.Errorf("%s has no place in layers", pkg)
		}
		allowed, isNarrow := narrow[pkg]
		for _, imported := range words[1:] {
			dep, ours := own(imported)
			switch {
			case ours && layer >= 0 && layerOf(dep) <= layer:
				t.Errorf("%s imports %s, which is not below it", pkg, dep)
			case ours && isNarrow && !slices.Contains(allowed, dep):
				t.Errorf("%s imports %s", pkg, dep)
			}
			for library, by := range users {
				if (imported == library || strings.HasPrefix(imported, library+"/")) && !slices.Contains(by, pkg) {
					t.Errorf("%s imports %s", pkg, imported)
				}
			}
		}
	}
}

// Heavy libraries stay where they belong, however deep down.
func TestLinks(t *testing.T) {
	for _, r := range links {
		for _, words := range list(t, "-deps", module+"/"+r.pkg) {
			for _, never := range r.never {
				if _, ours := own(words[0]); !ours && strings.HasPrefix(words[0], never) {
					t.Errorf("%s links %s", r.pkg, words[0])
				}
			}
		}
	}
}

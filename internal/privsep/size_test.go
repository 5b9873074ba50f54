package privsep

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/runner/runnertest"
)

// elsewhere are the files of this package of which nothing runs in the spawner once its daemon is
// there: those of the daemon, and of the process that reads the configuration and ends.
var elsewhere = []string{
	"client.go", "remote.go", "remote_exit.go", "session.go", "binder.go",
	"reader.go", "addresses.go",
}

// What stays root is small, and docs/security.md says how small.
func TestSizeOfSpawner(t *testing.T) {
	const most = 2550
	files, err := filepath.Glob("*.go")
	runnertest.Must(t, err)
	n := 0
	for _, name := range files {
		if slices.Contains(elsewhere, name) || strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		runnertest.Must(t, err)
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
				n++
			}
		}
	}
	if n > most {
		t.Errorf("%d lines run in the spawner, and %d may", n, most)
	}
	text, err := os.ReadFile("../../docs/security.md")
	runnertest.Must(t, err)
	said := regexp.MustCompile(`The code of the spawner is some ([\d,]+) lines`).FindSubmatch(text)
	if said == nil {
		t.Fatal("docs/security.md does not say how many lines run in the spawner")
	}
	if documented, _ := strconv.Atoi(strings.ReplaceAll(string(said[1]), ",", "")); documented != (n+50)/100*100 {
		t.Errorf("%d lines run in the spawner, and docs/security.md says %s", n, said[1])
	}
	for _, name := range elsewhere {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/security.md does not say that %s is not counted", name)
		}
	}
}

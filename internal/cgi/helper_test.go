package cgi

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
)

// paramsOf are pairs of names and values.
func paramsOf(pairs ...string) (p protocol.Params) {
	for i := 0; i < len(pairs); i += 2 {
		p.Add(pairs[i], pairs[i+1])
	}
	return p
}

// tempDir is a folder without a symbolic link in its name.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	mustDo(t, err)
	return dir
}

// write makes a file, and its folder, and returns its name.
func write(t testing.TB, name, text string, mode os.FileMode) string {
	t.Helper()
	mustDo(t, os.MkdirAll(filepath.Dir(name), 0o755))
	mustDo(t, os.WriteFile(name, []byte(text), mode))
	return name
}

func mustDo(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

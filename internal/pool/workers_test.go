package pool

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Workers that have no place for their sockets are an error of the reload, which
// changes nothing, and not of a pool that serves 503.
func TestWorkersWithoutAPlace(t *testing.T) {
	s := newTestSet(t)
	s.configure(poolA, workerText("w", "w", "worker"))
	s.answers("w", "x", "worker")
	long := filepath.Join(s.dir, strings.Repeat("x", 100))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{filepath.Join(s.dir, "none"), long} {
		t.Setenv("RUNTIME_DIRECTORY", place)
		err := s.refused(workerText("a", "a", "worker"), workerText("w", "w", "worker"))
		if !strings.Contains(err.Error(), "pool a: ") || !strings.Contains(err.Error(), place) {
			t.Errorf("the error %q does not say who has none, and where", err)
		}
		s.answers("a", "one", "one")
		s.configure(poolA, workerText("w", "w", "worker")) // those that are there need no new place
		s.answers("w", "x", "worker")
	}
	t.Setenv("RUNTIME_DIRECTORY", s.dir)
	p, err := s.plan(workerText("a", "a", "worker"), workerText("w", "w", "worker"))
	if err != nil {
		t.Fatal(err)
	}
	p.Undo()
	if folders, _ := filepath.Glob(filepath.Join(s.dir, "fcgid-workers-*")); len(folders) != 1 {
		t.Errorf("the folders are %q after an undo, want that of the pool w", folders)
	}
}

// The folders of a daemon that was killed are gone after the next start.
func TestDeadFoldersAreRemoved(t *testing.T) {
	s := newTestSet(t)
	dead := filepath.Join(s.dir, "fcgid-workers-1")
	if err := os.Mkdir(dead, 0o700); err != nil {
		t.Fatal(err)
	}
	s.configure(poolA)
	s.configure(workerText("a", "a", "worker"))
	s.answers("a", "x", "worker")
	if _, err := os.Lstat(dead); err == nil {
		t.Error("it is still there")
	}
	if len(s.logs.Of("removed the folder of workers of a daemon that is gone")) != 1 {
		t.Error("the log does not say so")
	}
}

package worker

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// die leaves a folder as a process does that is killed, with a socket in it.
func (f *folder) die(t *testing.T) {
	t.Helper()
	fd, err := listenUnix(filepath.Join(f.path, "1"))
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	f.lock.Close()
}

func mustMakeFolder(t *testing.T, in string) *folder {
	t.Helper()
	f, err := makeFolder(in)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Only the folders of processes that are gone are removed, and nothing that might be
// somebody's.
func TestRemoveDead(t *testing.T) {
	dir := t.TempDir()
	alive, dead, empty := mustMakeFolder(t, dir), mustMakeFolder(t, dir), mustMakeFolder(t, dir)
	defer alive.remove()
	dead.die(t)
	empty.lock.Close()
	elsewhere := mustMakeFolder(t, t.TempDir())
	elsewhere.die(t)
	keep := []string{alive.path}
	for name, make := range map[string]func(path string) error{
		"fcgid-workers-file": func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"fcgid-workers-link": func(path string) error { return os.Symlink(elsewhere.path, path) },
		"fcgid-workers-files": func(path string) error {
			return errors.Join(os.Mkdir(path, 0o700), os.WriteFile(path+"/data", nil, 0o600))
		},
		"fcgid-workers-folders": func(path string) error { return os.MkdirAll(path+"/in", 0o700) },
		"other":                 func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		path := filepath.Join(dir, name)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		keep = append(keep, path)
	}
	if os.Geteuid() == 0 {
		others := mustMakeFolder(t, dir)
		others.die(t)
		if err := os.Chown(others.path, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		keep = append(keep, others.path)
	}
	removed, err := RemoveDead(dir)
	if got := strings.Join(removed, " "); err != nil || len(removed) != 2 || !strings.Contains(got, dead.path) || !strings.Contains(got, empty.path) {
		t.Errorf("removed %q, %v; want %s and %s", removed, err, dead.path, empty.path)
	}
	for _, path := range removed {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
	for _, path := range append(keep, elsewhere.path) {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("what is not ours to remove is gone: %v", err)
		}
	}
	if removed, err := RemoveDead(dir); len(removed) > 0 || err != nil {
		t.Errorf("again: %q, %v", removed, err)
	}
}

// A folder that has just been made is never taken for a dead one.
func TestRemoveDeadWhileOthersStart(t *testing.T) {
	dir := t.TempDir()
	var making sync.WaitGroup
	folders := make(chan *folder, 4*100)
	for range 4 {
		making.Go(func() {
			for range 100 {
				f, err := makeFolder(dir)
				if err != nil {
					t.Error(err)
					return
				}
				folders <- f
			}
		})
	}
	end, removing := make(chan struct{}), sync.WaitGroup{}
	removing.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
				if _, err := RemoveDead(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
			}
		}
	})
	making.Wait()
	close(end)
	removing.Wait()
	close(folders)
	for f := range folders {
		if _, err := os.Lstat(f.path); err != nil {
			t.Errorf("it is gone: %v", err)
		}
		if err := f.remove(); err != nil {
			t.Error(err)
		}
	}
}

// Where no socket can be made, no folder stays.
func TestFolderWithoutSockets(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{long, filepath.Join(long, "none")} {
		p := New(Options{RunDir: in})
		if err := p.Prepare(); err == nil || !strings.HasPrefix(err.Error(), "make a folder for workers' sockets: ") {
			t.Errorf("%s: error is %v", in, err)
		}
	}
	if left, _ := os.ReadDir(long); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// What was prepared and is not wanted leaves nothing behind.
func TestDiscard(t *testing.T) {
	dir := t.TempDir()
	p := New(Options{RunDir: dir})
	if err := p.Prepare(); err != nil {
		t.Fatal(err)
	}
	if err := p.Discard(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

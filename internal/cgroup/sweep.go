package cgroup

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	firstSweep   = 10 * time.Millisecond
	longestPause = 5 * time.Second
	// deadTime is how long what a killed daemon has left may take to be gone.
	deadTime = 2 * time.Second
)

// removeTree removes a group with those below it, of which none may have processes.
func removeTree(f files, path string) error {
	for _, name := range f.groups(path) {
		removeTree(f, filepath.Join(path, name)) // else the next line says so
	}
	return f.rmdir(path)
}

// A sweeper removes groups when the last process in them has gone.
type sweeper struct {
	files files
	wake  chan struct{} // has room for one
	quit  chan struct{}
	done  sync.WaitGroup

	mu    sync.Mutex // guards the field below
	paths map[string]bool
}

func newSweeper(f files) *sweeper {
	s := &sweeper{files: f, wake: make(chan struct{}, 1), quit: make(chan struct{}), paths: make(map[string]bool)}
	s.done.Go(s.run)
	return s
}

// remove has a group removed, now or later.
func (s *sweeper) remove(path string) {
	if removeTree(s.files, path) == nil {
		return
	}
	s.mu.Lock()
	s.paths[path] = true
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// close returns when nothing is removed any more.
func (s *sweeper) close() {
	close(s.quit)
	s.done.Wait()
}

// run tries often after a group has come, and seldom what stays.
func (s *sweeper) run() {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	for pause := firstSweep; ; {
		select {
		case <-s.quit:
			return
		case <-s.wake:
			pause = firstSweep
		case <-timer.C:
			pause = min(2*pause, longestPause)
			if !s.sweep() {
				continue
			}
		}
		timer.Reset(pause)
	}
}

// sweep reports whether something is left.
func (s *sweeper) sweep() bool {
	s.mu.Lock()
	var paths []string
	for path := range s.paths {
		paths = append(paths, path)
	}
	s.mu.Unlock()
	for _, path := range paths {
		if _, err := s.files.read(path + "/cgroup.procs"); err != nil || removeTree(s.files, path) == nil {
			s.mu.Lock()
			delete(s.paths, path)
			s.mu.Unlock()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.paths) > 0
}

// removeDead ends and removes what daemons that were killed have left beside this tree.
// What one that has ended in order has left is somebody's who works on.
func (t *Tree) removeDead() {
	for _, name := range t.files.groups(t.at.base) {
		path := filepath.Join(t.at.base, name)
		if !strings.HasPrefix(name, treePrefix) || path == t.path {
			continue
		}
		lock, err := lockFolder(path)
		if err != nil {
			continue // its daemon lives
		}
		t.removeOne(path)
		lock.Close()
	}
}

func (t *Tree) removeOne(path string) {
	stopped := filepath.Join(path, stoppedName)
	if _, err := t.files.read(stopped + "/cgroup.procs"); err == nil {
		t.files.rmdir(stopped)
		if removeTree(t.files, path) != nil {
			t.files.mkdir(stopped)
		}
		return
	}
	killErr := killAll(t.files, path)
	for end := time.Now().Add(deadTime); ; time.Sleep(time.Millisecond) {
		err := removeTree(t.files, path)
		if err == nil {
			t.log.Info("removed the cgroup of a daemon that is gone", "cgroup", path)
			return
		}
		if time.Now().After(end) {
			t.log.Warn("cannot remove the cgroup of a daemon that is gone", "cgroup", path, "error", errors.Join(killErr, err))
			return
		}
	}
}

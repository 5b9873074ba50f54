// Package cgroup keeps the part of the cgroup v2 hierarchy (cgroups(7)) that is this
// process's to divide: a group for each pool, made once, and below it groups for
// single programs. It bounds what is in them, tells whom the kernel has killed, and
// ends all that is in one, whatever became of its parents, session and process group.
// It forks nothing, and knows no configuration.
//
//	<what was delegated>
//	  fcgid-daemon        the daemon, since a group that has controllers below it holds no processes
//	  fcgid-tree-RANDOM   what one daemon has started, locked as long as that lives
//	    pool-NAME         the limits of a pool
//	      programs        programs that have no group of their own
//	      own-N           a program with all that it starts
package cgroup

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	daemonName  = "fcgid-daemon"
	treePrefix  = "fcgid-tree-"
	poolPrefix  = "pool-"
	sharedName  = "programs"
	ownPrefix   = "own-"
	stoppedName = "stopped" // in a tree whose daemon has ended in order: what is in it was left there on purpose
)

// Controllers are those that limits need.
var Controllers = []string{"memory", "pids", "cpu"}

// Options are what a Tree has for life.
type Options struct {
	// Try has a process made in the group of a descriptor, as spawn makes them. The
	// error is why that is not possible; ENOSYS is that processes have to be moved there.
	Try func(fd int) error
	// Log tells of what was found and what cannot be removed; nil logs nothing.
	Log *slog.Logger
}

// A Tree is what one daemon has of the hierarchy. It is used by many goroutines.
type Tree struct {
	files files
	log   *slog.Logger
	at    *place   // what was delegated
	path  string   // of the tree
	lock  *os.File // the tree's folder
	late  bool     // processes are moved into groups when they have been made

	sweeper *sweeper

	mu      sync.Mutex       // guards the fields below; files are written under it, which never wait for a process
	refused map[string]error // by controller: why it cannot be used
	pools   map[string]*Pool // by folder
	enabled map[string]bool  // controllers that pools have
}

// Open finds what is delegated to this process, moves the process into a group of its
// own there if it has to, and makes a Tree. The error says in a line why there can be
// none. What daemons that were killed have left in the same place is ended and removed.
func Open(o Options) (*Tree, error) {
	place, err := find(realPlaces)
	if err != nil {
		return nil, err
	}
	return open(kernel{}, place, o)
}

func open(f files, at *place, o Options) (*Tree, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	t := &Tree{files: f, log: o.Log, at: at, refused: make(map[string]error), pools: make(map[string]*Pool), enabled: make(map[string]bool)}
	if err := t.make(); err != nil {
		return nil, explain(at, err)
	}
	if o.Try != nil {
		err := o.Try(int(t.lock.Fd()))
		t.late = errors.Is(err, unix.ENOSYS)
		if err != nil && !t.late {
			t.files.rmdir(t.path)
			t.lock.Close()
			return nil, fmt.Errorf("start programs in cgroup %s: %w", at.name, err)
		}
	}
	t.sweeper = newSweeper(t.files)
	t.removeDead()
	t.enableAllLocked() // nobody else has the tree yet
	return t, nil
}

// explain says what to do about a group that cannot be written to.
func explain(at *place, err error) error {
	switch {
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("cgroup %s: the file system is mounted read-only (in a unit: ProtectControlGroups=no)", at.name)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("cgroup %s is not delegated to this user (in a unit: Delegate=yes)", at.name)
	}
	return fmt.Errorf("cgroup %s: %w", at.name, err)
}

// make makes the tree's folder, and locks it.
func (t *Tree) make() error {
	for n := 0; ; n++ {
		path := filepath.Join(t.at.base, fmt.Sprintf("%s%d-%d", treePrefix, os.Getpid(), n))
		err := t.files.mkdir(path)
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return err
		}
		lock, err := lockFolder(path)
		if err == nil {
			t.path, t.lock = path, lock
			return nil
		}
		t.files.rmdir(path)
		if !errors.Is(err, errTaken) {
			return err
		}
	}
}

// errTaken is of a folder that somebody else has locked, or taken away.
var errTaken = errors.New("it is somebody else's")

// lockFolder locks a folder for as long as the file is open in this process: it is
// not inherited.
func lockFolder(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, unix.ENOENT) {
		return nil, errTaken
	}
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	mine, statErr := f.Stat()
	now, nowErr := os.Lstat(path)
	if err == nil && statErr == nil && nowErr == nil && os.SameFile(mine, now) {
		return f, nil
	}
	f.Close()
	return nil, errTaken
}

// LookAgain tries again to have the controllers that were refused: others may have left
// the group since, or more been delegated. Limits that are to hold then are to be Set.
func (t *Tree) LookAgain() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.refused) == 0 {
		return
	}
	before := len(t.enabled)
	clear(t.refused)
	if t.enableAllLocked(); len(t.enabled) > before {
		t.log.Info("programs have cgroups", "cgroup", t.path, "controllers", t.hasLocked())
	}
}

// enableAllLocked has the tree's groups get the controllers that are always wanted, where
// there are any: what a pool uses is counted.
func (t *Tree) enableAllLocked() {
	there := strings.Fields(t.files.text(filepath.Join(t.at.base, "cgroup.controllers")))
	has := strings.Fields(t.files.text(filepath.Join(t.at.base, "cgroup.subtree_control")))
	var moved error
	for _, c := range Controllers {
		if !slices.Contains(there, c) {
			t.refused[c] = fmt.Errorf("cgroup %s does not have the controller %s (%s)", t.at.name, c, t.at.remedy())
		} else if !slices.Contains(has, c) && !t.at.isRoot && moved == nil {
			moved = t.moveDaemon()
			has = there // once
		}
	}
	for _, c := range Controllers {
		if t.refused[c] == nil && moved != nil && !t.enabled[c] {
			t.refused[c] = moved
		}
		if c != "cpu" { // which costs, and is enabled when there is a limit
			t.enableLocked(c)
		}
	}
}

// enableLocked has the pools of the tree get a controller. The error is why it cannot
// be used.
func (t *Tree) enableLocked(controller string) error {
	if t.refused[controller] != nil || t.enabled[controller] {
		return t.refused[controller]
	}
	for _, dir := range []string{t.at.base, t.path} {
		if err := t.files.write(filepath.Join(dir, "cgroup.subtree_control"), "+"+controller); err != nil {
			t.refused[controller] = fmt.Errorf("enable the controller %s in cgroup %s: %w", controller, dir, err)
			return t.refused[controller]
		}
	}
	t.enabled[controller] = true
	return nil
}

// Path is where the tree is in the file system.
func (t *Tree) Path() string { return t.path }

// Has are the controllers that can be used.
func (t *Tree) Has() (controllers []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.hasLocked()
}

func (t *Tree) hasLocked() (controllers []string) {
	for _, c := range Controllers {
		if t.refused[c] == nil {
			controllers = append(controllers, c)
		}
	}
	return controllers
}

// Refused returns why a controller cannot be used, or nil.
func (t *Tree) Refused(controller string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refused[controller]
}

// Kill ends all that is in the tree, of all pools.
func (t *Tree) Kill() error { return killAll(t.files, t.path) }

// Close removes what is empty. What programs have left in the background on purpose
// lives on, and is left alone by those who come later.
func (t *Tree) Close() {
	t.mu.Lock()
	pools := make([]*Pool, 0, len(t.pools))
	for _, p := range t.pools {
		pools = append(pools, p)
	}
	t.mu.Unlock()
	for _, p := range pools {
		p.Close()
	}
	t.sweeper.close()
	if removeTree(t.files, t.path) != nil {
		t.files.mkdir(filepath.Join(t.path, stoppedName))
	}
	t.lock.Close()
}

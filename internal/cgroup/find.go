package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A place is a group that this process may divide.
type place struct {
	name   string // in the hierarchy
	base   string // in the file system
	isRoot bool   // of the hierarchy: it may have processes and controllers both
}

// places are the files that tell of it.
type places struct {
	cgroup, mounts string // of /proc/self
	systemd        string // is there while systemd runs
	uid            int
	// isDelegated reports whether systemd says so of a folder.
	isDelegated func(folder string) bool
}

var realPlaces = places{
	cgroup: "/proc/self/cgroup", mounts: "/proc/self/mountinfo", systemd: "/run/systemd/system",
	uid: os.Geteuid(), isDelegated: hasDelegateMark,
}

// find finds the group that this process is in, or the one around that if it is the
// daemon's already.
func find(from places) (*place, error) {
	name, err := ownGroup(from.cgroup)
	if err != nil {
		return nil, err
	}
	mount, root, err := findMount(from.mounts)
	if err != nil {
		return nil, err
	}
	below, ok := strings.CutPrefix(name, strings.TrimSuffix(root, "/"))
	if !ok || strings.HasPrefix(name, "/..") {
		return nil, fmt.Errorf("cgroup %s is outside of what is mounted at %s", name, mount)
	}
	at := &place{name: name, base: filepath.Join(mount, below)}
	switch {
	case filepath.Base(name) == daemonName:
		at.up()
	case from.uid == 0 && isThere(from.systemd):
		// All is root's to write to, but systemd's to divide, unless it says otherwise.
		// DelegateSubgroup= has the process start in a group below what is delegated.
		if !from.isDelegated(at.base) {
			if !from.isDelegated(filepath.Dir(at.base)) {
				return nil, fmt.Errorf("cgroup %s is systemd's (in a unit: Delegate=yes)", name)
			}
			at.up()
		}
	}
	at.isRoot = !isThere(filepath.Join(at.base, "cgroup.type"))
	return at, nil
}

func (p *place) up() { p.name, p.base = filepath.Dir(p.name), filepath.Dir(p.base) }

// remedy is what may bring a controller that is not there.
func (p *place) remedy() string {
	if p.isRoot {
		return "cgroup v1 may have it, or the kernel's command line cgroup_disable"
	}
	return "in a unit: Delegate=yes"
}

func isThere(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// ownGroup is the name of the group that /proc/self/cgroup tells of.
func ownGroup(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("no cgroups: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return name, nil
		}
	}
	return "", errors.New("no cgroup v2: this machine has v1 only")
}

// findMount is where the hierarchy of version 2 is mounted, and which part of it.
func findMount(file string) (point, root string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", "", fmt.Errorf("no cgroups: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		// 36 35 98:0 /root /point options shared:1 - type source options (proc(5))
		words, more, ok := strings.Cut(line, " - ")
		fields := strings.Fields(words)
		if ok && len(fields) >= 5 && strings.HasPrefix(more, "cgroup2 ") {
			return unescape(fields[4]), unescape(fields[3]), nil
		}
	}
	return "", "", errors.New("no cgroup v2 is mounted")
}

// unescape reads a path as mountinfo writes it.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// hasDelegateMark reports whether systemd has marked a folder as delegated: the second
// one is for an ordinary user to read, and newer.
func hasDelegateMark(folder string) bool {
	for _, name := range []string{"trusted.delegate", "user.delegate"} {
		value := make([]byte, 8)
		if n, err := unix.Getxattr(folder, name, value); err == nil && string(value[:n]) == "1" {
			return true
		}
	}
	return false
}

// moveDaemon moves this process out of what is delegated into a group of its own, with
// those that are this program too: the first process of a container, a daemon that is
// replaced. Nobody else's are touched: while there are any, no controller can be had.
func (t *Tree) moveDaemon() error {
	for _, pid := range pids(t.files, t.at.base) {
		if !isSameProgram(pid) {
			return fmt.Errorf("cgroup %s has other processes in it, such as %d (%s)", t.at.base, pid, nameOf(pid))
		}
	}
	leaf := filepath.Join(t.at.base, daemonName)
	if err := t.files.mkdir(leaf); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make cgroup %s: %w", leaf, err)
	}
	for range 10 { // who has forked meanwhile is found by the next look
		left := pids(t.files, t.at.base)
		if len(left) == 0 {
			return nil
		}
		for _, pid := range left {
			if err := t.files.write(leaf+"/cgroup.procs", strconv.Itoa(pid)); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("move process %d to cgroup %s: %w", pid, leaf, err)
			}
		}
	}
	return nil // if somebody is left, the kernel says so to who enables a controller
}

func isSameProgram(pid int) bool {
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	ours, ourErr := os.Readlink("/proc/self/exe")
	return err == nil && ourErr == nil && strings.TrimSuffix(theirs, " (deleted)") == strings.TrimSuffix(ours, " (deleted)")
}

func nameOf(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(text))
}

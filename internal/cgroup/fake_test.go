package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A fake is a hierarchy in a folder, with the rules of the kernel's that this package
// depends on: a group has the files of the controllers that its parent gives, holds no
// processes while it gives some itself, and is removed with its files when it holds
// neither processes nor groups. Processes are numbers.
type fake struct {
	kernel
	t         *testing.T
	root      string
	isOld     bool             // as Linux before 5.14: without cgroup.kill
	refuse    map[string]error // by the end of a path: what writing there says
	refuseDir error            // what mkdir says
}

func newFake(t *testing.T, controllers ...string) *fake {
	f := &fake{t: t, root: filepath.Join(t.TempDir(), "fs"), refuse: make(map[string]error)}
	if err := os.Mkdir(f.root, 0o755); err != nil {
		t.Fatal(err)
	}
	f.fill(f.root, controllers)
	return f
}

// place is the fake's whole, delegated.
func (f *fake) place() *place { return &place{name: "/unit", base: f.root} }

func (f *fake) open() *Tree {
	f.t.Helper()
	tree, err := open(f, f.place(), Options{})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(tree.Close)
	return tree
}

func (f *fake) put(path, text string) {
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fake) fill(path string, controllers []string) {
	f.put(path+"/cgroup.type", "domain\n")
	f.put(path+"/cgroup.controllers", strings.Join(controllers, " ")+"\n")
	for _, name := range []string{"cgroup.procs", "cgroup.subtree_control", "cgroup.freeze"} {
		f.put(path+"/"+name, "")
	}
	f.put(path+"/cgroup.events", "populated 0\nfrozen 1\n")
	if !f.isOld {
		f.put(path+"/cgroup.kill", "")
	}
	for _, c := range controllers {
		f.give(path, c)
	}
}

// give makes the files of a controller.
func (f *fake) give(path, controller string) {
	f.put(filepath.Join(path, controller+".max"), "max\n")
	switch controller {
	case "memory":
		f.put(path+"/memory.current", "4096\n")
		f.put(path+"/memory.oom.group", "0\n")
		f.put(path+"/memory.events", "oom 0\noom_kill 0\n")
		f.put(path+"/memory.events.local", "oom 0\noom_kill 0\n")
	case "pids":
		f.put(path+"/pids.current", "3\n")
		f.put(path+"/pids.events", "max 0\n")
	}
}

func (f *fake) mkdir(path string) error {
	if f.refuseDir != nil {
		return f.refuseDir
	}
	if err := unix.Mkdir(path, 0o755); err != nil {
		return err
	}
	f.fill(path, strings.Fields(f.text(filepath.Dir(path)+"/cgroup.subtree_control")))
	return nil
}

func (f *fake) rmdir(path string) error {
	if len(f.groups(path)) > 0 || len(pids(f, path)) > 0 {
		return unix.EBUSY
	}
	return os.RemoveAll(path)
}

func (f *fake) write(path, text string) error {
	for end, err := range f.refuse {
		if strings.HasSuffix(path, end) {
			return err
		}
	}
	if _, err := os.Stat(path); err != nil {
		return unix.ENOENT
	}
	group := filepath.Dir(path)
	switch filepath.Base(path) {
	case "cgroup.subtree_control":
		return f.control(group, strings.TrimPrefix(text, "+"))
	case "cgroup.procs":
		return f.move(group, text)
	case "cgroup.kill":
		f.empty(group)
		return nil
	}
	f.put(path, text+"\n")
	return nil
}

func (f *fake) control(group, controller string) error {
	has := strings.Fields(f.text(group + "/cgroup.subtree_control"))
	switch {
	case !slices.Contains(strings.Fields(f.text(group+"/cgroup.controllers")), controller):
		return unix.ENOENT
	case len(pids(f, group)) > 0:
		return unix.EBUSY // cgroups(7): no internal processes
	case slices.Contains(has, controller):
		return nil
	}
	f.put(group+"/cgroup.subtree_control", strings.Join(append(has, controller), " ")+"\n")
	for _, name := range f.groups(group) {
		below := filepath.Join(group, name)
		f.put(below+"/cgroup.controllers", f.text(group+"/cgroup.subtree_control"))
		f.give(below, controller)
	}
	return nil
}

func (f *fake) move(group, pid string) error {
	if f.text(group+"/cgroup.subtree_control") != "" {
		return unix.EBUSY
	}
	filepath.WalkDir(f.root, func(path string, e os.DirEntry, _ error) error {
		if e.IsDir() {
			left := slices.DeleteFunc(strings.Fields(f.text(path+"/cgroup.procs")), func(p string) bool { return p == pid })
			f.put(path+"/cgroup.procs", strings.Join(left, "\n"))
		}
		return nil
	})
	f.put(group+"/cgroup.procs", f.text(group+"/cgroup.procs")+"\n"+pid)
	return nil
}

// empty takes all processes out of a group and of those below it.
func (f *fake) empty(group string) {
	f.put(group+"/cgroup.procs", "")
	for _, name := range f.groups(group) {
		f.empty(filepath.Join(group, name))
	}
}

// enter puts a process into a group.
func (f *fake) enter(group string, pid int) {
	f.t.Helper()
	if err := f.write(group+"/cgroup.procs", strconv.Itoa(pid)); err != nil {
		f.t.Fatal(err)
	}
}

// has checks what a file of a group says.
func (f *fake) has(group, file, want string) {
	f.t.Helper()
	if got := strings.TrimSpace(f.text(filepath.Join(group, file))); got != want {
		f.t.Errorf("%s of %s is %q, want %q", file, strings.TrimPrefix(group, f.root), got, want)
	}
}

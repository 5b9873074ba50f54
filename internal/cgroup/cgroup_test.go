package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/logtest"
	"github.com/fcgid/fcgid/internal/polltest"
)

func (f *fake) pool(t *Tree, name string, l Limits) *Pool {
	f.t.Helper()
	p, err := t.Pool(name, l)
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

func join(t *testing.T, p *Pool, own bool) *Group {
	t.Helper()
	g, err := p.Join(own)
	if err != nil {
		t.Fatal(err)
	}
	g.Started()
	return g
}

// The daemon goes to a group of its own before it gives controllers to others: the
// kernel refuses a group that has processes and does.
func TestDaemonMoves(t *testing.T) {
	f := newFake(t, "cpuset", "memory", "pids", "cpu")
	f.enter(f.root, os.Getpid())
	tree := f.open()
	if got := pids(f, filepath.Join(f.root, daemonName)); !slices.Equal(got, []int{os.Getpid()}) {
		t.Errorf("in the daemon's group are %v", got)
	}
	f.has(f.root, "cgroup.subtree_control", "memory pids")
	f.has(tree.Path(), "cgroup.subtree_control", "memory pids")
	if err := tree.Refused("memory"); err != nil {
		t.Error(err)
	}
}

// Processes of others are not moved. There are no limits then, but groups.
func TestOthersStay(t *testing.T) {
	f := newFake(t, "memory", "pids")
	f.enter(f.root, os.Getpid())
	other := startSleep(t)
	f.enter(f.root, other)
	tree := f.open()
	if got := pids(f, f.root); len(got) != 2 {
		t.Errorf("left are %v", got)
	}
	unmet := tree.Unmet(&Limits{Memory: 1 << 20, CPU: 1})
	if len(unmet) != 2 || unmet[0].Key != "memory" || !strings.Contains(unmet[0].Why.Error(), "has other processes in it") {
		t.Errorf("unmet are %v", unmet)
	}
	join(t, f.pool(tree, "www", Limits{}), true).Leave()
}

// What was refused is had when others have left, also by a pool that is there already.
func TestLookAgain(t *testing.T) {
	f := newFake(t, "memory", "pids", "cpu")
	f.enter(f.root, os.Getpid())
	f.enter(f.root, startSleep(t))
	tree := f.open()
	limits := Limits{Memory: 1 << 20, Pids: 7}
	p := f.pool(tree, "www", limits)
	tree.LookAgain()
	if unmet := tree.Unmet(&limits); len(unmet) != 2 {
		t.Errorf("with somebody else there, unmet are %v", unmet)
	}
	f.empty(f.root)
	f.enter(f.root, os.Getpid())
	tree.LookAgain()
	if unmet := tree.Unmet(&limits); len(unmet) != 0 {
		t.Errorf("unmet are %v", unmet)
	}
	if err := p.Set(limits); err != nil {
		t.Error(err)
	}
	f.has(p.path, "memory.max", "1048576")
	g := join(t, p, false)
	defer g.Leave()
	f.has(g.path, "pids.max", "7")

	// Who comes later takes nothing away.
	f.put(f.root+"/cgroup.procs", "1\n")
	tree.refused["cpu"] = unix.ENOENT
	tree.LookAgain()
	if err := errors.Join(tree.Refused("memory"), tree.Refused("pids")); err != nil || tree.Refused("cpu") == nil {
		t.Errorf("refused are %v, and cpu: %v", err, tree.Refused("cpu"))
	}
}

// A root has both processes and controllers.
func TestRootKeepsProcesses(t *testing.T) {
	f := newFake(t)
	f.enter(f.root, 1)
	tree, err := open(f, &place{name: "/", base: f.root, isRoot: true}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if got := pids(f, f.root); !slices.Equal(got, []int{1}) {
		t.Errorf("left are %v", got)
	}
}

func TestLimits(t *testing.T) {
	f := newFake(t, "memory", "pids", "cpu")
	tree := f.open()
	p := f.pool(tree, "www", Limits{Memory: 64 << 20, MemoryRequest: 8 << 20, Pids: 10, CPU: 0.5})
	f.has(p.path, "memory.max", "67108864")
	f.has(p.path, "cpu.max", "50000 100000")
	g := join(t, p, false)
	if !g.IsOwn() {
		t.Fatal("a program with limits has no group of its own")
	}
	f.has(g.path, "memory.max", "8388608")
	f.has(g.path, "memory.oom.group", "1")
	f.has(g.path, "pids.max", "10")

	if err := p.Set(Limits{MemoryRequest: 9 << 20, CPU: 0.001}); err != nil {
		t.Fatal(err)
	}
	f.has(p.path, "memory.max", "max")
	f.has(p.path, "cpu.max", "1000 100000")
	f.has(g.path, "memory.max", "9437184")
	f.has(g.path, "pids.max", "max")
	if u := p.Usage(); u != (Usage{Memory: 4096, MemoryMax: -1, Pids: 3}) {
		t.Errorf("usage is %+v", u)
	}
	g.Leave()
}

// Limits without their controllers are told of, with the key, and the others hold.
func TestUnmet(t *testing.T) {
	f := newFake(t, "pids")
	tree := f.open()
	unmet := tree.Unmet(&Limits{Memory: 1, MemoryRequest: 1, Pids: 1, CPU: 1})
	var keys []string
	for _, u := range unmet {
		keys = append(keys, u.Key)
	}
	if want := []string{"memory", "memory_request", "cpu"}; !slices.Equal(keys, want) {
		t.Errorf("unmet are %v, want %v", keys, want)
	}
	g := join(t, f.pool(tree, "www", Limits{Memory: 1, Pids: 7}), false)
	defer g.Leave()
	f.has(g.path, "pids.max", "7")
	if g.OutOfMemory(true) != "" {
		t.Error("out of memory without a controller that would say so")
	}
}

// Programs share the group of their pool unless something asks for one of their own.
func TestOwn(t *testing.T) {
	f := newFake(t)
	p := f.pool(f.open(), "www", Limits{})
	a, b := join(t, p, false), join(t, p, false)
	if a != b || a.IsOwn() || a.Kill() {
		t.Error("a program that shares its group has one of its own, or ends its neighbours")
	}
	c, d := join(t, p, true), join(t, p, true)
	f.enter(c.path, 1001)
	f.enter(d.path, 1002)
	if !c.Kill() || len(c.Pids()) != 0 || !slices.Equal(d.Pids(), []int{1002}) {
		t.Errorf("after Kill of one there are %v in it and %v in the other", c.Pids(), d.Pids())
	}
}

// A group is removed when the last that a program has left behind has gone.
func TestLeftBehind(t *testing.T) {
	f := newFake(t)
	p := f.pool(f.open(), "www", Limits{})
	g := join(t, p, true)
	f.enter(g.path, 1001)
	g.Leave()
	if _, err := os.Stat(g.path); err != nil {
		t.Fatal("a group with a process was removed")
	}
	f.empty(g.path)
	polltest.Until(t, "the group to be removed", func() bool { return !isThere(g.path) })
	p.Close()
	polltest.Until(t, "the pool's to be removed", func() bool { return !isThere(p.path) })
}

// While a pool ends another one of its name may begin.
func TestSameName(t *testing.T) {
	f := newFake(t)
	tree := f.open()
	a, b := f.pool(tree, "www", Limits{}), f.pool(tree, "www", Limits{})
	if a.path == b.path {
		t.Error("two pools are in one group")
	}
	a.Close()
	join(t, b, false)
	b.Close()
}

// What a daemon that was killed has left is ended; what one that has stopped has left is
// meant to live; a daemon that lives is left alone.
func TestDead(t *testing.T) {
	f := newFake(t)
	dead, stopped := filepath.Join(f.root, treePrefix+"1-0"), filepath.Join(f.root, treePrefix+"2-0")
	for _, path := range []string{dead, dead + "/pool-www", dead + "/pool-www/own-1", stopped, stopped + "/pool-www", stopped + "/" + stoppedName} {
		if err := f.mkdir(path); err != nil {
			t.Fatal(err)
		}
	}
	f.enter(dead+"/pool-www/own-1", 1001)
	f.enter(stopped+"/pool-www", 1002)
	living := f.open()
	f.open()
	if isThere(dead) || !isThere(living.Path()) || !slices.Equal(pids(f, stopped+"/pool-www"), []int{1002}) {
		t.Errorf("groups are now %v", f.groups(f.root))
	}
	f.empty(stopped)
	f.open()
	if isThere(stopped) {
		t.Error("an empty group of a daemon that has stopped is still there")
	}
}

func TestClose(t *testing.T) {
	f := newFake(t)
	tree, err := open(f, f.place(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	g := join(t, f.pool(tree, "www", Limits{}), true)
	f.enter(g.path, 1001)
	g.Leave()
	tree.Close()
	if !slices.Contains(f.groups(tree.Path()), stoppedName) || len(pids(f, g.path)) != 1 {
		t.Errorf("after the stop there are %v", f.groups(tree.Path()))
	}
}

// Before Linux 5.14 processes are killed one by one, while they stand still.
func TestKillOld(t *testing.T) {
	f := newFake(t)
	f.isOld = true
	g := join(t, f.pool(f.open(), "www", Limits{}), true)
	for pid := range 5 {
		f.enter(g.path, 1001+pid)
	}
	var killed []int
	t.Cleanup(func() { kill = unix.Kill })
	kill = func(pid int, s unix.Signal) error {
		f.has(g.path, "cgroup.freeze", "1")
		if killed = append(killed, pid); len(killed) == 5 {
			f.empty(g.path)
			f.enter(g.path, 2001) // had been forked before it stood still
		} else if pid == 2001 {
			f.empty(g.path)
			return unix.ESRCH
		}
		return nil
	}
	if !g.Kill() || len(killed) != 6 {
		t.Errorf("killed %v", killed)
	}
	f.has(g.path, "cgroup.freeze", "0")
	kill = func(int, unix.Signal) error { return unix.EPERM }
	f.enter(g.path, 3001)
	if g.Kill() {
		t.Error("what may not be killed is killed")
	}
	f.empty(g.path)
}

func TestOutOfMemory(t *testing.T) {
	f := newFake(t, "memory", "pids")
	p := f.pool(f.open(), "www", Limits{Memory: 1 << 20, Pids: 1})
	g, h := join(t, p, true), join(t, p, false)
	f.put(g.path+"/memory.events", "low 0\noom 1\noom_kill 2\n")
	f.put(g.path+"/memory.events.local", "oom 1\noom_kill 2\n")
	f.put(p.path+"/memory.events", "oom 1\noom_kill 2\n")
	if got := g.OutOfMemory(true); got != ByRequest {
		t.Errorf("at its own limit: %q", got)
	}
	if got := h.OutOfMemory(true); got != "" {
		t.Errorf("its neighbour: %q", got)
	}
	f.put(h.path+"/memory.events", "oom_kill 1\n")
	if got := h.OutOfMemory(true); got != ByMachine {
		t.Errorf("at nobody's limit: %q", got)
	}
	f.put(p.path+"/memory.events.local", "oom 1\n")
	if got := h.OutOfMemory(false); got != ByPool {
		t.Errorf("at the pool's limit: %q", got)
	}
	f.put(h.path+"/pids.events", "max 3\n")
	if !h.WasFull() || g.WasFull() {
		t.Error("who was full is not told")
	}

	shared := &Group{pool: p, path: p.shared.path}
	f.put(p.path+"/memory.events", "oom 1\noom_kill 5\n")
	p.told = 3
	for i, want := range []string{"", ByPool, ByPool, ""} {
		if got := shared.OutOfMemory(i > 0); got != want {
			t.Errorf("program %d of a shared group: %q, want %q", i, got, want)
		}
	}
	g.Leave()
	h.Leave()
}

func TestOpenFails(t *testing.T) {
	for _, test := range []struct {
		refuse error
		want   string
	}{
		{unix.EACCES, "cgroup /unit is not delegated to this user (in a unit: Delegate=yes)"},
		{unix.EROFS, "cgroup /unit: the file system is mounted read-only (in a unit: ProtectControlGroups=no)"},
		{unix.EAGAIN, "cgroup /unit: resource temporarily unavailable"},
	} {
		f := newFake(t)
		f.refuseDir = test.refuse
		if _, err := open(f, f.place(), Options{}); err == nil || err.Error() != test.want {
			t.Errorf("mkdir is %v: %v", test.refuse, err)
		}
	}
	f := newFake(t)
	try := func(int) error { return unix.EBUSY }
	if _, err := open(f, f.place(), Options{Try: try}); !errors.Is(err, unix.EBUSY) || len(f.groups(f.root)) > 0 {
		t.Errorf("no program can be started: %v, and there are %v", err, f.groups(f.root))
	}
}

// A controller that the kernel refuses to enable is one that there is not.
func TestEnableFails(t *testing.T) {
	f := newFake(t, "memory", "cpu")
	f.refuse[filepath.Base(f.root)+"/cgroup.subtree_control"] = unix.EINVAL
	log, entries := logtest.New()
	tree, err := open(f, f.place(), Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if err := tree.Refused("memory"); !errors.Is(err, unix.EINVAL) {
		t.Errorf("memory: %v", err)
	}
	p := f.pool(tree, "www", Limits{Memory: 1, CPU: 1})
	p.Tell(unix.EBUSY)
	p.Tell(unix.EBUSY)
	if n := len(entries.All()); n != 1 {
		t.Errorf("%d entries in the log", n)
	}
}

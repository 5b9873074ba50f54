package pool

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/cgroup"
	"github.com/fcgid/fcgid/internal/spawn"
)

// Limits that cannot be had are a warning with their keys, or a refusal.
func TestCgroupLacks(t *testing.T) {
	const pool = "{name: www, listen: unix:%D/s, process: {root: [%D]}, sandbox: {SANDBOX}}"
	s := newTestSet(t)
	s.cgroups.open = func() (*cgroup.Tree, error) { return nil, errors.New("nobody delegates") }
	s.script("a.cgi", "printf 'Content-Type: text/plain\\n\\ndone'")
	with := func(sandbox string) string { return strings.ReplaceAll(pool, "SANDBOX", sandbox) }
	for _, sandbox := range []string{"cgroup: required", "pids: 7, required: true", "pids: 7, cgroup: required"} {
		if err := s.refused(with(sandbox)); !strings.Contains(err.Error(), "pool www: sandbox.") || !strings.Contains(err.Error(), "nobody delegates") {
			t.Errorf("%s: %v", sandbox, err)
		}
	}
	for sandbox, warnings := range map[string]int{"cgroup: auto": 0, "required: true": 0, "cgroup: off": 0, "memory: 1GiB, pids: 7": 1} {
		s.logs.Take()
		s.configure(with(sandbox))
		if n := len(s.logs.Of("limits of a pool do not hold")); n != warnings {
			t.Errorf("%s: %d warnings", sandbox, n)
		}
		s.answers("s", "%D/a.cgi", "done")
	}
}

// Each reload looks again, and a pool that is as it was gets its group then, and keeps it.
func TestCgroupComes(t *testing.T) {
	s := newTestSet(t)
	var tree *cgroup.Tree
	refusals := 2
	s.cgroups.open = func() (*cgroup.Tree, error) {
		if refusals--; refusals >= 0 {
			return nil, errors.New("nobody delegates")
		}
		var err error
		tree, err = cgroup.Open(cgroup.Options{Try: spawn.TryCgroup})
		return tree, err
	}
	process, workers := "{name: www, listen: unix:%D/s, process: {root: [%D]}}", workerText("w", "w", "worker")
	s.script("a.cgi", "printf 'Content-Type: text/plain\\n\\n'; grep -o '/pool-www/programs$' /proc/self/cgroup || echo none")
	s.configure(process, workers)
	s.answers("s", "%D/a.cgi", "none\n")
	s.configure(process, workers)
	s.configure(process, workers)
	if refusals >= 0 {
		t.Fatal("a reload does not look again")
	}
	if tree == nil {
		t.Skip("there are no cgroups here: ", s.cgroups.why)
	}
	for range 3 {
		s.answers("s", "%D/a.cgi", "/pool-www/programs\n")
		s.answers("w", "x", "worker")
		groups, err := filepath.Glob(tree.Path() + "/pool-*")
		if err != nil || len(groups) != 2 {
			t.Errorf("the groups are %q, %v", groups, err)
		}
		s.configure(process, workers)
	}
}

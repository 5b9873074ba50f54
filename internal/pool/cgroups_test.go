package pool

import (
	"errors"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/cgroup"
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

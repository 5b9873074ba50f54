package spawn

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// keysOf are those of what is lacking.
func keysOf(lacks []Lack) (keys []string) {
	for _, l := range lacks {
		keys = append(keys, strings.TrimPrefix(l.Key, "sandbox."))
	}
	return keys
}

// What root in a container that has few capabilities cannot do is told beforehand.
func TestFitOfRootWithoutCapabilities(t *testing.T) {
	user := &Identity{UID: 65534, GID: 65534}
	const all = ^uint64(0)
	for name, test := range map[string]struct {
		without uint64 // the capability
		s       Sandbox
		id      *Identity
		lacks   string
	}{
		"nice of a user":               {unix.CAP_SYS_NICE, Sandbox{Nice: 5}, user, "nice"},
		"nice of our own":              {unix.CAP_SYS_NICE, Sandbox{Nice: 5}, nil, ""},
		"nice with it":                 {unix.CAP_CHOWN, Sandbox{Nice: 5}, user, ""},
		"OOM score of a user":          {unix.CAP_DAC_OVERRIDE, Sandbox{OOMScoreAdj: 900}, user, "oom_score_adj"},
		"OOM score of our own":         {unix.CAP_DAC_OVERRIDE, Sandbox{OOMScoreAdj: 900}, nil, ""},
		"capabilities of a user":       {unix.CAP_SETPCAP, Sandbox{LimitCapabilities: true, NoNewPrivs: true}, user, ""},
		"capabilities with set-UID":    {unix.CAP_SETPCAP, Sandbox{LimitCapabilities: true}, user, "capabilities"},
		"capabilities of root":         {unix.CAP_SETPCAP, Sandbox{LimitCapabilities: true, NoNewPrivs: true}, nil, "capabilities"},
		"capabilities of root with it": {unix.CAP_CHOWN, Sandbox{LimitCapabilities: true}, nil, ""},
	} {
		m := &Machine{own: capabilitySets{effective: all &^ (1 << test.without), permitted: all}}
		if _, lacks := m.Fit(test.s, test.id); strings.Join(keysOf(lacks), " ") != test.lacks {
			t.Errorf("%s: lacks %v, want %q", name, lacks, test.lacks)
		}
	}
}

// A limit above the daemon's own is the daemon's own, whoever sets it.
func TestLimitAboveOurs(t *testing.T) {
	var ours unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &ours); err != nil {
		t.Fatal(err)
	}
	s := &Sandbox{Rlimits: []Rlimit{{"nofile", unix.RLIMIT_NOFILE, ours.Max + 1}}}
	ids := []*Identity{nil}
	if os.Geteuid() == 0 {
		ids = append(ids, &Identity{UID: 65534, GID: 65534})
	}
	RefuseTrace(t)
	for _, id := range ids {
		if fits, lacks := LookAtMachine().Fit(*s, id); len(fits.Rlimits) > 0 && !slices.Equal(keysOf(lacks), []string{"rlimits"}) {
			t.Errorf("for %v it lacks %v", id, lacks)
		}
		var out strings.Builder
		err := Run(t.Context(), new(Local), &Command{Argv: []string{"/bin/sh", "-c", "ulimit -n"}, Dir: "/", Identity: id, Sandbox: s}, &out)
		if errors.Is(err, errNoLimiter) {
			t.Skip(err)
		}
		if err != nil || out.String() != fmt.Sprintln(ours.Max) {
			t.Errorf("a program of %v has the limit %q, want %d: %v", id, out.String(), ours.Max, err)
		}
	}
}

// The table says so too where it is ptrace alone that is refused.
func TestTableWithoutPtrace(t *testing.T) {
	m := &Machine{own: capabilitySets{effective: ^uint64(0)}, ptrace: unix.EPERM}
	for _, line := range m.Table() {
		if line.Key == "rlimits" && line.Can == "yes" {
			t.Error("limits are said to be whole")
		}
	}
}

// Without CAP_SETPCAP, programs that have no way to capabilities are started, and others are not.
func TestCapabilitiesWithoutBound(t *testing.T) {
	own, err := getCapabilities()
	if err != nil || !own.has(unix.CAP_SETPCAP) {
		t.Skip("only a thread that has CAP_SETPCAP can be without")
	}
	for _, isRoot := range []bool{false, true} {
		result := make(chan error)
		go onThread(func() {
			without := own
			without.effective &^= 1 << unix.CAP_SETPCAP
			err := without.set()
			if err == nil {
				s := &Sandbox{Name: "www", LimitCapabilities: true, NoNewPrivs: true}
				_, err = s.confine(nil, isRoot)
			}
			result <- err
		})
		if err := <-result; (err != nil) != isRoot {
			t.Errorf("of root's programs: %v; %v", isRoot, err)
		}
	}
}

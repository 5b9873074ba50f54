package config

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// Who programs run as is found when the machine is looked at; what is nobody is a fault.
func TestIdentity(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start programs as somebody else")
	}
	const text = `pools:
- {name: a, listen: unix:/a, user: daemon, process: {root: [/]}}
- {name: b, listen: unix:/b, user: "64001", group: "64002", groups: ["7", daemon, "7"], process: {root: [/]}}
- {name: c, listen: unix:/c, group: daemon, process: {root: [/]}}
- {name: d, listen: unix:/d, process: {root: [/]}}
- {name: e, listen: unix:/e, user: "1", process: {root: [/]}}
`
	write(t, map[string]string{"f": text})
	c, err := LoadAndCheck("f", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if a := c.Pools[0].RunsAs; a == nil || a.UID != 1 || a.GID != 1 || a.Name != "daemon" {
		t.Errorf("a user's name: %+v", a)
	}
	if b := c.Pools[1].RunsAs; !reflect.DeepEqual(b, &Identity{Name: "64001", UID: 64001, GID: 64002, Groups: []uint32{1, 7}}) {
		t.Errorf("numbers: %+v", b)
	}
	if c := c.Pools[2].RunsAs; c == nil || c.UID != 0 || c.GID != 1 || c.Name != "root" {
		t.Errorf("a group alone: %+v", c)
	}
	if d := c.Pools[3].RunsAs; d != nil {
		t.Errorf("nothing: %+v", d)
	}
	if e := c.Pools[4].RunsAs; e == nil || e.UID != 1 || e.GID != 1 {
		t.Errorf("the number of an account: %+v", e)
	}
}

func TestIdentityFaults(t *testing.T) {
	write(t, map[string]string{"f": `pools:
- {name: a, listen: unix:/a, user: no_such_user, group: no_such_group, groups: [no_such], process: {root: [/]}}
- {name: b, listen: unix:/b, user: "64001", process: {root: [/]}}
`})
	_, err := LoadAndCheck("f", nil, nil)
	wantFaults(t, err,
		"f:2:36: pools[0].user: unknown user no_such_user"+howToMake("no_such_user"),
		"f:2:57: pools[0].group: unknown group no_such_group",
		"f:2:81: pools[0].groups[0]: unknown group no_such",
		"f:3:36: pools[1].user: 64001 has no account: write its group too",
	)
	write(t, map[string]string{"f": `pools:
- {name: a, listen: unix:/a, user: daemon, function: {}}
- {name: c, listen: unix:/c, sandbox: {owner: true}, worker: {command: [/bin/true]}}
- {name: d, listen: unix:/d, sandbox: {owner: true, min_uid: 0}, process: {root: [/]}}
- {name: b, listen: unix:/b, user: "4294967295", group: "99999999999", groups: [""], process: {root: [/]}}
`})
	_, err = Load("f", nil)
	wantFaults(t, err,
		"f:2:36: pools[0].user: functions run in the daemon, as its user: only programs can run as another",
		"f:3:47: pools[1].sandbox.owner: only a pool with process has a script for each program",
		"f:4:62: pools[2].sandbox.min_uid: must be from 1 to 2147483647: root's scripts run as root in no pool like this",
		"f:5:36: pools[3].user: 4294967295 is no number of a user or group",
		"f:5:57: pools[3].group: 99999999999 is no number of a user or group",
		"f:5:81: pools[3].groups[0]: is empty: write the name of a group",
	)
}

// An ordinary daemon sets no groups: those that the file gives have to be those that it has.
func TestGroupsThatAreOurs(t *testing.T) {
	for name, test := range map[string]struct {
		wanted          []uint32
		has             []int
		any, isTheirSet bool
	}{
		"the same":         {[]uint32{4, 5}, []int{5, 4}, true, true},
		"and its own":      {[]uint32{4}, []int{100, 4}, true, true},
		"its own is given": {[]uint32{4, 100}, []int{4}, true, true},
		"fewer":            {[]uint32{4}, []int{4, 5}, true, false},
		"more":             {[]uint32{4, 5}, []int{4}, false, false},
		"none":             {nil, []int{4}, true, false},
	} {
		id := &Identity{UID: 1000, GID: 100, Groups: test.wanted}
		if got := hasGroups(id, test.has, false); got != test.any {
			t.Errorf("%s: %t for an account", name, got)
		}
		if got := hasGroups(id, test.has, true); got != test.isTheirSet {
			t.Errorf("%s: %t for groups that are given", name, got)
		}
	}
}

// A file that does not say who the daemon is is refused where root would start it and that was asked
// for, and no other.
func TestUserIsRequired(t *testing.T) {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	AddFlags(fs)
	if err := fs.Set(RequireUserFlag, "true"); err != nil {
		t.Fatal(err)
	}
	const pools = "pools: [{name: f, listen: 'unix:/f', function: {}}]\n"
	for user, refused := range map[string]bool{"": true, "user: \"\"\n": true, "user: root\n": false, "user: daemon\n": false} {
		write(t, map[string]string{"f": user + pools})
		if c, err := LoadAndCheck("f", nil, []string{"x"}); err != nil {
			t.Errorf("%q, not required: %v, %v", user, c, err)
		}
		_, err := LoadAndCheck("f", fs, []string{"x"})
		if want := refused && os.Geteuid() == 0; (err != nil) != want || want && !strings.Contains(err.Error(), "user: root starts the daemon, and the file does not say who it is to be: user: fcgid, ") {
			t.Errorf("%q, required: %v", user, err)
		}
	}
}

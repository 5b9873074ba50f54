package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// needRoot skips a test of what only root can do.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can hand a configuration to somebody else")
	}
}

const apart = `user: nobody
include: [d/*.yaml, one.yaml]
pools:
- {name: a, listen: "unix:/a", user: daemon, groups: ["7"], process: {root: [/]}, timeout: 1s}
- {name: s, listen: "tcp:127.0.0.1:1", user: bin, sandbox: {owner: true, rlimits: [nofile=7], capabilities: [kill], preset: strict}, process: {root: [/usr]}, timeout: 1s}
`

// What was read once is what counts, whatever the disk says by then.
func TestBundle(t *testing.T) {
	needRoot(t)
	write(t, map[string]string{
		"f":        apart,
		"d/b.yaml": "pools: [{name: b, listen: 'unix:/b', user: bin, worker: {command: [/bin/true]}, timeout: 1s}]\n",
		"one.yaml": "pools: [{name: c, listen: 'unix:/c', function: {}, timeout: 1s}]\n",
	})
	c, b, err := LoadForOthers("f", nil, []string{"f"})
	if err != nil {
		t.Fatal(err)
	}
	if c.RunsAs == nil || c.RunsAs.UID != 65534 || len(c.Pools) != 4 {
		t.Fatalf("%+v, %d pools", c.RunsAs, len(c.Pools))
	}
	data, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	write(t, map[string]string{"f": "user: root\npools: []\n", "d/b.yaml": "", "d/x.yaml": "nonsense", "one.yaml": "pools: []"})
	var handed Bundle
	if err := json.Unmarshal(data, &handed); err != nil {
		t.Fatal(err)
	}
	got, err := handed.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Pools, c.Pools) || got.User != c.User || got.RunsAs != nil {
		t.Errorf("got\n%+v\nwant\n%+v", got.Pools, c.Pools)
	}
	if !slices.Equal(got.Warnings(), c.Warnings()) {
		t.Errorf("warnings %v, want %v", got.Warnings(), c.Warnings())
	}
	var pools []Pool // as the spawner gets them
	if data, err = json.Marshal(c.Pools); err == nil {
		err = json.Unmarshal(data, &pools)
	}
	if err != nil || !reflect.DeepEqual(pools, c.Pools) {
		t.Errorf("%v: the spawner gets\n%+v\nwant\n%+v", err, pools, c.Pools)
	}
}

// A file that others than root could change is not read for others.
func TestBundleOfFilesOfOthers(t *testing.T) {
	needRoot(t)
	for name, test := range map[string]struct {
		spoil func(dir string) error
		want  string // "": it is read
	}{
		"as it is":                {func(string) error { return nil }, ""},
		"not readable by others":  {func(dir string) error { return os.Chmod(dir+"/f", 0o600) }, ""},
		"file of another":         {func(dir string) error { return os.Chown(dir+"/f", 1, 0) }, "/f could be changed"},
		"file of a group":         {func(dir string) error { return os.Chmod(dir+"/f", 0o664) }, "/f could be changed"},
		"file of all":             {func(dir string) error { return os.Chmod(dir+"/f", 0o646) }, "/f could be changed"},
		"folder of another":       {func(dir string) error { return os.Chown(dir, 1, 0) }, "could be changed"},
		"folder of all":           {func(dir string) error { return os.Chmod(dir, 0o777) }, "could be changed"},
		"included file":           {func(dir string) error { return os.Chmod(dir+"/one.yaml", 0o666) }, "one.yaml could be changed"},
		"included by a pattern":   {func(dir string) error { return os.Chown(dir+"/d/b.yaml", 2, 2) }, "b.yaml could be changed"},
		"folder of a pattern":     {func(dir string) error { return os.Chmod(dir+"/d", 0o1777) }, "/d could be changed"},
		"link of another":         {func(dir string) error { return replace(dir, "../one.yaml", true) }, "b.yaml could be changed"},
		"link of root's":          {func(dir string) error { return replace(dir, "../f2", false) }, ""},
		"link to what others own": {func(dir string) error { return replace(dir, "/tmp/"+filepath.Base(filepath.Dir(dir))+"-x", false) }, "no such file"},
		"links in a circle":       {func(dir string) error { return replace(dir, "b.yaml", false) }, "too many levels"},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, map[string]string{
				"c/f":        apart,
				"c/d/b.yaml": "pools: [{name: b, listen: 'unix:/b', function: {}}]\n",
				"c/f2":       "pools: [{name: b, listen: 'unix:/b', function: {}}]\n",
				"c/one.yaml": "pools: [{name: c, listen: 'unix:/c', function: {}}]\n",
			})
			dir, err := filepath.Abs("c")
			if err != nil {
				t.Fatal(err)
			}
			if err := test.spoil(dir); err != nil {
				t.Fatal(err)
			}
			_, _, err = LoadForOthers("c/f", nil, []string{"f"})
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// replace puts a link in place of an included file.
func replace(dir, to string, ofAnother bool) error {
	path := dir + "/d/b.yaml"
	if err := os.Remove(path); err != nil {
		return err
	}
	if err := os.Symlink(to, path); err != nil {
		return err
	}
	if ofAnother {
		return os.Lchown(path, 1, 1)
	}
	return nil
}

// With a daemon of another user each pool of programs needs one of its own, in no group of the daemon's.
// The account sync has the group nogroup, as nobody has.
func TestPoolsOfADaemonApart(t *testing.T) {
	needRoot(t)
	write(t, map[string]string{"f": `user: nobody
pools:
- {name: a, listen: "unix:/a", process: {root: [/]}}
- {name: b, listen: "unix:/b", user: nobody, process: {root: [/]}}
- {name: c, listen: "unix:/c", user: root, worker: {command: [/bin/true]}}
- {name: d, listen: "unix:/d", group: daemon, worker: {command: [/bin/true]}}
- {name: e, listen: "unix:/e", function: {}}
- {name: g, listen: "unix:/g", user: "65534", group: daemon, process: {root: [/]}}
- {name: h, listen: "unix:/h", user: daemon, process: {root: [/]}}
- {name: i, listen: "unix:/i", sandbox: {owner: true}, process: {root: [/]}}
- {name: j, listen: "unix:/j", user: daemon, group: nogroup, process: {root: [/]}}
- {name: k, listen: "unix:/k", user: daemon, groups: [bin, "65534"], process: {root: [/]}}
- {name: l, listen: "unix:/l", user: sync, worker: {command: [/bin/true]}}
- {name: m, listen: "unix:/m", user: sync, group: daemon, groups: [bin], worker: {command: [/bin/true]}}
`})
	_, err := LoadAndCheck("f", nil, []string{"f"})
	const why = "needs a user of its own for its programs, neither the daemon's nor root: user: NAME"
	const whyGroup = "has the daemon's group, which no program may have: with user (nobody) a pool needs groups of its own for its programs, as sockets are the daemon's group's unless listen.group says otherwise"
	wantFaults(t, err,
		"f:3:3: pools[0]: with user (nobody) a pool "+why,
		"f:4:38: pools[1].user: is the daemon's, which no program may be: with user (nobody) a pool "+why,
		"f:5:38: pools[2].user: is root: with user (nobody) a pool "+why,
		"f:6:3: pools[3]: with user (nobody) a pool "+why,
		"f:8:38: pools[5].user: is the daemon's, which no program may be: with user (nobody) a pool "+why,
		"f:10:3: pools[7]: with user (nobody) a pool "+why,
		"f:11:53: pools[8].group: "+whyGroup,
		"f:12:54: pools[9].groups: "+whyGroup,
		"f:13:38: pools[10].user: "+whyGroup,
	)
	write(t, map[string]string{"f": "user: no_such_user\npools: [{name: e, listen: 'unix:/e', function: {}}]\n"})
	_, err = LoadAndCheck("f", nil, []string{"f"})
	wantFaults(t, err, "f:1:7: user: unknown user no_such_user"+howToMake("no_such_user"))
	write(t, map[string]string{"f": "user: root\npools: [{name: e, listen: 'unix:/e', process: {root: [/]}}]\n"})
	if c, err := LoadAndCheck("f", nil, nil); err != nil || c.RunsAs != nil {
		t.Errorf("root itself: %v", err)
	}
}

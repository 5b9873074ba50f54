//go:build e2e

package e2e

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A change is what is tried with a daemon that has the pools below, DIR its folder.
type change struct {
	name, pools string
	prepare     func(t *testing.T, dir string)
	code        int
	says        string
}

// changedPools are of the daemon that is to be reloaded: of functions, of direct workers and of
// managed ones.
const changedPools = `- {name: f, listen: ['unix:DIR/f', 'tcp:127.0.0.1:PORT'], timeout: 5s, function: {}}
- {name: d, listen: 'unix:DIR/d', USER worker: {command: COMMAND, connections: direct, scale: static, max: 1}}
- {name: m, listen: 'unix:DIR/m', USER timeout: 5s, worker: {command: COMMAND, max: 1}}
`

var changes = []change{
	{name: "nothing", pools: changedPools},
	{name: "direct to managed", pools: strings.Replace(changedPools, "connections: direct, scale: static,", "", 1), code: 1, says: "pool d: listen unix:DIR/d: the socket cannot go from the daemon to direct workers or back"},
	{name: "managed to direct", pools: strings.Replace(changedPools, "timeout: 5s, worker: {command: COMMAND, max: 1}", "worker: {command: COMMAND, connections: direct, scale: static, max: 1}", 1), code: 1, says: "pool m: listen unix:DIR/m: the socket cannot go from the daemon to direct workers or back"},
	{name: "the address of direct workers to another pool", pools: strings.NewReplacer("name: d", "name: e").Replace(changedPools), code: 1, says: "pool e: listen unix:DIR/d: direct workers have its socket"},
	{name: "direct workers at another address", pools: strings.Replace(changedPools, "DIR/d", "DIR/d2", 1)},
	{name: "two pools change addresses", pools: strings.NewReplacer("DIR/f", "DIR/m", "DIR/m", "DIR/f").Replace(changedPools)},
	{name: "a port at all hosts instead", pools: strings.Replace(changedPools, "'tcp:127.0.0.1:PORT'", "{address: 'tcp:0.0.0.0:PORT', allow: [127.0.0.0/8]}", 1)},
	{name: "a port at all hosts as well", pools: changedPools + "- {name: g, timeout: 5s, listen: {address: 'tcp:0.0.0.0:PORT', allow: [127.0.0.0/8]}, function: {}}\n", code: 1, says: "address in use"},
	{name: "an address of somebody", pools: strings.Replace(changedPools, "DIR/f", "DIR/other", 1), prepare: func(t *testing.T, dir string) { listens(t, "unix", dir+"/other") }, code: 1, says: "address in use: another process answers on it"},
	{name: "an owner who is not there", pools: strings.Replace(changedPools, "'unix:DIR/f'", "{address: 'unix:DIR/f', owner: nosuch}", 1), code: 78, says: "unknown user nosuch"},
	{name: "a folder that is not there", pools: strings.Replace(changedPools, "DIR/f", "DIR/none/f", 1), code: 1, says: "folder DIR/none: no such file or directory"},
	{name: "a slow log that cannot be", pools: strings.Replace(changedPools, "function: {}", "slow: {after: 1s, log: DIR/none/log}, function: {}", 1), code: 1, says: "open log: open DIR/none/log: no such file or directory"},
}

// What check --diff and check pass, a reload does not refuse, and the other way round; and neither
// changes anything.
func TestCheckIsTheReload(t *testing.T) {
	t.Parallel()
	for name, user := range map[string]string{"one process": "", "two": "user: nobody\n"} {
		t.Run(name, func(t *testing.T) {
			if user != "" {
				needRoot(t)
			}
			t.Parallel()
			testChanges(t, user)
		})
	}
}

func testChanges(t *testing.T, user string) {
	dir := folder(t)
	_, port, _ := strings.Cut(freeAddress(t), ":")
	as := ""
	if user != "" {
		as = "user: daemon,"
	}
	fill := strings.NewReplacer("DIR", dir, "PORT", port, "COMMAND", workerCommand(t, "c"), "USER", as).Replace
	tmp := dir + "/tmp" // where all may make folders
	if err := errors.Join(os.Mkdir(tmp, 0o700), os.Chmod(tmp, 0o777|os.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	d := launch(t, dir, fill(changedPools)+user, func(cmd *exec.Cmd) { cmd.Env = append(os.Environ(), "TMPDIR="+tmp) })
	configure := func(pools string) { d.configure(fill(pools) + user) }
	command := func(args ...string) output {
		code, stdout, stderr := fcgid(t, dir, []string{"TMPDIR=" + tmp}, append(args, "-c", d.file)...)
		return output{code, stdout, stderr}
	}
	files := func() []string { // but sockets of workers, which come and go
		return slices.DeleteFunc(tree(t, dir), func(file string) bool {
			_, name, isOfWorkers := strings.Cut(file, "/fcgid-workers-")
			return isOfWorkers && strings.Contains(name, "/")
		})
	}
	for _, c := range changes {
		if c.prepare != nil {
			c.prepare(t, dir)
		}
		configure(c.pools)
		before := files()
		diff, check := command("check", "--diff"), command("check")
		if after := files(); !slices.Equal(before, after) {
			t.Errorf("%s: check has changed %v to %v", c.name, before, after)
		}
		reload := command("reload")
		for verb, o := range map[string]output{"check --diff": diff, "check": check, "reload": reload} {
			if o.code != c.code || !strings.Contains(o.stderr, fill(c.says)) {
				t.Errorf("%s: %s: exit status %d, want %d and %q: %s%s", c.name, verb, o.code, c.code, fill(c.says), o.stdout, o.stderr)
			}
		}
		configure(changedPools)
		if back := command("reload"); back.code != 0 {
			t.Fatalf("%s: back again: %+v", c.name, back)
		}
	}
}

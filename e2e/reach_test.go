//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// Check and the start say what a pool's user cannot reach, what denies it, and what comes of that for
// each kind of pool.
func TestUnreached(t *testing.T) {
	needRoot(t)
	t.Parallel()
	dir := folder(t)
	program := script(t, dir+"/closed/program", "#!/bin/sh\n")
	interpreter := script(t, dir+"/interpreter", "#!/bin/sh\n")
	if err := errors.Join(os.Chmod(dir+"/closed", 0o700), os.Chmod(program, 0o755), os.Chmod(interpreter, 0o700)); err != nil {
		t.Fatal(err)
	}
	pool := func(name, runs string) string {
		return fmt.Sprintf("- {name: %s, listen: 'unix:%s/%[1]s', user: daemon, %[3]s}\n", name, dir, runs)
	}
	d := launch(t, dir, pool("managed", "timeout: 5s, worker: {command: "+program+", max: 1}")+
		pool("direct", "worker: {command: "+program+", max: 1, connections: direct, scale: static}")+
		pool("files", "timeout: 5s, worker: {command: /bin/cat, root: "+dir+"/closed, max: 1}")+
		pool("cgi", "timeout: 5s, process: {root: "+dir+"/closed, interpreters: [.x="+interpreter+"]}"))
	_, _, stderr := fcgid(t, dir, nil, "check", d.file)
	folder := "to user daemon: the folder " + dir + "/closed has mode 0700, owner root and group root; "
	for _, want := range []string{
		"pool managed: its user daemon cannot run " + program + ": permission denied " + folder + "no worker can be started, and requests get 503 after limits.queue_timeout",
		"pool direct: its user daemon cannot run " + program + ": permission denied " + folder + "no worker can be started, and nobody accepts connections until web servers give up",
		"pool files: its user daemon cannot go to " + dir + "/closed: permission denied " + folder + "its scripts are answered with 403",
		"pool cgi: its user daemon cannot go to " + dir + "/closed: permission denied " + folder + "its scripts are answered with 403",
		"pool cgi: its user daemon cannot run " + interpreter + ": permission denied to user daemon: the file " + interpreter + " has mode 0700, owner root and group root; its scripts are answered with 403",
	} {
		if !strings.Contains(stderr, "warning: "+want+"\n") {
			t.Errorf("check says %s, and not %s", stderr, want)
		}
		await(t, want, func() bool {
			return strings.Contains(d.out.String(), `"msg":"the programs of a pool cannot reach what they need","reason":"`+want+`"`)
		})
	}
}

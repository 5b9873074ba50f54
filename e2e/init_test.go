//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// As the first process of a container the daemon has a parent that passes
// signals on and waits for what programs leave behind.
func TestFirstProcess(t *testing.T) {
	needRoot(t)
	dir := folder(t)
	script(t, dir+"/cgi/orphans.sh", "#!/bin/sh\n(setsid sleep 0.1 >/dev/null 2>&1 &)\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
	d := &daemon{dir: dir, file: dir + "/fcgid.yaml", admin: freeAddress(t)}
	d.configure(fmt.Sprintf("- {name: cgi, listen: 'unix:%s/s', process: {root: [%[1]s/cgi]}}\n", dir))
	d.process = start(t, exec.Command(need(t, "unshare"), "--pid", "--fork", "--mount-proc", "--kill-child=TERM", binary, "serve", "-c", d.file))
	d.awaitReady(t)
	first := children(d.Process.Pid)
	if len(first) != 1 {
		t.Fatalf("unshare has the children %v", first)
	}
	for range 20 {
		p := connect(t, dir+"/s")
		p.send(request(1, params(dir+"/cgi/orphans.sh"), ""))
		if r := p.reply(1); r.body() != "hello" {
			t.Fatalf("%v", r)
		}
	}
	await(t, "the orphans to be reaped", func() bool { return len(children(first[0])) == 1 })
	if err := syscall.Kill(first[0], syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := d.exitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if out := d.out.String(); !strings.Contains(out, `"msg":"stopped"`) {
		t.Error("the daemon has not stopped gracefully")
	}
}

// children are the processes whose parent is pid, whichever thread started them.
func children(pid int) (found []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for field := range strings.FieldsSeq(string(text)) {
			var child int
			fmt.Sscan(field, &child)
			found = append(found, child)
		}
	}
	return found
}

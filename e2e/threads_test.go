//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fcgid/fcgid/fcgi"
)

// A daemon that can have no thread and no process any more goes on answering.
func TestNoMoreThreads(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start the daemon as another user, and root itself has no such limit")
	}
	const nobody = 65534
	dir := folder(t)
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	path := script(t, dir+"/cgi.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
	pools := "- {name: cgi, listen: 'unix:" + dir + "/c', process: {root: [" + dir + "]}}\n" +
		"- {name: f, listen: 'unix:" + dir + "/f', function: {names: [fcgid.echo]}}\n"
	asNobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	d := launch(t, dir, pools, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = asNobody
		cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	})
	if res, out := ask(t, "unix", dir+"/c", &fcgi.Request{Close: true, Params: params(path)}); res != (fcgi.Result{}) {
		t.Fatalf("%+v %s", res, out)
	}
	limit := exec.Command("prlimit", "--nproc=1", "--pid", strconv.Itoa(d.Process.Pid))
	limit.SysProcAttr = asNobody
	run(t, limit)
	body := bytes.Repeat([]byte("x"), 1<<20) // goes to a file on its way
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var clients sync.WaitGroup
	for range 30 {
		clients.Go(func() {
			for range 3 {
				for _, address := range []string{"/c", "/f"} {
					c, err := fcgi.Dial(ctx, "unix:"+dir+address)
					if err != nil {
						t.Error(err)
						return
					}
					script := path
					if address == "/f" {
						script = "fcgid.echo"
					}
					var out bytes.Buffer
					_, err = c.Do(ctx, &fcgi.Request{Close: true, Params: params(script), Stdin: bytes.NewReader(body), Stdout: &out})
					c.Close()
					if err != nil || out.Len() == 0 {
						t.Errorf("%s: %v, %d bytes", address, err, out.Len())
					}
				}
			}
		})
	}
	clients.Wait()
	if code, text := get(t, "http://"+d.admin+"/-/healthy"); code != 200 {
		t.Errorf("%d %s", code, text)
	}
}

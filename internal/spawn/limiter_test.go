package spawn

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What executes the programs of all users cannot be changed by one of them, who has it open
// while it runs, nor by the user that has made it.
func TestLimiterCannotBeRewritten(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("there is no limiter for this architecture")
	}
	fd, err := newLimiter([]Rlimit{{"nofile", unix.RLIMIT_NOFILE, 64}})
	if err != nil {
		t.Fatal(err)
	}
	limiter := os.NewFile(uintptr(fd), "limiter")
	defer limiter.Close()
	who := []*syscall.Credential{nil}
	if os.Geteuid() == 0 {
		who = append(who, &syscall.Credential{Uid: 65534, Gid: 65534})
	}
	const file = "/proc/self/fd/3"
	for _, id := range who {
		for _, script := range []string{
			"printf X 1<>" + file, "printf X >>" + file, ": >" + file, "truncate -s 0 " + file, "chmod 0 " + file, "chmod 0444 " + file,
		} {
			cmd := exec.Command("/bin/sh", "-c", script)
			cmd.ExtraFiles, cmd.SysProcAttr = []*os.File{limiter}, &syscall.SysProcAttr{Credential: id}
			if text, err := cmd.CombinedOutput(); err == nil {
				t.Errorf("%s of %v is permitted: %s", script, id, text)
			}
		}
		cmd := &exec.Cmd{Path: file, Args: []string{"/bin/sh", "/", "sh", "-c", "ulimit -n"}, ExtraFiles: []*os.File{limiter}}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: id}
		if text, err := cmd.CombinedOutput(); err != nil || string(text) != "64\n" {
			t.Errorf("executed by %v it says %q, %v", id, text, err)
		}
	}
}

package spawn

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Root without CAP_SYS_PTRACE sees what a program of another user has open.
func TestHoldsWithoutPtrace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start programs as somebody else")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("/bin/sleep", "600")
	cmd.Stdout = w
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 64121, Gid: 64122}, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	name := fileName(int(w.Fd()))
	w.Close()
	done := make(chan struct{})
	go onThread(func() { // which is no other's afterwards
		defer close(done)
		rights := capabilitySets{permitted: 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID}
		rights.effective = rights.permitted
		if err := rights.set(); err != nil {
			t.Error(err)
			return
		}
		one := &task{pid: cmd.Process.Pid}
		if !one.holds([]string{name}) {
			t.Errorf("process %d has %s open, and that is not seen", one.pid, name)
		}
		if one.holds([]string{"pipe:[1]"}) {
			t.Error("it holds what it has not")
		}
	})
	<-done
}

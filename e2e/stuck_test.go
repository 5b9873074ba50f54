//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
	"golang.org/x/sys/unix"
)

// Programs that hold a lock of the kernel's, of their pipe, hold up nobody but who
// reads that pipe, and them only until they are killed. The daemon is the one that users get:
// the race detector's makes other system calls.
func TestStuckPrograms(t *testing.T) {
	t.Parallel()
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	if errno != 0 {
		t.Skipf("userfaultfd: %v", errno)
	}
	unix.Close(int(fd))
	s := &site{t: t, dir: folder(t), network: "unix"}
	stock, stuck := filepath.Join(s.dir, "fcgid"), filepath.Join(s.dir, "stuck")
	for program, source := range map[string]string{stock: "../cmd/fcgid", stuck: "./testdata/stuck"} {
		if err := harness.Build(false, program, source); err != nil {
			t.Fatal(err)
		}
	}

	s.address = s.dir + "/functions"
	pools := s.pool("functions", "function: {}")
	s.address = s.dir + "/s"
	pools += s.pool("cgi", "timeout: 2s, process: {root: [DIR], kill_grace: 1s}")
	s.daemon = serveProgram(t, stock, s.dir, pools)

	const programs = 4 // more than threads of the runtime's that run Go, on two CPUs
	var answers []<-chan answer
	for range programs {
		answers = append(answers, s.askLater(t.Context(), stuck))
	}
	await(t, "the programs to start", func() bool {
		return s.metric(t, `fcgid_process_starts_total{pool="cgi"}`) == fmt.Sprint(programs)
	})
	for _, c := range answers {
		for waiting := true; waiting; {
			res, body := ask(t, "unix", s.dir+"/functions", function("fcgid.ping"))
			if res.AppStatus != 0 {
				t.Fatalf("a function has answered %q", body)
			}
			select {
			case a := <-c:
				waiting = false
				if a.AppStatus != 408 || a.err != nil {
					t.Errorf("a stuck program's answer is %+v", a)
				}
			default:
			}
		}
	}
}

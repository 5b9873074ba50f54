package spawn_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/spawn"
)

// errnoOf is an error as a word.
func errnoOf(err error) string {
	var errno unix.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// beConfined is a daemon that was started apart, and has been taken over: it says what it may do.
func beConfined() int {
	if err := spawn.RefuseCalls(os.Getenv("OPEN") == ""); err != nil {
		fmt.Println(err)
		return 1
	}
	if program := os.Getenv("OPEN"); program != "" {
		fmt.Println(syscall.Exec(program, []string{program}, nil))
		return 1
	}
	say := func(what string, err error) { fmt.Println(what, errnoOf(err)) }
	bare := func(number uint32) error {
		_, _, errno := unix.RawSyscall6(uintptr(number), ^uintptr(0), ^uintptr(0), ^uintptr(0), ^uintptr(0), ^uintptr(0), ^uintptr(0))
		if errno != 0 {
			return errno
		}
		return nil
	}
	for _, number := range spawn.NoDaemonNeeds() {
		say(fmt.Sprintf("call-%d", number), bare(number))
	}
	for what, number := range map[string]uint32{
		"io_uring": unix.SYS_IO_URING_SETUP, "clone3": unix.SYS_CLONE3, "newer": spawn.NewestCall + 1, "x32": 0x40000000 | unix.SYS_GETPID, "execveat": unix.SYS_EXECVEAT,
	} {
		say(what, bare(number))
	}
	_, err := syscall.ForkExec("/proc/self/exe", []string{"x"}, &syscall.ProcAttr{})
	say("fork", err)
	say("exec", syscall.Exec("/bin/true", []string{"true"}, nil))
	say("thread", startThreads())
	for what, s := range map[string][2]int{
		"unix": {unix.AF_UNIX, 0}, "inet": {unix.AF_INET, 0}, "inet6": {unix.AF_INET6, 0}, "route": {unix.AF_NETLINK, unix.NETLINK_ROUTE}, "diag": {unix.AF_NETLINK, unix.NETLINK_SOCK_DIAG},
		"netfilter": {unix.AF_NETLINK, unix.NETLINK_NETFILTER}, "packet": {unix.AF_PACKET, 0}, "alg": {unix.AF_ALG, 0}, "vsock": {unix.AF_VSOCK, 0},
	} {
		_, err := unix.Socket(s[0], unix.SOCK_DGRAM, s[1])
		say(what, err)
	}
	for _, name := range []string{"own", "other"} {
		dir := os.Getenv(strings.ToUpper(name))
		say(name+"-make", os.WriteFile(dir+"/made", nil, 0o600))
		say(name+"-write", os.WriteFile(dir+"/file", []byte("x"), 0o600))
		_, err := os.ReadFile(dir + "/file")
		say(name+"-read", err)
		_, err = os.ReadDir(dir)
		say(name+"-list", err)
		say(name+"-rename", os.Rename(dir+"/file", dir+"/renamed"))
		say(name+"-folder", os.Mkdir(dir+"/folder", 0o700))
		fd, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		say(name+"-socket", unix.Bind(fd, &unix.SockaddrUnix{Name: dir + "/s"}))
	}
	_, err = os.ReadFile("/etc/passwd")
	say("passwd", err)
	say("null", os.WriteFile(os.DevNull, []byte("x"), 0))
	return 0
}

// beAtTerminal is a spawner that was started from a terminal, and beTyping its daemon.
func beAtTerminal() int {
	s, err := new(spawn.Local).StartApart(nobody, spawn.Unbounded(), []string{"HELPER=typing", "GORACE=atexit_sleep_ms=0"}, []uintptr{0, 1, 2})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	<-s.Exited()
	return s.Status().ExitStatus()
}

func beTyping() int {
	fmt.Println("typing", errnoOf(call(unix.SYS_IOCTL, 0, unix.TIOCSTI, uintptr(unsafe.Pointer(&[]byte{'x'}[0])))))
	return 0
}

// startThreads is what the runtime does at any time.
func startThreads() error {
	var all sync.WaitGroup
	failed := make(chan error, 100)
	for range 100 {
		all.Go(func() {
			runtime.LockOSThread()
			status, err := os.ReadFile("/proc/thread-self/status")
			if err == nil && !strings.Contains(string(status), "\nSeccomp:\t2\n") {
				err = fmt.Errorf("a thread is not confined")
			}
			if err != nil {
				failed <- err
			}
		})
	}
	all.Wait()
	if len(failed) > 0 {
		return <-failed
	}
	return nil
}

// confined is what such a daemon says.
func confined(t *testing.T, reach *spawn.Reach, env ...string) (said map[string]string, status unix.WaitStatus) {
	t.Helper()
	r, w, err := os.Pipe()
	runnertest.Must(t, err)
	defer r.Close()
	l := new(spawn.Local)
	s, err := l.StartApart(nobody, reach, append(env, "HELPER=confined", "GORACE=atexit_sleep_ms=0"), []uintptr{0, w.Fd(), 2})
	w.Close()
	runnertest.Must(t, err)
	text, err := io.ReadAll(r)
	runnertest.Must(t, err)
	<-s.Exited()
	said = make(map[string]string)
	for line := range strings.Lines(string(text)) {
		what, how, _ := strings.Cut(strings.TrimSpace(line), " ")
		said[what] = how
	}
	return said, s.Status()
}

// A daemon that was taken over cannot make the system calls that it never needs, execute anything,
// or have files that are not its own, whatever their modes are; and all that it needs it can do.
func TestDaemonIsConfined(t *testing.T) {
	needRoot(t)
	own, other := openFolder(t), openFolder(t)
	for _, dir := range []string{own, other} {
		runnertest.Must(t, os.Chmod(dir, 0o777))
		runnertest.Must(t, os.WriteFile(dir+"/file", nil, 0o666))
		runnertest.Must(t, os.Chmod(dir+"/file", 0o666))
	}
	reach, err := spawn.NewReach(nobody, []spawn.Place{spawn.PlaceOfFolder(own), spawn.PlaceOfFolder(own + "/none")})
	runnertest.Must(t, err)
	defer reach.Close()
	said, status := confined(t, reach, "OWN="+own, "OTHER="+other)
	if status.ExitStatus() != 0 {
		t.Fatalf("it exits with %v: %v", status, said)
	}
	want := map[string]string{"thread": "ok", "passwd": "ok", "null": "ok", "unix": "ok", "inet": "ok", "inet6": "ok", "route": "ok", "diag": "ok"}
	if len(spawn.Lacks()) > 0 {
		t.Log(spawn.Lacks())
	}
	if !slices.ContainsFunc(spawn.Lacks(), func(s string) bool { return strings.HasPrefix(s, "system calls") }) {
		for _, number := range spawn.NoDaemonNeeds() {
			want["call-"+strconv.Itoa(int(number))] = "EPERM"
		}
		for errno, calls := range map[string]string{"EPERM": "fork exec execveat", "ENOSYS": "io_uring clone3 newer x32", "EAFNOSUPPORT": "netfilter packet alg vsock"} {
			for what := range strings.FieldsSeq(calls) {
				want[what] = errno
			}
		}
	}
	for what := range strings.FieldsSeq("make write read list rename folder socket") {
		want["own-"+what] = "ok"
		if spawn.LandlockABI() > 0 {
			want["other-"+what] = "EACCES"
		}
	}
	for what, how := range want {
		if said[what] != how {
			t.Errorf("%s: %q, want %s", what, said[what], how)
		}
	}
}

// A daemon that root has started from a terminal cannot type into it.
func TestDaemonHasNoTerminal(t *testing.T) {
	needRoot(t)
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	runnertest.Must(t, err)
	defer master.Close()
	runnertest.Must(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	runnertest.Must(t, err)
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	runnertest.Must(t, err)
	defer terminal.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"HELPER=terminal", "GORACE=atexit_sleep_ms=0"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	var out strings.Builder
	cmd.Stdin, cmd.Stdout = terminal, &out
	if err := cmd.Run(); err != nil || !strings.HasPrefix(out.String(), "typing E") {
		t.Errorf("%v: %s", err, out.String())
	}
}

// Where functions run of which nobody knows what they need, processes are started and files are
// those of the user; calls of other architectures, which have other numbers, are the end.
func TestDaemonWithFunctions(t *testing.T) {
	needRoot(t)
	name := filepath.Join(openFolder(t), "program")
	text, err := os.ReadFile(spawn.LongMode32(t))
	runnertest.Must(t, err)
	runnertest.Must(t, os.WriteFile(name, text, 0o755))
	if out, err := exec.Command(name).CombinedOutput(); err != nil {
		t.Skipf("this kernel has no calls of 32-bit programs: %v %s", err, out)
	}
	if said, status := confined(t, spawn.Unbounded(), "OPEN="+name); status.Signal() != unix.SIGSYS {
		t.Errorf("a call of another architecture: %v, %v", status, said)
	}
	if said, status := confined(t, spawn.Unbounded(), "OPEN=/bin/true"); status.ExitStatus() != 0 {
		t.Errorf("it cannot execute a program: %v, %v", status, said)
	}
}

// A place is covered that lies in one of those that were granted, by whatever path, and one that is
// not there by any, since who wants it will find out.
func TestReachCovers(t *testing.T) {
	if spawn.LandlockABI() == 0 {
		t.Skip("the kernel has no Landlock")
	}
	dir := openFolder(t)
	for _, name := range []string{"logs", "logs/below", "other"} {
		runnertest.Must(t, os.Mkdir(dir+"/"+name, 0o755))
	}
	runnertest.Must(t, os.Symlink("logs", dir+"/link"))
	runnertest.Must(t, os.WriteFile(dir+"/other/a.log", nil, 0o644))
	runnertest.Must(t, os.Symlink("../other/a.log", dir+"/logs/link.log"))
	reach, err := spawn.NewReach(nil, []spawn.Place{spawn.PlaceOfFile(dir + "/logs/a.log"), spawn.PlaceOfFile("/dev/null"), spawn.PlaceOfFile("/dev/stdout")})
	runnertest.Must(t, err)
	defer reach.Close()
	for file, want := range map[string]bool{
		"/logs/a.log": true, "/logs/below/a.log": true, "/link/a.log": true, "/none/a.log": true,
		"/other/a.log": false, "/a.log": false, "/logs/link.log": false,
	} {
		if got := reach.Covers(spawn.PlaceOfFile(dir + file)); got != want {
			t.Errorf("%s is covered: %v", file, got)
		}
	}
	for file, want := range map[string]bool{"/dev/null": true, "/dev/full": false} {
		if got := reach.Covers(spawn.PlaceOfFile(file)); got != want {
			t.Errorf("%s is covered: %v", file, got)
		}
	}
	runnertest.Must(t, os.Rename(dir+"/logs", dir+"/old"))
	runnertest.Must(t, os.Mkdir(dir+"/logs", 0o755))
	if reach.Covers(spawn.PlaceOfFile(dir + "/logs/a.log")) {
		t.Error("a folder is covered that was put in another one's place")
	}
}

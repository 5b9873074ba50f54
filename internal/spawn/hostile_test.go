package spawn_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/spawn"
)

// hostile are what a hostile program tries. Each says what the kernel answered.
var hostile = map[string]func() error{
	"tcp":       func() error { return dial(unix.AF_INET, unix.SOCK_STREAM, 0) },
	"tcp6":      func() error { return socket(unix.AF_INET6, unix.SOCK_STREAM, 0) },
	"mptcp":     func() error { return socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP) },
	"udp":       func() error { return dial(unix.AF_INET, unix.SOCK_DGRAM, 0) },
	"raw":       func() error { return socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP) },
	"packet":    func() error { return socket(unix.AF_PACKET, unix.SOCK_RAW, 0) },
	"netlink":   func() error { return socket(unix.AF_NETLINK, unix.SOCK_RAW, 0) },
	"vsock":     func() error { return socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0) },
	"unix":      func() error { return socket(unix.AF_UNIX, unix.SOCK_STREAM, 0) },
	"abstract":  connectAbstract,
	"io_uring":  setUpRing,
	"x32":       func() error { return call(0x40000000|unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0) },
	"ptrace":    func() error { return call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, daemonPID(), 0) },
	"getfd":     stealDescriptor,
	"signal":    func() error { return unix.Kill(int(daemonPID()), 0) },
	"namespace": func() error { return unix.Unshare(unix.CLONE_NEWUSER | unix.CLONE_NEWNET) },
	"mount":     func() error { return unix.Mount("tmpfs", "/mnt", "tmpfs", 0, "") },
	"chroot":    func() error { return unix.Chroot("/") },
	"reboot":    func() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) },
}

// beHostile tries what its environment names, and says "name ok" or "name EPERM".
func beHostile() int {
	runtime.LockOSThread()
	for name := range strings.FieldsSeq(os.Getenv("TRY")) {
		verdict := "ok"
		if err := hostile[name](); err != nil {
			verdict = err.Error()
			var errno unix.Errno
			if errors.As(err, &errno) {
				verdict = unix.ErrnoName(errno)
			}
		}
		fmt.Println(name, verdict)
	}
	return 0
}

func daemonPID() uintptr {
	pid, _ := strconv.Atoi(os.Getenv("DAEMON"))
	return uintptr(pid)
}

func call(number, a, b, c uintptr) error {
	if _, _, errno := unix.Syscall(number, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

func socket(family, kind, protocol int) error {
	_, err := unix.Socket(family, kind, protocol)
	return err
}

func dial(family, kind, protocol int) error {
	fd, err := unix.Socket(family, kind, protocol)
	if err != nil {
		return err
	}
	port, _ := strconv.Atoi(os.Getenv("PORT"))
	return unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
}

func connectAbstract() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	return unix.Connect(fd, &unix.SockaddrUnix{Name: os.Getenv("ABSTRACT")})
}

func setUpRing() error {
	var params [120]byte // struct io_uring_params
	return call(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&params)), 0)
}

func stealDescriptor() error {
	pidfd, err := unix.PidfdOpen(int(daemonPID()), 0)
	if err != nil {
		return err
	}
	_, err = unix.PidfdGetfd(pidfd, 2, 0)
	return err
}

// try has a hostile program try something under a sandbox.
func try(t *testing.T, id *spawn.Identity, s *spawn.Sandbox, names string, env ...string) map[string]string {
	t.Helper()
	program := copyOfTest(t)
	if s != nil && len(s.Read) > 0 {
		own := *s
		own.Read = append(own.Read[:len(own.Read):len(own.Read)], program)
		s = &own
	}
	env = append(env, "HELPER=hostile", "GORACE=atexit_sleep_ms=0", "TRY="+names, "DAEMON="+strconv.Itoa(os.Getpid()))
	var l spawn.Local
	var out strings.Builder
	runnertest.Must(t, spawn.Run(t.Context(), &l, &spawn.Command{Argv: []string{program}, Dir: "/", Env: env, Identity: id, Sandbox: s}, &out))
	said := make(map[string]string)
	for line := range strings.Lines(out.String()) {
		if name, verdict, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			said[name] = verdict
		}
	}
	return said
}

// copyOfTest is this program where everybody can run it.
func copyOfTest(t *testing.T) string {
	t.Helper()
	name := filepath.Join(openFolder(t), "program")
	self, err := os.Open("/proc/self/exe")
	runnertest.Must(t, err)
	defer self.Close()
	other, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o755)
	runnertest.Must(t, err)
	_, err = io.Copy(other, self)
	runnertest.Must(t, err)
	runnertest.Must(t, other.Close())
	return name
}

func expect(t *testing.T, said map[string]string, want string) {
	t.Helper()
	for pair := range strings.FieldsSeq(want) {
		name, verdict, _ := strings.Cut(pair, "=")
		if said[name] != verdict {
			t.Errorf("%s: %q, want %s", name, said[name], verdict)
		}
	}
}

// needFit skips a test where the machine cannot do what it is about.
func needFit(t *testing.T, s *spawn.Sandbox, id *spawn.Identity) {
	t.Helper()
	if _, lacks := spawn.LookAtMachine().Fit(*s, id); len(lacks) > 0 {
		t.Skipf("this machine or account lacks it: %v", lacks)
	}
}

func TestNoNetwork(t *testing.T) {
	s := &spawn.Sandbox{NoNetwork: true, NoNewPrivs: true}
	needFit(t, s, nil)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	runnertest.Must(t, err)
	defer tcp.Close()
	name := fmt.Sprintf("@fcgid-test-%d", os.Getpid())
	abstract, err := net.Listen("unix", name)
	runnertest.Must(t, err)
	defer abstract.Close()
	env := []string{fmt.Sprintf("PORT=%d", tcp.Addr().(*net.TCPAddr).Port), "ABSTRACT=" + name}
	const all = "tcp tcp6 mptcp udp raw packet netlink vsock unix abstract io_uring x32 getfd ptrace"
	expect(t, try(t, nil, nil, "tcp udp unix abstract netlink", env...), "tcp=ok udp=ok unix=ok abstract=ok netlink=ok")
	said := try(t, nil, s, all, env...)
	expect(t, said, `tcp=EAFNOSUPPORT tcp6=EAFNOSUPPORT mptcp=EAFNOSUPPORT udp=EAFNOSUPPORT raw=EAFNOSUPPORT
		packet=EAFNOSUPPORT netlink=EAFNOSUPPORT vsock=EAFNOSUPPORT unix=ok io_uring=ENOSYS getfd=EPERM ptrace=EPERM`)
	if runtime.GOARCH == "amd64" {
		expect(t, said, "x32=ENOSYS")
	}
	if spawn.LandlockABI() >= 6 {
		expect(t, said, "abstract=EPERM")
	}
	// Limits need ptrace, which the filter lets a start have.
	limited := *s
	limited.Rlimits = []spawn.Rlimit{{Name: "core", Resource: unix.RLIMIT_CORE}}
	expect(t, try(t, nil, &limited, "tcp unix", env...), "tcp=EAFNOSUPPORT unix=ok")
}

var system = []string{"-/usr", "-/bin", "-/lib", "-/lib64", "-/etc/ld.so.cache"}

func TestFiles(t *testing.T) {
	dir := openFolder(t)
	for _, name := range []string{"in", "out", "secret"} {
		runnertest.Must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	runnertest.Must(t, os.WriteFile(dir+"/in/text", []byte("text"), 0o644))
	runnertest.Must(t, os.WriteFile(dir+"/secret/text", []byte("secret"), 0o644))
	s := &spawn.Sandbox{NoNewPrivs: true, Read: append([]string{dir + "/in"}, system...), Write: []string{dir + "/out"}}
	needFit(t, s, nil)
	var l spawn.Local
	env := []string{"D=" + dir}
	permitted := []string{
		"cat $D/in/text", "echo a >$D/out/a; cat $D/out/a; rm $D/out/a", "mkdir $D/out/x; rmdir $D/out/x",
		"cp /bin/true $D/out/true", "echo >/dev/null", "head -c1 /dev/urandom >/dev/zero", "umask 000; ls $D/in",
	}
	for _, script := range permitted {
		if text, err := output(t, &l, &spawn.Command{Sandbox: s, Env: env}, "set -e; "+script); err != nil {
			t.Errorf("%s: %v: %s", script, err, text)
		}
	}
	refused := []string{
		"cat /etc/shadow", "cat /etc/passwd", "cat $D/secret/text", "ls $D/secret", "ls /", "ls $D", "cat /proc/$PPID/environ", "cat /proc/1/cmdline",
		"echo >>$D/in/text", "rm $D/in/text", "mv $D/in/text $D/out/text", "ln $D/in/text $D/in/link", "ln -s /etc/shadow $D/in/link", "mkdir $D/in/x",
		"mkfifo $D/in/x", "truncate -s0 $D/in/text", "echo >$D/new", "ln -s /etc/passwd $D/out/link; cat $D/out/link",
		"cat $D/in/../secret/text", "$D/out/true", "exec $D/out/true", "cat /dev/tty0", "echo >/tmp/fcgid-escape-$$",
	}
	for _, script := range refused {
		if text, err := output(t, &l, &spawn.Command{Sandbox: s, Env: env}, script); err == nil {
			t.Errorf("%s is permitted: %s", script, text)
		}
	}
	if text, err := os.ReadFile(dir + "/in/text"); err != nil || string(text) != "text" {
		t.Errorf("the file that may only be read is %q, %v", text, err)
	}
	// Where only writing is limited, all may be read.
	w := &spawn.Sandbox{NoNewPrivs: true, Write: []string{dir + "/out"}}
	says(t, &l, &spawn.Command{Sandbox: w, Env: env}, "cat $D/secret/text; echo >$D/out/b")
	if _, err := output(t, &l, &spawn.Command{Sandbox: w, Env: env}, "echo >$D/in/b"); err == nil {
		t.Error("with write alone, another folder can be written")
	}
}

// A body in an unlinked file can be opened by the name that shells have for it.
func TestSpool(t *testing.T) {
	spool := openFolder(t)
	s := &spawn.Sandbox{NoNewPrivs: true, Read: system, Spool: spool}
	needFit(t, s, nil)
	file, err := os.CreateTemp(spool, "")
	runnertest.Must(t, err)
	defer file.Close()
	runnertest.Must(t, os.WriteFile(file.Name(), []byte("body"), 0o600))
	runnertest.Must(t, os.Remove(file.Name()))
	var l spawn.Local
	if got := says(t, &l, &spawn.Command{Sandbox: s, IO: spawn.IO{File: file}}, "cat /dev/stdin"); got != "body" {
		t.Errorf("read %q", got)
	}
	if text, err := output(t, &l, &spawn.Command{Sandbox: s}, "ls "+spool); err == nil {
		t.Errorf("the folder can be listed: %s", text)
	}
	s.Spool = ""
	if text, err := output(t, &l, &spawn.Command{Sandbox: s, IO: spawn.IO{File: file}}, "cat /dev/stdin"); err == nil {
		t.Errorf("without it, /dev/stdin is %q", text)
	}
}

// A program of the sandbox cannot reach the daemon, also where both are of one user.
func TestDaemonIsOutOfReach(t *testing.T) {
	s := &spawn.Sandbox{NoNewPrivs: true, Read: []string{"/"}}
	needFit(t, s, nil)
	expect(t, try(t, nil, s, "ptrace getfd"), "ptrace=EPERM getfd=EPERM")
	if spawn.LandlockScopesSignals() {
		expect(t, try(t, nil, s, "signal"), "signal=EPERM")
	}
}

// The programs of a sandbox can reach one another, whichever thread has started them.
func TestProgramsOfSandboxReachOneAnother(t *testing.T) {
	s := &spawn.Sandbox{NoNewPrivs: true, Read: []string{"/"}}
	needFit(t, s, nil)
	var l spawn.Local
	release, err := l.Hold(s, nil)
	runnertest.Must(t, err)
	defer release()
	r := run(t, &l, &spawn.Command{Argv: []string{"/bin/sh", "-c", "echo $$; read x"}, IO: spawn.IO{Stdin: true}, Sandbox: s})
	pid := r.pid()
	for range 8 * runtime.GOMAXPROCS(0) {
		says(t, &l, &spawn.Command{Sandbox: s}, fmt.Sprint("kill -0 ", pid))
	}
	r.Stdin.Close()
	r.wait()
}

// A folder that was replaced, as by a deployment, is the one that may be read.
func TestFolderIsReplaced(t *testing.T) {
	dir := openFolder(t)
	put := func(text string) {
		fresh := filepath.Join(dir, text)
		runnertest.Must(t, os.Mkdir(fresh, 0o755))
		runnertest.Must(t, os.WriteFile(fresh+"/text", []byte(text), 0o644))
		runnertest.Must(t, os.Symlink(fresh, dir+"/next"))
		runnertest.Must(t, os.Rename(dir+"/next", dir+"/current"))
	}
	s := &spawn.Sandbox{NoNewPrivs: true, Read: append([]string{dir + "/current", "-" + dir + "/later"}, system...)}
	needFit(t, &spawn.Sandbox{NoNewPrivs: true, Read: []string{"/"}}, nil)
	var l spawn.Local
	put("one")
	release, err := l.Hold(s, nil)
	runnertest.Must(t, err)
	defer release()
	for _, text := range []string{"one", "two", "three"} {
		if text != "one" {
			put(text)
		}
		if got := says(t, &l, &spawn.Command{Sandbox: s, Env: []string{"D=" + dir}}, "cat $D/current/text"); got != text {
			t.Errorf("read %q, want %q", got, text)
		}
	}
	polltest.Until(t, "the end of the threads of folders that are gone", func() bool { return threads(t) <= min(runtime.GOMAXPROCS(0), 4) })
	runnertest.Must(t, os.WriteFile(dir+"/later", []byte("later"), 0o644))
	if got := says(t, &l, &spawn.Command{Sandbox: s, Env: []string{"D=" + dir}}, "cat $D/later"); got != "later" {
		t.Errorf("of what has come later: %q", got)
	}
	runnertest.Must(t, os.Remove(dir+"/current"))
	if _, err := output(t, &l, &spawn.Command{Sandbox: s}, "true"); err == nil || !strings.Contains(err.Error(), "sandbox.read: "+dir+"/current: no such file") {
		t.Errorf("with a folder that is gone: %v", err)
	}
}

func TestCapabilities(t *testing.T) {
	needRoot(t)
	const look = "grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | sed 's/.*\t0*//' | xargs"
	var l spawn.Local
	none := &spawn.Sandbox{LimitCapabilities: true}
	bind := &spawn.Sandbox{LimitCapabilities: true, Capabilities: []uintptr{unix.CAP_NET_BIND_SERVICE}}
	for _, test := range []struct {
		name string
		id   *spawn.Identity
		s    *spawn.Sandbox
		want string
	}{
		{"none of root", nil, none, ""},
		{"none of a user", nobody, none, ""},
		{"one of root", nil, bind, "400 400 400"},
		{"one of a user", nobody, bind, "400 400 400 400 400"},
	} {
		if got := says(t, &l, &spawn.Command{Identity: test.id, Sandbox: test.s}, look); got != test.want {
			t.Errorf("%s: inheritable, permitted, effective, bounding, ambient are %q, want %q", test.name, got, test.want)
		}
	}
	expect(t, try(t, nil, none, "mount chroot reboot raw"), "mount=EPERM chroot=EPERM reboot=EPERM raw=EPERM")
}

// identity is another user, for root.
func identity() *spawn.Identity {
	if os.Geteuid() == 0 {
		return nobody
	}
	return nil
}

// What the kernel grants an ordinary user works for one.
func TestOrdinaryUser(t *testing.T) {
	needRoot(t)
	cmd := exec.Command(copyOfTest(t), "-test.run", "^Test(Umask|NoNewPrivs|NiceAndOOMScore|NoNetwork|Files|DaemonIsOutOfReach|FolderIsReplaced|Limits|ThreadsOfSandboxEnd)$", "-test.v")
	tmp := openFolder(t)
	runnertest.Must(t, os.Chown(tmp, 65534, 65534))
	cmd.Env, cmd.Dir = append(os.Environ(), "TMPDIR="+tmp, "HOME="+tmp, "GOCOVERDIR="), "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, text)
	}
	for _, name := range []string{"Umask", "NoNetwork", "Files", "DaemonIsOutOfReach", "Limits"} {
		if !strings.Contains(string(text), "--- PASS: Test"+name) {
			t.Errorf("Test%s has not passed as an ordinary user: %s", name, text)
		}
	}
}

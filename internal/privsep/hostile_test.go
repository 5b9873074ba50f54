package privsep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/logtest"
	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/spawn"
)

// A speaker is a daemon that was taken over: a process of its user that has the daemon's end
// of the session, and says what it likes. DIR is the pool's root, to which it may write.
type speaker struct {
	conn *Conn
	dir  string
	last uint64

	exits int // that it has heard of
}

// attacks are what it tries; each says how that went.
var attacks = map[string]func(*speaker) string{
	"environment": func(s *speaker) string {
		return s.run(filepath.Join(s.dir, "env.sh"), "LD_PRELOAD", "/x.so", "BASH_ENV", "/x", "ENV2", "y", "HTTP_PROXY", "p", "GIT_CONFIG", "/x", "HOME", "/x")
	},
	"outside":       func(s *speaker) string { return s.run("/etc/passwd") },
	"dots":          func(s *speaker) string { return s.run(s.dir + "/../../../etc/passwd") },
	"magic":         func(s *speaker) string { return s.run("/proc/self/root" + s.dir + "/env.sh") },
	"symlink":       func(s *speaker) string { return s.run(s.link("/bin/id")) },
	"interpreter":   func(s *speaker) string { return s.run(s.link("/etc/shadow") + "/x.sh") },
	"swapped":       (*speaker).swapped,
	"large":         func(s *speaker) string { return s.run(filepath.Join(s.dir, "env.sh"), many(3000)...) },
	"unknown pool":  func(s *speaker) string { return s.start("root", 1, filepath.Join(s.dir, "env.sh")) },
	"future":        func(s *speaker) string { return s.start("cgi", 1<<63, filepath.Join(s.dir, "env.sh")) },
	"workers of it": func(s *speaker) string { return s.worker("cgi") },
	"owner":         func(s *speaker) string { return s.start("owner", 1, s.own()) },

	"tracer of nothing": func(s *speaker) string { return s.tracer("cgi", 1) },
	"tracer of others": func(s *speaker) string {
		s.start("cgi", 1, filepath.Join(s.dir, "wait.sh"))
		return s.tracer("owner", s.last)
	},
	"tracer of what has ended": func(s *speaker) string {
		s.run(filepath.Join(s.dir, "env.sh"))
		for s.exits == 0 {
			s.receive()
		}
		return s.tracer("cgi", s.last)
	},
	"tracer": func(s *speaker) string {
		s.start("cgi", 1, filepath.Join(s.dir, "wait.sh"))
		return s.tracer("cgi", s.last)
	},

	"foreign handle": func(s *speaker) string { return s.signal(1, uint64(spawn.ToTree), 9) },
	"ended handle": func(s *speaker) string {
		s.run(filepath.Join(s.dir, "env.sh"))
		for s.exits == 0 {
			s.receive()
		}
		return s.signal(s.last, uint64(spawn.ToTree), 9) + s.signal(s.last, orderReap, 1)
	},
	"address beyond": func(s *speaker) string { return s.listen(listenBind, "/other.sock", 0o640, "") },
	"another mode":   func(s *speaker) string { return s.listen(listenBind, "/pool.sock", 0o666, "") },
	"another owner":  func(s *speaker) string { return s.listen(listenBind, "/pool.sock", 0o640, "0") },
	"permit beyond":  func(s *speaker) string { return s.listen(listenPermit, "/pool.sock", 0o666, "") },
	"permit foreign": func(s *speaker) string { return s.listen(listenPermit, "/pool.sock", 0o640, "") },
	"find elsewhere": func(s *speaker) string { return s.listen(listenFind, "/../etc/shadow", 0, "") },
	"remove foreign": func(s *speaker) string { return s.listen(listenRemove, "/env.sh", 0, "") },
	"remove by name": func(s *speaker) string {
		return s.listen(listenBind, "/pool.sock", 0o640, "") + s.listen(listenRemove, "/env.sh", 0, "")
	},
	"port beyond": func(s *speaker) string {
		return s.question(listenQuestion{what: listenBind, Options: listen.Options{Address: "tcp:127.0.0.1:81"}})
	},
	"exchanged":      func(s *speaker) string { return s.exchanged() },
	"folder as link": func(s *speaker) string { return s.listen(listenBind, "/writable/link/s", 0o640, "") },
	"no such socket": func(s *speaker) string { return s.question(listenQuestion{what: listenDropAll}, s.files()[0]) },
	"socket of its own": func(s *speaker) string {
		fd, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		unix.Bind(fd, &unix.SockaddrUnix{Name: s.dir + "/writable/own.sock"})
		unix.Listen(fd, 1)
		return s.question(listenQuestion{what: listenDropAll}, fd) + ", " + s.listen(listenRemove, "/writable/own.sock", 0, "")
	},

	"reap before exit": func(s *speaker) string {
		return s.start("cgi", 1, filepath.Join(s.dir, "wait.sh")) + ", " + s.signal(s.last, orderReap, 0)
	},
	"flood": func(s *speaker) string {
		for range 20 {
			s.last++
			s.send(KindStartCGI, s.scriptBody("cgi", 1, filepath.Join(s.dir, "wait.sh")), s.files()...)
		}
		said := map[string]int{}
		for range 20 {
			said[s.answer()]++
		}
		return fmt.Sprint(said)
	},
	"upgrades": func(s *speaker) string {
		said := map[string]int{}
		for range 20 {
			said[s.upgrade(upgradeStart, 0, s.sockets()...)]++
		}
		for range 3 {
			said[s.upgrade(upgradeDiscard, 1)+" ended"]++
			said[s.upgrade(upgradeStart, 0, s.sockets()...)]++
		}
		return fmt.Sprint(said)
	},
	"end of an upgrade that serves": func(s *speaker) string {
		s.upgrade(upgradeStart, 0, s.sockets()...)
		return fmt.Sprintf("%s, %s, %s, %s, %s", s.upgrade(upgradeCommit, 0), s.upgrade(upgradeDiscard, 1), s.upgrade(upgradeSignal, uint64(unix.SIGTERM)),
			s.upgrade(upgradeSignal, uint64(unix.SIGHUP)), s.upgrade(upgradeStart, 0, s.sockets()...))
	},
	"sockets after an upgrade": func(s *speaker) string {
		bound := s.listen(listenBind, "/pool.sock", 0o640, "")
		s.upgrade(upgradeStart, 0, s.sockets()...)
		s.upgrade(upgradeCommit, 0)
		return fmt.Sprintf("%s, %s, %s", bound, s.listen(listenBind, "/writable/pool.sock", 0o640, ""), s.listen(listenPermit, "/pool.sock", 0o640, ""))
	},
	"reload after an upgrade": func(s *speaker) string {
		s.upgrade(upgradeStart, 0, s.sockets()...)
		s.upgrade(upgradeCommit, 0)
		return s.ask(KindReload, nil)
	},
	"an upgrade of none": func(s *speaker) string {
		return fmt.Sprintf("%s, %s, %s", s.upgrade(upgradeCommit, 0), s.upgrade(upgradeDiscard, 0), s.upgrade(upgradeSignal, uint64(unix.SIGHUP)))
	},

	"words by a carriage return": func(s *speaker) string { return s.notify("STATUS=x\rMAINPID=1") },
	"words after a zero":         func(s *speaker) string { return s.notify("STATUS=x\x00MAINPID=1") },
	"a name of another's socket": func(s *speaker) string { return s.notify("FDSTORE=1\nFDNAME=http", s.sockets()[0]) },
	"a socket without a name":    func(s *speaker) string { return s.notify("FDSTORE=1\nFDPOLL=0", s.sockets()[0]) },
	"a name of its own": func(s *speaker) string {
		return s.notify("FDSTORE=1\nFDPOLL=0\nFDNAME=fcgid-socket-1f-a0", s.sockets()[0])
	},

	// These end the session.
	"listener with descriptors": func(s *speaker) string {
		return s.question(listenQuestion{what: listenBind, Options: listen.Options{Address: "unix:" + s.dir + "/pool.sock", Mode: 0o640}}, s.files()...)
	},
	"listener of none":          func(s *speaker) string { return s.question(listenQuestion{what: listenDropNew}) },
	"listener unheard of":       func(s *speaker) string { return s.question(listenQuestion{what: listenQuestions}) },
	"upgrade with pipes":        func(s *speaker) string { return s.upgrade(upgradeStart, 0, s.files()[:2]...) },
	"upgrade with too few":      func(s *speaker) string { return s.upgrade(upgradeStart, 0, s.sockets()[0]) },
	"upgrade with too many":     func(s *speaker) string { return s.upgrade(upgradeStart, 0, append(s.sockets(), s.sockets()[0])...) },
	"upgrade with an argument":  func(s *speaker) string { return s.upgrade(upgradeStart, 7, s.sockets()...) },
	"commit with descriptors":   func(s *speaker) string { return s.upgrade(upgradeCommit, 0, s.sockets()...) },
	"kill by upgrade":           func(s *speaker) string { return s.upgrade(upgradeSignal, uint64(unix.SIGKILL)) },
	"no such order of upgrades": func(s *speaker) string { return s.upgrade(upgradeCommit+1, 0) },
	"handle in use": func(s *speaker) string {
		s.start("cgi", 1, filepath.Join(s.dir, "wait.sh"))
		s.last--
		return s.start("cgi", 1, filepath.Join(s.dir, "wait.sh"))
	},
	"signal of none":    func(s *speaker) string { return s.signal(1, uint64(spawn.ToSocket)+1, 9) },
	"signal beyond":     func(s *speaker) string { return s.signal(1, uint64(spawn.ToGroup), 1000) },
	"stop of a tree":    func(s *speaker) string { return s.signal(1, uint64(spawn.ToTree), uint64(unix.SIGSTOP)) },
	"no descriptors":    func(s *speaker) string { return s.ask(KindStartCGI, s.scriptBody("cgi", 1, "/x")) },
	"a folder as stdin": func(s *speaker) string { return s.odd(0, s.dir) },
	"a file as stdout":  func(s *speaker) string { return s.odd(1, "/etc/passwd") },
	"descriptors": func(s *speaker) string {
		var fds []int
		for range 60 {
			fds = append(fds, s.files()...)
		}
		return s.ask(KindStartCGI, s.scriptBody("cgi", 1, "/x"), fds...)
	},
	"truncated": func(s *speaker) string {
		body := s.scriptBody("cgi", 1, "/x")
		return s.ask(KindStartCGI, body[:len(body)-1], s.files()...)
	},
	"broken params": func(s *speaker) string {
		body := appendUint(appendString(appendUint(appendUint(nil, 1), 1), "cgi"), 1)
		return s.ask(KindStartCGI, appendString(appendString(body, "id"), "\xff\xff\xff\xff"), s.files()...)
	},
	"an answer":       func(s *speaker) string { return s.ask(KindAnswer, nil) },
	"an event":        func(s *speaker) string { return s.ask(KindExited, make([]byte, 64)) },
	"what is no kind": func(s *speaker) string { return s.ask(lastKind+1, nil) },
	"no message": func(s *speaker) string {
		s.conn.conn.Write([]byte("x"))
		return s.answer()
	},

	// These are for the kernel to refuse.
	"ptrace": func(*speaker) string {
		_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(spawnerPID()), 0, 0, 0, 0)
		return errno.Error()
	},
	"getfd": func(*speaker) string {
		fd, err := unix.PidfdOpen(spawnerPID(), 0)
		if err != nil {
			return err.Error()
		}
		_, err = unix.PidfdGetfd(fd, 0, 0)
		return err.Error()
	},
	"kill": func(*speaker) string { return unix.Kill(spawnerPID(), unix.SIGKILL).Error() },
}

// wants are how they go: the beginning of what is said.
var wants = map[string]string{
	"environment": "started", "outside": "403", "dots": "403", "magic": "403", "symlink": "403", "interpreter": "403 script /etc/shadow is outside root",
	"swapped": "good", "large": "431", "unknown pool": "503 there is no pool", "future": "there is no generation", "workers of it": "the pool has no such programs",
	"owner":             "403 it would run as root, as the daemon's user or in the daemon's group",
	"tracer of nothing": "the pool has no such program any more", "tracer of others": "the pool has no such program any more",
	"tracer of what has ended": "the pool has no such program any more", "tracer": "started",
	"foreign handle": "done", "ended handle": "donedone", "reap before exit": "started, the program has not exited",
	"flood": "map[503 the pool has as many programs as it may have:17 started:3]",

	"address beyond": "is not as the", "another mode": "is not as the", "another owner": "is not as the", "permit beyond": "is not as the",
	"permit foreign": "was not made", "find elsewhere": "is not as the", "remove foreign": "was not made", "remove by name": "startedwas not made",
	"port beyond": "is not as the", "exchanged": "started, done, exists and is no socket", "folder as link": "permission denied",
	"no such socket": "socket operation on non-socket", "socket of its own": "it is no socket that listens by tcp, was not made",
	"upgrades":                      "map[another upgrade is being carried out:19 started:4 started ended:3]",
	"end of an upgrade that serves": "done, there is no such upgrade, there is no such upgrade, done, another upgrade is being carried out",
	"sockets after an upgrade":      "started, has given this process's place, has given this process's place",
	"reload after an upgrade":       `{"text":"an upgrade has given this process's place to another one`,
	"an upgrade of none":            "there is no such upgrade, there is no such upgrade, there is no such upgrade",

	"words by a carriage return": "is no word of a daemon's", "words after a zero": "is no word of a daemon's",
	"a name of another's socket": "is no word of a daemon's", "a socket without a name": "is no word of a daemon's", "a name of its own": "nobody hears it",

	"ptrace": "operation not permitted", "getfd": "operation not permitted", "kill": "operation not permitted",
}

func many(n int) (pairs []string) {
	for i := range n {
		pairs = append(pairs, fmt.Sprint("N", i), strings.Repeat("x", 1300))
	}
	return pairs
}

func spawnerPID() int {
	pid, _ := strconv.Atoi(os.Getenv("SPAWNER"))
	return pid
}

func (s *speaker) link(to string) string {
	name := filepath.Join(s.dir, "writable", fmt.Sprint("l", os.Getpid(), ".sh"))
	os.Symlink(to, name)
	return name
}

// swapped turns a link of its own between a script of the pool and one of its own.
func (s *speaker) swapped() string {
	dir, err := os.MkdirTemp("/var/tmp", "swapped")
	if err != nil {
		return err.Error()
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o755)
	evil, link := filepath.Join(dir, "evil.sh"), filepath.Join(dir, "link.sh")
	os.WriteFile(evil, []byte("echo evil"), 0o755)
	var swapping sync.WaitGroup
	var quit atomic.Bool
	defer swapping.Wait()
	defer quit.Store(true)
	swapping.Go(func() {
		for i := 0; !quit.Load(); i++ {
			os.Symlink([]string{evil, filepath.Join(s.dir, "env.sh")}[i%2], link+".next")
			os.Rename(link+".next", link)
		}
	})
	for range 200 {
		if said := s.run(link); strings.Contains(said, "evil\n") {
			return said
		}
	}
	return "good"
}

// own is a script of its own user.
func (s *speaker) own() string {
	name := filepath.Join(s.dir, "writable", "own.sh")
	os.WriteFile(name, []byte("id"), 0o755)
	return name
}

// files are descriptors as a program's are; the other ends are never closed.
func (s *speaker) files() (fds []int) {
	for i := range 3 {
		var pipe [2]int
		unix.Pipe2(pipe[:], unix.O_CLOEXEC)
		fds = append(fds, pipe[min(i, 1)])
	}
	return fds
}

// sockets are two, as an upgrade has them.
func (s *speaker) sockets() []int {
	fds, _ := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	return fds[:]
}

func (s *speaker) upgrade(order, argument uint64, fds ...int) string {
	s.last++
	return s.ask(KindUpgrade, appendUint(appendUint(nil, order), argument), fds...)
}

// notify says words that are for systemd.
func (s *speaker) notify(words string, fds ...int) string {
	s.last++
	answer := s.ask(KindNotify, []byte(words), fds...)
	if known := "is no word of a daemon's"; strings.Contains(answer, known) {
		return known
	}
	return answer
}

func (s *speaker) odd(i int, name string) string {
	fds := s.files()
	fds[i], _ = unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	return s.ask(KindStartCGI, s.scriptBody("cgi", 1, filepath.Join(s.dir, "env.sh")), fds...)
}

func (s *speaker) scriptBody(pool string, generation uint64, script string, pairs ...string) []byte {
	params := runnertest.Params(append([]string{"SCRIPT_FILENAME", script}, pairs...)...)
	body := appendString(appendUint(appendUint(nil, s.last), generation), pool)
	return appendString(appendString(appendUint(body, 1), "id"), params.Append(nil))
}

func (s *speaker) start(pool string, generation uint64, script string, pairs ...string) string {
	s.last++
	return s.ask(KindStartCGI, s.scriptBody(pool, generation, script, pairs...), s.files()...)
}

// tracer has slow.command of a pool run for a program.
func (s *speaker) tracer(pool string, of uint64) string {
	s.last++
	files := s.files()
	files[0], _ = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	body := appendString(appendUint(appendUint(nil, s.last), 1), pool)
	return s.ask(KindStartTracer, appendUint(body, of), files...)
}

func (s *speaker) worker(pool string) string {
	s.last++
	socket, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	body := appendString(appendUint(appendUint(nil, s.last), 1), pool)
	return s.ask(KindStartWorker, body, append([]int{socket}, s.files()[1:]...)...)
}

// run starts a script and waits for its exit, if it is started.
func (s *speaker) run(script string, pairs ...string) string {
	s.last++
	var out, stderr [2]int
	unix.Pipe2(out[:], unix.O_CLOEXEC)
	unix.Pipe2(stderr[:], unix.O_CLOEXEC)
	answer := s.ask(KindStartCGI, s.scriptBody("cgi", 1, script, pairs...), s.files()[0], out[1], stderr[1])
	unix.Close(out[1])
	unix.Close(stderr[1])
	text, _ := io.ReadAll(os.NewFile(uintptr(out[0]), ""))
	return answer + " " + string(text)
}

func (s *speaker) signal(handle, order, argument uint64) string {
	return s.ask(KindSignal, appendUint(appendUint(appendUint(appendUint(nil, handle), order), argument), 0))
}

// listen asks for something about the socket at a path in its folder, and about the file that is there.
func (s *speaker) listen(what uint64, name string, mode fs.FileMode, owner string) string {
	path := s.dir + name
	q := listenQuestion{what: what, Options: listen.Options{Address: "unix:" + path, Mode: mode, Owner: owner}, file: listen.File{Path: path}}
	if file, err := (listen.Local{}).Find(path); err == nil {
		q.file = *file
	}
	return s.question(q)
}

func (s *speaker) question(q listenQuestion, fds ...int) string {
	answer := s.ask(KindListen, q.append(nil), fds...)
	for _, known := range []string{"is not as the", "was not made", "has given this process's place", "exists and is no socket", "permission denied", "socket operation on non-socket", "it is no socket that listens by tcp"} {
		if strings.Contains(answer, known) {
			return known
		}
	}
	return answer
}

// exchanged puts a file of its own, and a link, into the place of a socket.
func (s *speaker) exchanged() string {
	path := s.dir + "/writable/pool.sock"
	said := s.listen(listenBind, "/writable/pool.sock", 0o640, "")
	made, _ := listen.Local{}.Find(path)
	os.Rename(path, path+".old")
	os.Symlink(s.dir+"/env.sh", path)
	said += ", " + s.question(listenQuestion{what: listenRemove, file: *made})
	return said + ", " + s.listen(listenBind, "/writable/pool.sock", 0o640, "")
}

func (s *speaker) send(kind Kind, body []byte, fds ...int) {
	s.conn.Send(&Message{Kind: kind, ID: s.last + 1000, Body: body, FDs: fds})
}

func (s *speaker) ask(kind Kind, body []byte, fds ...int) string {
	s.send(kind, body, fds...)
	return s.answer()
}

func (s *speaker) receive() (*Message, error) {
	m, err := s.conn.Receive()
	if err == nil && m.Kind == KindExited {
		s.exits++
	}
	return m, err
}

func (s *speaker) answer() string {
	for {
		m, err := s.receive()
		switch {
		case err != nil:
			return "ended"
		case m.Kind == KindAnswer && len(m.Body) > 0:
			return "started"
		case m.Kind == KindAnswer:
			return "done"
		case m.Kind == KindRefusal:
			text := errorOf(&Refusal{m.Body}).Error()
			var ref *protocol.Refusal
			if errors.As(errorOf(&Refusal{m.Body}), &ref) {
				text = fmt.Sprint(ref.HTTPStatus, " ", text)
			}
			return text
		}
	}
}

func TestMain(m *testing.M) {
	runnertest.Main(m, map[string]func() int{"speaker": speak, "tracer": trace})
}

// speak is the process that was taken over.
func speak() int {
	conn, err := NewConn(3)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	conn.MaxFDs = 3
	s := &speaker{conn: conn, dir: os.Getenv("DIR"), last: 10}
	fmt.Println(attacks[os.Getenv("ATTACK")](s))
	return 0
}

// trace is what a program of the pool tries with the daemon.
func trace() int {
	pid, _ := strconv.Atoi(os.Getenv("DAEMON"))
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(pid), 0, 0, 0, 0)
	fd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		_, err = unix.PidfdGetfd(fd, 3, 0)
	}
	_, readErr := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	fmt.Print(errno, "; ", err, "; ", unix.Kill(pid, unix.SIGKILL), "; ", readErr != nil)
	return 0
}

// A stage is a spawner with two pools, and room for a speaker.
type stage struct {
	t        *testing.T
	spawner  *spawner
	programs *Programs
	local    *spawn.Local
	dir      string
	binary   string
}

// copyOfSelf is this program, for others to execute, and beside it what an upgrade starts. It is made before anything else runs,
// as a file that a child has open for writing is not executed.
func copyOfSelf(t *testing.T) string {
	self, err := os.ReadFile("/proc/self/exe")
	runnertest.Must(t, err)
	name := filepath.Join(folder(t), "speaker")
	runnertest.Must(t, os.WriteFile(name, self, 0o755))
	runnertest.WriteFile(t, name+".next", "#!/bin/sh\nexec sleep 600", 0o755)
	return name
}

func newStage(t *testing.T, binary string) *stage {
	if os.Geteuid() != 0 {
		t.Skip("only root starts programs as others")
	}
	log, _ := logtest.New()
	s := &stage{t: t, local: new(spawn.Local), dir: folder(t), binary: binary}
	for name, text := range map[string]string{"env.sh": "env", "wait.sh": "exec sleep 600"} {
		runnertest.WriteFile(t, filepath.Join(s.dir, name), text, 0o644)
	}
	writable := filepath.Join(s.dir, "writable")
	runnertest.Must(t, os.Mkdir(writable, 0o755))
	runnertest.Must(t, os.Chown(writable, daemonUser, daemonUser))
	pool, owner := cgi(s.dir), cgi(s.dir)
	pool.Limits.MaxReqs = 3
	pool.Slow.Command = []string{"/bin/sh", "-c", "exec sleep 600"}
	owner.Slow = pool.Slow
	owner.Name, owner.Sandbox = "owner", config.Sandbox{Owner: true, MinUID: 1000}
	s.programs = NewPrograms(ProgramsOptions{Spawner: s.local, User: daemonUser, Group: daemonUser, Log: log})
	commit, _, err := s.programs.Prepare(1, []config.Pool{pool, owner}, "")
	runnertest.Must(t, err)
	commit()
	sockets, err := newListeners()
	runnertest.Must(t, err)
	runnertest.Must(t, os.Symlink(s.dir, writable+"/link"))
	var table []config.Listen
	for _, name := range []string{"/pool.sock", "/writable/pool.sock", "/writable/link/s"} {
		table = append(table, config.Listen{Address: "unix:" + s.dir + name, Mode: 0o640})
	}
	commit, _ = sockets.prepare(tableOf(table...))
	commit()
	s.spawner = &spawner{
		SpawnOptions: SpawnOptions{Program: binary + ".next"}, log: log, programs: s.programs, sockets: sockets, expired: make(chan struct{}),
	}
	s.spawner.leave.Store(int64(time.Hour))
	t.Cleanup(func() {
		defer close(sockets.turns)
		if next := s.spawner.succession.next; next != nil {
			next.Discard(true)
		}
		s.programs.Kill() // as at the end of the session
		s.programs.Close()
		if n := s.local.Len(); n != 0 {
			t.Errorf("%d programs are left", n)
		}
	})
	return s
}

// attack has a speaker try something, and the spawner serve it to its end.
func (s *stage) attack(name string) (said string) {
	conn, fd, err := NewPair()
	runnertest.Must(s.t, err)
	conn.MaxFDs = 3
	s.programs.opt.Conn, s.spawner.conn = conn, conn
	// As a child of this process it would count as an orphan of some program, whose pipes it has.
	cmd := exec.Command("/bin/sh", "-c", s.binary+"; :")
	cmd.Env = []string{"HELPER=speaker", fmt.Sprint("SPAWNER=", os.Getpid()), "ATTACK=" + name, "DIR=" + s.dir, "GORACE=atexit_sleep_ms=0"}
	cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(fd), "theirs")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: daemonUser, Gid: daemonUser}}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	runnertest.Must(s.t, cmd.Start())
	cmd.ExtraFiles[0].Close()
	Serve(conn, s.spawner.handle)
	cmd.Wait()
	return out.String()
}

// A daemon that was taken over can do what a client of its pools' sockets can, and no more.
func TestHostileSpeaker(t *testing.T) {
	binary := copyOfSelf(t)
	for name := range attacks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, binary)
			want, isKnown := wants[name]
			if !isKnown {
				want = "ended"
			}
			said := s.attack(name)
			if !strings.HasPrefix(said, want) {
				t.Errorf("it hears %q, want %s", said, want)
			}
			if name == "environment" {
				if !strings.Contains(said, "GATEWAY_INTERFACE=CGI/1.1\n") {
					t.Errorf("the program's environment is not all there: %s", said)
				}
				for _, bad := range []string{"LD_PRELOAD=", "BASH_ENV=", "HTTP_PROXY=", "GIT_CONFIG=", "HOME=/x"} {
					if strings.Contains(said, bad) {
						t.Errorf("%s has reached the program: %s", bad, said)
					}
				}
			}
		})
	}
}

// A program of a pool has no way to the daemon.
func TestDaemonIsOutOfReachOfPools(t *testing.T) {
	s := newStage(t, copyOfSelf(t))
	daemon := exec.Command("sleep", "600")
	daemon.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: daemonUser, Gid: daemonUser}}
	runnertest.Must(t, daemon.Start())
	defer daemon.Wait()
	defer daemon.Process.Kill()
	var out bytes.Buffer
	cmd := &spawn.Command{
		Argv: []string{s.binary}, Dir: "/", Identity: &spawn.Identity{UID: poolUser, GID: poolUser},
		Env: []string{"HELPER=tracer", fmt.Sprint("DAEMON=", daemon.Process.Pid), "GORACE=atexit_sleep_ms=0"},
	}
	runnertest.Must(t, spawn.Run(t.Context(), s.local, cmd, &out))
	if want := strings.Repeat("operation not permitted; ", 3) + "true"; out.String() != want {
		t.Errorf("a program says %q, want %q", out.String(), want)
	}
}

// When the daemon is killed, nothing of its programs is left.
func TestKilledDaemonLeavesNothing(t *testing.T) {
	s := newSide(t, true)
	dir := folder(t)
	run := s.scripts(cgi(dir))
	life := newLife(t)
	script := runnertest.WriteFile(t, filepath.Join(dir, "s.sh"), `exec 3>"$LIFE"; trap '' TERM; (setsid sleep 600; true) & echo started; wait; sleep 600`, 0o644)
	c := newCall(script, "LIFE", life.Path)
	var ended sync.WaitGroup
	ended.Go(func() { run.Run(context.Background(), &c.Request) })
	c.out.Await(t, "started\n")
	s.remote.client.conn.Close()
	s.programs.Kill() // as who serves the session does at its end
	life.AwaitEnd(t)
	ended.Wait()
	polltest.Until(t, "all to be reaped", func() bool { return s.local.Len() == 0 })
}

// FuzzHandle has the spawner asked whatever there may be. Nothing of it is started: there is
// no pool.
func FuzzHandle(f *testing.F) {
	s := &speaker{}
	f.Add(byte(KindStartCGI), s.scriptBody("cgi", 1, "/x"), 3)
	f.Add(byte(KindStartWorker), appendString(appendUint(appendUint(nil, 1), 1), "w"), 3)
	f.Add(byte(KindResolve), appendString(appendString(appendUint(nil, 1), "w"), "\x01\x01ab"), 0)
	f.Add(byte(KindStartTracer), appendUint(appendString(appendUint(appendUint(nil, 1), 1), "cgi"), 1), 3)
	f.Add(byte(KindSignal), appendUint(appendUint(appendUint(appendUint(nil, 1), orderReap), 1), 0), 0)
	f.Fuzz(func(t *testing.T, kind byte, body []byte, n int) {
		conn, fd, err := NewPair()
		if err != nil {
			t.Skip(err)
		}
		defer unix.Close(fd)
		defer conn.Close()
		p := NewPrograms(ProgramsOptions{Conn: conn, Spawner: new(spawn.Local)})
		m := &Message{Kind: Kind(kind), ID: 1, Body: body}
		for range min(max(n, 0), 4) {
			null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err == nil {
				m.FDs = append(m.FDs, null)
			}
		}
		defer m.Close()
		answer, err := p.Handle(m)
		var ref *Refusal
		if err == nil && (answer == nil || len(answer.Body) > 0) || err != nil && !errors.As(err, &ref) {
			t.Fatalf("%v, %v", answer, err)
		}
		parseExit(body)
	})
}

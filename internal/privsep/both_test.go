package privsep

import (
	"bytes"
	"context"
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
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/launch"
	"github.com/fcgid/fcgid/internal/logtest"
	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/process"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/runner/worker"
	"github.com/fcgid/fcgid/internal/spawn"
)

// The pools' user, who need not be known, and the daemon's, nobody: sandbox.owner runs
// scripts of known users alone.
const (
	poolUser   = 64123
	daemonUser = 65534
)

func asUser(uid uint32) *config.Identity {
	return &config.Identity{Name: fmt.Sprint(uid), UID: uid, GID: uid}
}

// A side is what starts programs for a runner: this process, or a spawner that it asks.
type side struct {
	t        testing.TB
	local    *spawn.Local
	remote   *Remote // nil: local does
	programs *Programs
	dropped  sync.Map
}

// both runs a test for each implementation.
func both(t *testing.T, test func(t *testing.T, s *side)) {
	if os.Geteuid() != 0 {
		t.Skip("only root starts programs as others")
	}
	t.Run("local", func(t *testing.T) { test(t, newSide(t, false)) })
	t.Run("remote", func(t *testing.T) { test(t, newSide(t, true)) })
}

func newSide(t testing.TB, isRemote bool) *side {
	s := &side{t: t, local: new(spawn.Local)}
	if !isRemote {
		return s
	}
	daemon, fd, err := NewPair()
	runnertest.Must(t, err)
	conn, err := NewConn(fd)
	runnertest.Must(t, err)
	conn.MaxFDs = 3
	client := NewClient(daemon)
	s.remote = NewRemote(client)
	s.programs = NewPrograms(ProgramsOptions{Conn: conn, Spawner: s.local, User: daemonUser, Group: daemonUser})
	var running sync.WaitGroup
	running.Go(func() {
		client.Run()
		s.remote.Gone()
	})
	running.Go(func() { Serve(conn, s.programs.Handle) })
	t.Cleanup(func() {
		daemon.Close()
		running.Wait()
		s.programs.Kill()
		s.programs.Close()
	})
	return s
}

// configure has pools be those of the next generation.
func (s *side) configure(number uint64, pools ...config.Pool) {
	s.t.Helper()
	commit, _, err := s.programs.Prepare(number, pools, "")
	runnertest.Must(s.t, err)
	s.remote.SetGeneration(number)
	commit()
}

func (s *side) tellDropped(name, why string) { s.dropped.Store(name, why) }

// scripts is a Runner of a pool.
func (s *side) scripts(cfg config.Pool) *process.Runner {
	s.t.Helper()
	opt := launch.Scripts(&cfg, nil, nil)
	opt.Dropped, opt.KillGrace, opt.Linger, opt.Spawner = s.tellDropped, 100*time.Millisecond, time.Second, s.local
	if s.remote != nil {
		s.configure(1, cfg)
		opt.Launcher = s.remote.Scripts(cfg.Name, opt.Dropped)
	}
	return process.New(opt)
}

// folder is one that everybody can enter.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "privsep")
	runnertest.Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	runnertest.Must(t, os.Chmod(dir, 0o755))
	return dir
}

// cgi is a pool whose scripts are given to the shell: to execute what was just written fails
// while some child has it open still.
func cgi(dir string) config.Pool {
	return config.Pool{
		Name: "cgi", RunsAs: asUser(poolUser), PassEnv: []string{"PATH"}, Limits: config.Limits{MaxReqs: 4},
		Process: &config.Process{Root: []string{dir}, Interpreters: []config.Interpreter{{Extension: ".sh", Path: "/bin/sh"}}},
	}
}

// A call is a request to a Runner.
type call struct {
	protocol.Request
	out, err runnertest.Output
}

func newCall(script string, pairs ...string) *call {
	c := &call{}
	c.Params = runnertest.Params(append([]string{"SCRIPT_FILENAME", script, "REQUEST_METHOD", "GET"}, pairs...)...)
	c.Stdout, c.Stderr = &c.out, &c.err
	return c
}

// Scripts do the same by both.
func TestScripts(t *testing.T) {
	both(t, func(t *testing.T, s *side) {
		dir := folder(t)
		run := s.scripts(cgi(dir))
		script := func(text string) string {
			return runnertest.WriteFile(t, filepath.Join(dir, "s.sh"), text, 0o644)
		}
		file, err := os.CreateTemp(dir, "")
		runnertest.Must(t, err)
		defer file.Close()
		io.WriteString(file, "from a file")
		for _, test := range []struct {
			name, text, want string
			status           uint32
			stdin            io.Reader
			pairs            []string
		}{
			{name: "its answer and status", text: "echo hello; exit 3", want: "hello\n", status: 3},
			{name: "a signal", text: "echo hello; kill -9 $$", want: "hello\n", status: 137},
			{name: "its user", text: "id -u; id -G", want: "64123\n64123\n"},
			{name: "its environment", text: `echo "$A$HTTP_PROXY$LD_PRELOAD$HOME"; pwd`, pairs: []string{"A", "b", "HTTP_PROXY", "x", "LD_PRELOAD", "/x.so", "HOME", "/x"}, want: "b/\n" + dir + "\n"},
			{name: "no input", text: "cat", want: ""},
			{name: "a small input", text: "cat /dev/stdin >/dev/stdout", stdin: runnertest.Whole("small"), want: "small"},
			{name: "a live input", text: "cat", stdin: strings.NewReader("live"), want: "live"},
			{name: "a large input", text: "wc -c", stdin: strings.NewReader(strings.Repeat("x", 300_000)), want: "300000\n"},
			{name: "an input in a file", text: "cat /dev/stdin; (echo x >/dev/stdin) 2>/dev/null || echo refused", stdin: filed{file}, want: "from a filerefused\n"},
		} {
			c := newCall(script(test.text), test.pairs...)
			c.Stdin, c.ID = test.stdin, protocol.KnownID("some")
			pid := 0
			c.Started = func(p int, _ string) { pid = p }
			c.Usage = new(protocol.Usage)
			status, err := run.Run(t.Context(), &c.Request)
			if status != test.status || err != nil || c.out.String() != test.want || pid == 0 || c.Usage.MaxRSS == 0 {
				t.Errorf("%s: status %d, %v, pid %d, %+v: %q", test.name, status, err, pid, c.Usage, c.out.String())
			}
		}
		for _, name := range []string{"HTTP_PROXY", "LD_PRELOAD"} {
			if _, told := s.dropped.Load(name); !told {
				t.Errorf("nobody was told that %s was dropped", name)
			}
		}
	})
}

// A filed stream is in a file.
type filed struct{ file *os.File }

// Read reads it.
func (f filed) Read(p []byte) (int, error) { return f.file.Read(p) }

// File is that of protocol.Filer.
func (f filed) File() (*os.File, error) {
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", f.file.Fd()))
}

// What cannot be started has the same answer by both.
func TestScriptsThatAreRefused(t *testing.T) {
	both(t, func(t *testing.T, s *side) {
		dir := folder(t)
		run := s.scripts(cgi(dir))
		secret := runnertest.WriteFile(t, filepath.Join(folder(t), "x.sh"), "id", 0o644)
		closed := filepath.Join(dir, "closed")
		runnertest.Must(t, os.Mkdir(closed, 0o700)) // root's
		runnertest.WriteFile(t, filepath.Join(closed, "x.sh"), "id", 0o644)
		runnertest.Must(t, os.Symlink(secret, filepath.Join(dir, "link.sh")))
		runnertest.WriteFile(t, filepath.Join(dir, "text"), "no program", 0o644)
		runnertest.WriteFile(t, filepath.Join(dir, "empty"), "\n", 0o755)
		runnertest.WriteFile(t, filepath.Join(dir, "s.sh"), "id", 0o644)
		for _, test := range []struct {
			name   string
			status int
			text   string
			pairs  []string
		}{
			{"none", 404, "no such file", nil},
			{"closed/x.sh", 403, "permission denied", nil},
			{"link.sh", 403, "is outside root", nil},
			{"text", 403, "not executable", nil},
			{"empty", 502, "it is no program and has no #! line", nil},
			{"s.sh", 431, "longer than", []string{"A", strings.Repeat("x", 200_000)}},
			{"s.sh\x00", 403, "NUL", nil},
		} {
			c := newCall(filepath.Join(dir, test.name), test.pairs...)
			_, err := run.Run(t.Context(), &c.Request)
			var ref *protocol.Refusal
			if !errors.As(err, &ref) || ref.HTTPStatus != test.status || !strings.Contains(err.Error(), test.text) {
				t.Errorf("%s: %v", test.name, err)
			}
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("why")
		cancel(why)
		if _, err := run.Run(ctx, &newCall(filepath.Join(dir, "s.sh")).Request); err != why {
			t.Errorf("with a context that had ended: %v", err)
		}
	})
}

// Who gives up a program whose execution hangs does not wait for it, and nothing is left of it.
func TestHungScriptIsGivenUp(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("there is nothing that starts programs of others on this architecture")
	}
	both(t, func(t *testing.T, s *side) {
		dir := folder(t)
		cfg := cgi(dir)
		cfg.Process.Interpreters, cfg.RunsAs = nil, asUser(64124)
		run := s.scripts(cfg)
		script := filepath.Join(dir, "hangs")
		runnertest.Leased(t, script)
		runnertest.Must(t, os.Chown(script, 64124, 64124)) // who else could hold the lease
		ctx, giveUp := context.WithCancelCause(t.Context())
		why, ended := errors.New("why"), make(chan error, 1)
		go func() {
			_, err := run.Run(ctx, &newCall(script).Request)
			ended <- err
		}()
		running := func() string {
			out, _ := exec.Command("ps", "-o", "pid=", "-U", "64124").Output()
			return string(out)
		}
		polltest.Until(t, "it to hang", func() bool { return running() != "" })
		giveUp(why)
		select {
		case err := <-ended:
			if err != why {
				t.Error(err)
			}
		case <-time.After(20 * time.Second): // the kernel ends the lease later
			t.Fatal("it is still waited for")
		}
		polltest.Until(t, "nothing to be left", func() bool { return running() == "" && s.local.Len() == 0 })
	})
}

// Programs end in the same way by both: one that must, with its tree; one that is done,
// alone.
func TestScriptsThatEnd(t *testing.T) {
	both(t, func(t *testing.T, s *side) {
		dir := folder(t)
		run := s.scripts(cgi(dir))
		life := newLife(t)
		script := runnertest.WriteFile(t, filepath.Join(dir, "s.sh"), `exec 3>"$LIFE"; trap '' TERM; (setsid sleep 600; true) & echo started; wait; sleep 600`, 0o644)
		c := newCall(script, "LIFE", life.Path)
		ctx, cancel := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		ended.Go(func() {
			if status, err := run.Run(ctx, &c.Request); status != 137 {
				t.Errorf("status %d, %v", status, err)
			}
		})
		c.out.Await(t, "started\n")
		cancel()
		ended.Wait()
		life.AwaitEnd(t)

		life = newLife(t)
		runnertest.WriteFile(t, script, `exec 3>"$LIFE"; sleep 600 >/dev/null 2>&1 & echo $!`, 0o644)
		c = newCall(script, "LIFE", life.Path)
		if status, err := run.Run(t.Context(), &c.Request); status != 0 || err != nil {
			t.Errorf("status %d, %v", status, err)
		}
		if !life.IsHeld(t) {
			t.Error("what was left in the background has ended")
		}
		runnertest.KillLater(t, strings.TrimSpace(c.out.String()))
		polltest.Until(t, "nothing to be waited for", func() bool { return s.local.Len() == 0 })
	})
}

// What is over at once is answered whole, however much it writes and whoever has its output.
func TestQuickScripts(t *testing.T) {
	both(t, func(t *testing.T, s *side) {
		dir := folder(t)
		run := s.scripts(cgi(dir))
		script := runnertest.WriteFile(t, filepath.Join(dir, "s.sh"), `head -c "$SIZE" /dev/zero; eval "$MORE"; echo end; exit 3`, 0o644)
		for _, size := range []int{0, 1, 4 << 10, 60 << 10, 64 << 10, 300 << 10} {
			for _, more := range []string{"", "echo error >&2", "exec 2>&-", "sleep .01", "sleep .02 &"} { // who has STDOUT after the exit
				for range 3 {
					c := newCall(script, "SIZE", strconv.Itoa(size), "MORE", more)
					status, err := run.Run(t.Context(), &c.Request)
					if want := size + len("end\n"); status != 3 || err != nil || len(c.out.String()) != want {
						t.Fatalf("%d bytes, %q: status %d, %v, %d bytes", size, more, status, err, len(c.out.String()))
					}
				}
			}
		}
		c := newCall(runnertest.WriteFile(t, filepath.Join(dir, "cat.sh"), "cat", 0o644))
		c.Stdin = strings.NewReader(strings.Repeat("x", 1<<20)) // which it waits for
		if status, err := run.Run(t.Context(), &c.Request); status != 0 || err != nil || len(c.out.String()) != 1<<20 {
			t.Errorf("status %d, %v, %d bytes", status, err, len(c.out.String()))
		}
		polltest.Until(t, "nothing to be waited for", func() bool { return s.local.Len() == 0 })
	})
}

// newLife is one that everybody can hold.
func newLife(t testing.TB) *runnertest.Life {
	life := runnertest.NewLife(t)
	for dir := filepath.Dir(life.Path); dir != "/"; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.Mode()&0o001 == 0 {
			runnertest.Must(t, os.Chmod(dir, info.Mode()|0o011))
		}
	}
	runnertest.Must(t, os.Chmod(life.Path, 0o666))
	return life
}

const perlWorker = `
use Socket;
print STDERR "up\n";
my $c;
sub take {
	my ($n, $b) = ($_[0], '');
	while (length $b < $n) { sysread($c, $b, $n - length $b, length $b) or return }
	return $b;
}
while (accept($c, STDIN)) {
	my ($params, $id) = ('', 0);
	while (my $head = take(8)) {
		(undef, my $type, $id, my $length, my $padding) = unpack('CCnnC', $head);
		my $content = $length + $padding ? take($length + $padding) : '';
		$params .= $content if $type == 4;
		last if $type == 5 && $length == 0;
	}
	my $out = "Content-Type: text/plain\r\n\r\n$<";
	syswrite($c, pack('CCnnCC', 1, 6, $id, length $out, 0, 0) . $out . pack('CCnnCC', 1, 6, $id, 0, 0, 0) . pack('CCnnCCNCx3', 1, 3, $id, 8, 0, 0, 0, 0));
	close $c;
}`

func workerPool(t testing.TB, root string) config.Pool {
	t.Helper()
	program := runnertest.WriteFile(t, filepath.Join(folder(t), "worker.pl"), perlWorker, 0o644)
	cfg := config.Pool{Name: "w", RunsAs: asUser(poolUser), Worker: &config.Worker{Command: []string{"perl", program}, Max: 2}}
	if root != "" {
		cfg.Worker.Root = []string{root}
	}
	return cfg
}

// Workers do the same by both.
func TestWorkers(t *testing.T) {
	both(t, func(t *testing.T, s *side) {
		root := folder(t)
		cfg := workerPool(t, root)
		opt := launch.Workers(&cfg, nil, nil)
		log, logs := logtest.New()
		opt.Max, opt.Scale, opt.SpawnRate, opt.StopGrace, opt.Log, opt.Spawner = 2, worker.ScaleStatic, 1000, 10*time.Second, log, s.local
		opt.RunDir = runnertest.TempDir(t)
		if s.remote != nil {
			s.configure(1, cfg)
			opt.Launcher = s.remote.Workers("w", s.tellDropped)
		}
		pool := worker.New(opt)
		ctx, stop := context.WithCancel(t.Context())
		var supervised sync.WaitGroup
		supervised.Go(func() { pool.Supervise(ctx) })
		script := runnertest.WriteFile(t, filepath.Join(root, "a.php"), "", 0o644)
		ask := func() string {
			c := newCall(script, "PATH_INFO", "")
			if _, err := pool.Run(t.Context(), &c.Request); err != nil {
				t.Error(err)
			}
			_, body, _ := strings.Cut(c.out.String(), "\r\n\r\n")
			return body
		}
		if got := ask(); !strings.HasPrefix(got, "64123") {
			t.Errorf("a worker says %q", got)
		}
		var ref *protocol.Refusal
		if _, err := pool.Run(t.Context(), &newCall("/etc/passwd").Request); !errors.As(err, &ref) || ref.HTTPStatus != 403 {
			t.Errorf("/etc/passwd: %v", err)
		}
		polltest.Until(t, "STDERR", func() bool { return len(logs.Of("worker stderr")) > 0 })
		before := pool.Snapshot().Workers[0].PID
		if rss := pool.Snapshot().Workers[0].RSS; rss < 100_000 {
			t.Errorf("a worker has %d bytes of memory", rss)
		}
		if s.remote != nil { // as where it is not to be seen from here
			cpu, rss := s.remote.askUsage(before)
			if again, now := spawn.Usage(before); rss < 100_000 || cpu > again || now < 100_000 {
				t.Errorf("the spawner sees a worker with %d bytes of memory, %v of time; it has %d, %v", rss, cpu, now, again)
			}
			if cpu, rss := s.remote.askUsage(os.Getpid()); cpu != 0 || rss != 0 {
				t.Errorf("of what is none of its programs it tells %v, %d", cpu, rss)
			}
		}
		runnertest.Must(t, unix.Kill(before, unix.SIGKILL))
		polltest.Until(t, "another worker than the one that crashed", func() bool {
			return !slices.ContainsFunc(pool.Snapshot().Workers, func(w worker.Info) bool { return w.PID == before })
		})
		if got := ask(); !strings.HasPrefix(got, "64123") {
			t.Errorf("after a crash a worker says %q", got)
		}
		opt.Release++
		if s.remote != nil {
			s.configure(2, cfg)
			opt.Launcher = s.remote.Workers("w", s.tellDropped)
		}
		pool.Update(opt)
		for range 20 {
			if got := ask(); !strings.HasPrefix(got, "64123") {
				t.Errorf("while it is replaced a worker says %q", got)
			}
		}
		stop()
		supervised.Wait()
		polltest.Until(t, "nothing to be waited for", func() bool { return s.local.Len() == 0 })
	})
}

// slow.command runs as who the program runs as, and sees what only that user and root do.
func TestTrace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root starts programs as others")
	}
	s := newSide(t, true)
	dir := folder(t)
	cfg := cgi(dir)
	cfg.Slow.Command = []string{"/bin/sh", "-c", `id -u; tr '\0' '\n' </proc/{pid}/environ | grep ^SEEN; exit 3`}
	run := s.scripts(cfg)
	life := newLife(t)
	ctx, end := context.WithCancel(t.Context())
	c := newCall(runnertest.WriteFile(t, filepath.Join(dir, "s.sh"), `exec 3>"$LIFE"; echo started; exec sleep 600`, 0o644), "LIFE", life.Path, "SEEN", "yes")
	pids := make(chan int, 1)
	c.Started = func(pid int, _ string) { pids <- pid }
	var ended sync.WaitGroup
	ended.Go(func() { run.Run(ctx, &c.Request) })
	pid := <-pids
	c.out.Await(t, "started\n")
	for range 3 { // one after the other
		var out bytes.Buffer
		if err := s.remote.Trace(t.Context(), cfg.Name, pid, &out); err == nil || !strings.Contains(err.Error(), "slow.command: exit status 3") {
			t.Errorf("its exit: %v", err)
		}
		if out.String() != "64123\nSEEN=yes\n" {
			t.Errorf("it says %q", out.String())
		}
	}
	end()
	ended.Wait()
	if err := s.remote.Trace(t.Context(), cfg.Name, pid, io.Discard); err == nil || !strings.Contains(err.Error(), "has exited") {
		t.Errorf("of a program that has: %v", err)
	}
}

// Programs that would be root's, the daemon's or its group's are not prepared.
func TestWhoNoProgramMayBe(t *testing.T) {
	const daemonGroup = 65533
	for name, id := range map[string]*config.Identity{
		"nobody said":       nil,
		"root":              {GID: 1},
		"the daemon's user": {UID: daemonUser, GID: 1},
		"its group":         {UID: 1, GID: daemonGroup},
		"in its group":      {UID: 1, GID: 1, Groups: []uint32{2, daemonGroup}},
	} {
		p := NewPrograms(ProgramsOptions{User: daemonUser, Group: daemonGroup})
		_, _, err := p.Prepare(1, []config.Pool{{Name: "a", Process: &config.Process{}, RunsAs: id}}, "")
		if want := "pool a: user: it would run as root, as the daemon's user or in the daemon's group"; err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

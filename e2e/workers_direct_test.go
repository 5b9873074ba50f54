//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/fcgi"
)

// directKeys are those of a worker that accepts the connections itself.
const directKeys = "connections: direct, scale: static, stop_grace: 1m, max: "

// directWorkers are keys of a pool of direct workers of the C program or of php-cgi, of a generation.
func directWorkers(t testing.TB, program, gen string, max int) string {
	t.Helper()
	return fmt.Sprintf("worker: {command: %s, %s%d}%s", workerCommand(t, program), directKeys, max, workerEnv(gen))
}

// directPool is that pool.
func (s *site) directPool(program, gen string, max int) string {
	s.t.Helper()
	return s.pool("cgi", directWorkers(s.t, program, gen, max))
}

func newDirectSite(t testing.TB, network, program string, max int) *site {
	t.Helper()
	s := newSite(t, network, directWorkers(t, program, "a", max))
	text, err := os.ReadFile("testdata/workers/app.php")
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.dir+"/cgi"+appScript, string(text))
	return s
}

// Workers change again and again under load, and nobody notices: the socket stays, who is to
// leave ends its request, and what waits is another's.
func TestDirectReloadUnderLoad(t *testing.T) {
	for _, program := range []string{"c", "php"} {
		for _, network := range []string{"unix", "tcp"} {
			t.Run(program+" "+network, func(t *testing.T) {
				t.Parallel()
				s := newDirectSite(t, network, program, 3)
				s.nginx("")
				end := sync.OnceValue(s.storm(s.directPool(program, "b", 2), s.directPool(program, "a", 3)))
				defer end()
				gens := map[string]int{}
				for round := 0; round < 20 && (len(gens) < 2 || s.workers().Exits["reload"] == 0); round++ {
					for body := range s.flood(1000, func(worker int) (caller, func()) {
						return s.overHTTP(appScript)
					}) {
						a, err := parseWorker(body)
						if err != nil {
							t.Error(err)
						}
						gens[a.gen]++
					}
				}
				reloads := end()
				w := s.workers()
				t.Logf("%d reloads, exits %v, answers by %v", reloads, w.Exits, gens)
				if len(gens) != 2 || w.Exits["reload"] == 0 || w.Exits["crash"]+w.Exits["exit"]+w.Exits["start"] > 0 || w.Degraded != "" {
					t.Errorf("answers by %v, workers are %+v", gens, w)
				}
			})
		}
	}
}

// A worker that is to leave ends its request, while another one does those that come.
func TestDirectReloadLetsRequestsEnd(t *testing.T) {
	for _, program := range []string{"c", "php"} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			s := newDirectSite(t, "unix", program, 1)
			g := newGate(t, s.dir)
			old := s.later("gate")
			pid := g.arrive(1)[0]
			s.configure(s.directPool(program, "b", 1))
			s.reload(t)
			if a := s.asked(""); a.gen != "b" {
				t.Errorf("got %+v", a)
			}
			s.awaitWorkers("one that leaves", func(w workersStatus) bool { return w.in("stopping") == 1 && w.in("serving") == 1 })
			if a := g.finish(old)[0]; a.gen != "a" || a.pid != pid {
				t.Errorf("got %+v", a)
			}
			s.awaitWorkers("one worker", func(w workersStatus) bool { return len(w.List) == 1 && w.Exits["reload"] == 1 })
		})
	}
}

// A worker that is killed is replaced; what waits in the kernel waits for the next one.
func TestDirectCrash(t *testing.T) {
	t.Parallel()
	s := newDirectSite(t, "unix", "c", 1)
	s.nginx("")
	w := s.awaitWorkers("a worker", func(w workersStatus) bool { return w.in("serving") == 1 })
	first := s.asked("")
	if !slices.Equal(w.pids(), []int{first.pid}) {
		t.Errorf("%d answers, workers are %v", first.pid, w.pids())
	}
	syscall.Kill(first.pid, syscall.SIGKILL)
	awaitGone(t, []int{first.pid}) // until then it may accept once more
	second := s.asked("")
	if second.pid == first.pid || second.count != 1 {
		t.Errorf("%+v answers after %+v", second, first)
	}
}

// The accept queue is the load: it shows what waits, and a stop lets it be served.
func TestDirectStopDrains(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			s := newDirectSite(t, network, "c", 1)
			s.awaitWorkers("a worker", func(w workersStatus) bool { return w.in("serving") == 1 })
			pid := s.asked("").pid
			g := newGate(t, s.dir)
			var all []pending
			for range 5 {
				all = append(all, s.later("gate"))
			}
			g.arrive(1)
			await(t, "the accept queue to be 4", func() bool {
				return s.metric(t, `fcgid_accept_queue{listener="`+s.network+":"+s.address+`",pool="cgi"}`) == "4"
			})
			s.signal(syscall.SIGTERM)
			if network == "unix" {
				await(t, "the socket's file to be gone", func() bool { _, err := os.Lstat(s.address); return err != nil })
			}
			g.release(len(all))
			for _, p := range all {
				if a := p.answer(); a.pid != pid {
					t.Errorf("got %+v", a)
				}
			}
			if code := s.exitCode(); code != 0 {
				t.Errorf("exit status %d", code)
			}
			if alive(pid) {
				t.Error("the worker is still there")
			}
		})
	}
}

// Workers go with a daemon that is killed, and the next one has the address.
func TestDirectDaemonKilled(t *testing.T) {
	t.Parallel()
	s := newDirectSite(t, "unix", "c", 2)
	w := s.awaitWorkers("2 workers", func(w workersStatus) bool { return w.in("serving") == 2 })
	s.signal(syscall.SIGKILL)
	s.exitCode() // its threads, and the workers with them, may go before it does
	awaitGone(t, w.pids())
	s.daemon = serve(t, s.dir, s.directPool("c", "b", 2))
	if a := s.asked(""); a.gen != "b" {
		t.Errorf("got %+v", a)
	}
}

// A new daemon has the socket too, and workers of its own on it, before the old ones leave.
func TestDirectUpgrade(t *testing.T) { inBoth(t, testDirectUpgrade) }

func testDirectUpgrade(t *testing.T, isApart bool) {
	pool := "- {name: cgi, listen: 'unix:DIR/s', worker: {command: " + workerCommand(t, "c") + ", " + directKeys + "2}, env: [GEN=a]}\n"
	u := newUpgradable(t, isApart, pool)
	var mu sync.Mutex
	failed, stop := 0, make(chan struct{})
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if body, err := askClosing("unix:" + u.dir + "/s"); err != nil || !strings.HasSuffix(body, " a\n") {
					mu.Lock()
					if failed++; failed < 5 {
						t.Errorf("%q, %v", body, err)
					}
					mu.Unlock()
				}
			}
		})
	}
	old := u.running()
	u.upgrade().is(t, "upgrade", 0, "serves")
	await(t, "the old daemon to end", func() bool { return !alive(old) })
	close(stop)
	load.Wait()
	if failed > 0 {
		t.Errorf("%d requests failed", failed)
	}
}

// askClosing asks on a connection of its own.
func askClosing(address string) (body string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := fcgi.Dial(ctx, address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	var out strings.Builder
	_, err = c.Do(ctx, &fcgi.Request{Close: true, Params: params("/x"), Stdout: &out})
	_, body, _ = strings.Cut(out.String(), "\r\n\r\n")
	return body, err
}

// systemd's store keeps the socket of direct workers over a restart: who connects meanwhile is
// answered by those of the next daemon.
func TestDirectRestart(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	pool := strings.ReplaceAll("- {name: cgi, listen: 'unix:DIR/s', worker: {command: "+workerCommand(t, "c")+", "+directKeys+"2}, env: [GEN=GENERATION]}\n", "DIR", dir)
	m := newManager(t)
	first := launch(t, dir, strings.Replace(pool, "GENERATION", "a", 1), m.start("FDSTORE=9"))
	name, socket := m.stored()
	defer socket.Close()
	if body, err := askClosing("unix:" + dir + "/s"); err != nil || !strings.HasSuffix(body, " a\n") {
		t.Errorf("%q, %v", body, err)
	}
	first.signal(syscall.SIGTERM)
	if code := first.exitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	answer := make(chan string, 1)
	go func() {
		body, err := askClosing("unix:" + dir + "/s")
		answer <- fmt.Sprint(body, err)
	}()
	launch(t, dir, strings.Replace(pool, "GENERATION", "b", 1), m.start("FDSTORE=9", "LISTEN_FDS=1", "LISTEN_FDNAMES="+name), func(c *exec.Cmd) {
		c.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh", c.Path}, c.Args[1:]...)
		c.Path, c.ExtraFiles = "/bin/sh", []*os.File{socket}
	})
	if got := <-answer; !strings.HasSuffix(got, " b\n<nil>") {
		t.Errorf("got %q", got)
	}
}

// stored is the first Unix socket's descriptor that a service has systemd keep, with its name.
func (m *manager) stored() (name string, socket *os.File) {
	m.t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(time.Minute))
	for text, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(4)); ; {
		n, r, _, _, err := m.conn.ReadMsgUnix(text, rights)
		if err != nil {
			m.t.Fatal(err)
		}
		if r == 0 {
			continue
		}
		_, name, _ = strings.Cut(strings.TrimSpace(string(text[:n])), "FDNAME=")
		messages, err := unix.ParseSocketControlMessage(rights[:r])
		if err != nil {
			m.t.Fatal(err)
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil {
			m.t.Fatal(err)
		}
		file := os.NewFile(uintptr(fds[0]), name)
		if address, err := unix.Getsockname(fds[0]); err == nil {
			if _, isUnix := address.(*unix.SockaddrUnix); isUnix {
				return name, file
			}
		}
		file.Close() // the admin server's
	}
}

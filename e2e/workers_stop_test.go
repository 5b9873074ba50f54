//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// stopSite is a site of workers whose sockets are in a folder of its own.
func stopSite(t *testing.T, pool string) (s *site, sockets func() []string) {
	t.Helper()
	run := folder(t)
	t.Setenv("RUNTIME_DIRECTORY", run)
	s = newWorkerSite(t, pool)
	return s, func() []string {
		found, err := filepath.Glob(run + "/fcgid-workers-*")
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
}

// TERM lets requests end and leaves neither a worker nor a socket behind.
func TestWorkerStop(t *testing.T) {
	for _, program := range []string{"c", "perl", "php"} {
		t.Run(program, func(t *testing.T) {
			s, sockets := stopSite(t, "worker: {command: "+workerCommand(t, program)+", scale: static, max: 4}"+workerEnv("a"))
			s.nginx(keepAlive)
			g := newGate(t, s.dir)
			all := s.gated(4) // leaves each with a connection that is kept
			g.arrive(4)
			g.finish(all...)
			all = s.gated(3)
			g.arrive(3)
			w := s.awaitWorkers("one that is idle", func(w workersStatus) bool { return w.in("busy") == 3 && w.in("idle") == 1 })
			all = append(all, s.gated(2)...)
			g.arrive(1)
			await(t, "one to wait", func() bool { return s.status(t).Pools[0].Queued == 1 })
			if len(sockets()) != 1 {
				t.Errorf("folders of sockets: %q", sockets())
			}
			s.signal(syscall.SIGTERM)
			await(t, "the daemon to stop", func() bool { code, _ := get(t, "http://"+s.admin+"/-/ready"); return code != 200 })
			g.finish(all...)
			if code := s.exitCode(); code != 0 {
				t.Errorf("exit status %d", code)
			}
			for _, pid := range w.pids() {
				if alive(pid) {
					t.Errorf("worker %d is still there", pid)
				}
			}
			if left := sockets(); len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
			if _, err := os.Stat(s.address); err == nil {
				t.Error("the socket is still there")
			}
		})
	}
}

// A second TERM kills the workers, and all that they have started.
func TestWorkerSecondTermKills(t *testing.T) {
	s, sockets := stopSite(t, cPool(t, "scale: static, max: 3"))
	g := newGate(t, s.dir)
	var pids []int
	for _, query := range []string{"deaf", "fork"} {
		s.later(query)
		pids = append(pids, g.pids()...)
	}
	pids = append(pids, s.workers().pids()...)
	s.signal(syscall.SIGTERM)
	await(t, "the daemon to stop", func() bool { code, _ := get(t, "http://"+s.admin+"/-/ready"); return code != 200 })
	s.insist(syscall.SIGTERM)
	if code := s.exitCode(); code != 1 {
		t.Errorf("exit status %d, want 1", code)
	}
	awaitGone(t, pids)
	if left := sockets(); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// What a worker has started ends with it: its own children, and those of php-cgi,
// which wait for nobody.
func TestWorkerChildrenEnd(t *testing.T) {
	t.Run("at a stop", func(t *testing.T) {
		s, _ := stopSite(t, phpPool(t, "scale: static, max: 1, concurrency: 4", "PHP_FCGI_CHILDREN=4"))
		g := newGate(t, s.dir)
		all := s.gated(4)
		g.arrive(4)
		g.finish(all...)
		busy := s.gated(1)
		g.arrive(1)
		parent := s.workers().List[0].PID
		pids := append(children(parent), parent)
		if len(pids) != 5 {
			t.Errorf("processes are %v", pids)
		}
		s.signal(syscall.SIGTERM)
		await(t, "the daemon to stop", func() bool { code, _ := get(t, "http://"+s.admin+"/-/ready"); return code != 200 })
		g.finish(busy...)
		if code := s.exitCode(); code != 0 {
			t.Errorf("exit status %d", code)
		}
		awaitGone(t, pids)
	})
	t.Run("at a timeout", func(t *testing.T) {
		s := newWorkerSite(t, cPool(t, "scale: static, max: 1, stop_grace: 100ms")+", timeout: 2s")
		g := newGate(t, s.dir)
		hung := s.later("fork")
		pids := g.pids()
		if a := wait(t, "the end", hung.c); a.AppStatus != 408 {
			t.Errorf("got %+v", a)
		}
		awaitGone(t, pids)
	})
	t.Run("when it is replaced", func(t *testing.T) {
		s := newWorkerSite(t, cPool(t, "scale: static, max: 1, max_requests: 1"))
		g := newGate(t, s.dir)
		one := s.later("fork")
		pids := g.pids()
		g.finish(one)
		awaitGone(t, pids)
		s.asked("")
	})
}

// A job that a page has started in the background outlives the worker that did, when
// that leaves in health; not when the worker has to be ended.
func TestWorkerJobsStay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		keys  string
		leave func(s *site)
		stays bool
	}{
		"max_requests":      {"scale: static, max: 1, max_requests: 1", func(s *site) { s.asked("") }, true},
		"idle":              {"scale: ondemand, max: 1, idle_timeout: 100ms", func(*site) {}, true},
		"the worker's kill": {"scale: static, max: 1", func(s *site) { syscall.Kill(s.workers().List[0].PID, syscall.SIGKILL) }, true},
		"the daemon's stop": {"scale: static, max: 1", func(s *site) { s.signal(syscall.SIGTERM); s.exitCode() }, true},
		"a timeout":         {"scale: static, max: 1, stop_grace: 100ms", func(s *site) { s.later("hang") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newWorkerSite(t, phpPool(t, c.keys)+", timeout: 3s")
			_, out := s.ask(s.dir+"/cgi/app.php", nil, "QUERY_STRING", "job")
			var job int
			if _, err := fmt.Sscanf(out[strings.LastIndex(out, "job"):], "job %d", &job); err != nil {
				t.Fatalf("%q: %v", out, err)
			}
			t.Cleanup(func() { syscall.Kill(job, syscall.SIGKILL) })
			worker := 0
			if w := s.workers(); len(w.List) > 0 {
				worker = w.List[0].PID
			}
			c.leave(s)
			awaitGone(t, []int{worker})
			if !c.stays {
				awaitGone(t, []int{job})
			} else if !alive(job) {
				t.Error("the job is gone")
			}
		})
	}
}

// A daemon that is killed leaves no worker behind, and the next one starts in
// its place.
func TestWorkerKilledDaemon(t *testing.T) {
	pool := cPool(t, "scale: static, max: 3")
	s, _ := stopSite(t, pool)
	g := newGate(t, s.dir)
	s.askLater(t.Context(), s.dir, "QUERY_STRING", "deaf")
	pids := append(g.pids(), s.workers().pids()...)
	s.signal(syscall.SIGKILL)
	wait(t, "the daemon", s.done)
	awaitGone(t, pids)
	s.daemon = serve(t, s.dir, s.pool("cgi", pool))
	s.asked("")
}

// What takes longer than shutdown_timeout gets 503, and its worker is killed.
func TestWorkerShutdownTimeout(t *testing.T) {
	s, sockets := stopSite(t, cPool(t, "scale: static, max: 1, stop_grace: 100ms"))
	g := newGate(t, s.dir)
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.file, strings.Replace(string(text), "shutdown_timeout: 10s", "shutdown_timeout: 100ms", 1))
	s.reload(t)
	running := s.later("deaf")
	pids := g.pids()
	s.signal(syscall.SIGTERM)
	if a := wait(t, "the answer", running.c); a.err != nil || !strings.HasPrefix(a.body, "Status: 503 ") {
		t.Errorf("%+v", a)
	}
	if code := s.exitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	awaitGone(t, pids)
	if left := sockets(); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

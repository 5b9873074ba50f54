//go:build e2e

package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TERM lets what runs end, takes no more, and leaves no socket behind.
func TestTermLetsRequestsEnd(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT} {
		t.Run(sig.String(), func(t *testing.T) {
			s := newSite(t, "unix", simple+", limits: {max_reqs: 1}")
			g := newGate(t, s.dir)
			path := s.script("wait.sh", waitScript)
			s.nginx("")
			running := s.askLater(t.Context(), path, "QUERY_STRING", "running")
			g.arrived()
			waiting := s.askLater(t.Context(), path, "QUERY_STRING", "waiting")
			await(t, "one to wait", func() bool { return s.status(t).Pools[0].Queued == 1 })
			s.signal(sig)
			await(t, "the daemon to refuse", func() bool {
				c, err := net.Dial(s.network, s.address)
				if err == nil {
					c.Close()
				}
				return err != nil
			})
			if code, _ := get(t, "http://"+s.admin+"/-/ready"); code != 503 {
				t.Errorf("/-/ready: %d, want 503", code)
			}
			if code, _ := get(t, s.url+"/wait.sh"); code != 502 {
				t.Errorf("a new request: %d, want nginx's 502", code)
			}
			g.release(2)
			for name, c := range map[string]<-chan answer{"running": running, "waiting": waiting} {
				if a := wait(t, name, c); a.err != nil || a.AppStatus != 0 || !strings.HasSuffix(a.body, "hello "+name) {
					t.Errorf("%s: %+v", name, a)
				}
			}
			if code := s.exitCode(); code != 0 {
				t.Errorf("exit status %d, want 0", code)
			}
			if _, err := os.Stat(s.address); err == nil {
				t.Error("the socket is still there")
			}
		})
	}
}

// stubborn says its pid and those of its children, none of which ends by TERM.
const stubborn = "#!/bin/sh\ntrap '' TERM INT\nsleep 1000 &\necho $$ $! >DIR/in\nwait\n"

// A second TERM kills all programs, and all that they have started.
func TestSecondTermKills(t *testing.T) {
	s := newSite(t, "unix", simple)
	g := newGate(t, s.dir)
	path := s.script("stubborn.sh", stubborn)
	var pids []int
	for range 3 {
		s.askLater(t.Context(), path)
		pids = append(pids, g.pids()...)
	}
	s.signal(syscall.SIGTERM)
	await(t, "the daemon to stop", func() bool { code, _ := get(t, "http://"+s.admin+"/-/ready"); return code != 200 })
	for _, pid := range pids {
		if !alive(pid) {
			t.Errorf("process %d has ended by the first TERM", pid)
		}
	}
	s.insist(syscall.SIGTERM)
	if code := s.exitCode(); code != 1 {
		t.Errorf("exit status %d, want 1", code)
	}
	awaitGone(t, pids)
	if _, err := os.Stat(s.address); err == nil {
		t.Error("the socket is still there")
	}
}

// When shutdown_timeout is over, programs are ended as they are by a timeout.
func TestShutdownTimeout(t *testing.T) {
	s := newSite(t, "unix", "process: {root: [DIR/cgi], kill_grace: 100ms}")
	g := newGate(t, s.dir)
	path := s.script("stubborn.sh", stubborn)
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.file, strings.Replace(string(text), "shutdown_timeout: 10s", "shutdown_timeout: 100ms", 1))
	s.reload(t)
	running := s.askLater(t.Context(), path)
	pids := g.pids()
	s.signal(syscall.SIGTERM)
	if a := wait(t, "the answer", running); a.err != nil || !strings.HasPrefix(a.body, "Status: 503 ") {
		t.Errorf("%+v", a)
	}
	if code := s.exitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	awaitGone(t, pids)
}

// A daemon that is killed leaves no program behind, and the next one starts in
// its place.
func TestKilledDaemon(t *testing.T) {
	s := newSite(t, "unix", simple)
	g := newGate(t, s.dir)
	path := s.script("stubborn.sh", "#!/bin/sh\ntrap '' TERM HUP INT PIPE\necho $$ >DIR/in\nwhile :; do read x <DIR/go; done\n")
	var pids []int
	for range 5 {
		s.askLater(t.Context(), path)
		pids = append(pids, g.pids()...)
	}
	s.signal(syscall.SIGKILL)
	wait(t, "the daemon", s.done)
	awaitGone(t, pids)
	s.daemon = serve(t, s.dir, s.pool("cgi", simple))
	if res, out := s.ask(s.hello(), nil); res.AppStatus != 0 || !strings.HasSuffix(out, "hello ") {
		t.Errorf("the next daemon: %+v %q", res, out)
	}
}

// A stop is heard whatever else is going on: many other signals, a reload of
// many pools, and files in the way of it that nobody writes or reads.
func TestStopIsHeard(t *testing.T) {
	for _, inTheWay := range []string{"nothing", "configuration", "log"} {
		t.Run(inTheWay, func(t *testing.T) {
			s := newSite(t, "unix", simple)
			switch inTheWay {
			case "configuration":
				if err := os.Remove(s.file); err != nil {
					t.Fatal(err)
				}
				if err := syscall.Mkfifo(s.file, 0o600); err != nil {
					t.Fatal(err)
				}
			case "log":
				fifo := filepath.Join(s.dir, "fifo")
				if err := syscall.Mkfifo(fifo, 0o600); err != nil {
					t.Fatal(err)
				}
				text, err := os.ReadFile(s.file)
				if err != nil {
					t.Fatal(err)
				}
				write(t, s.file, "access_log: {output: "+fifo+"}\n"+string(text))
			}
			if inTheWay != "nothing" {
				s.reload(t)
				if s.status(t).Reload.OK {
					t.Error("the reload has taken what was in the way")
				}
			}
			for range 50 {
				s.signal(syscall.SIGHUP)
				s.signal(syscall.SIGUSR1)
			}
			s.signal(syscall.SIGTERM)
			if code := s.exitCode(); code != 0 {
				t.Errorf("exit status %d", code)
			}
		})
	}
}

// No signal that comes while the daemon ends changes how it ends.
func TestSignalsUntilTheEnd(t *testing.T) {
	for range 10 {
		s := newSite(t, "unix", simple)
		s.signal(syscall.SIGTERM)
		for !s.Exited() {
			for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGPIPE} {
				s.signal(sig)
			}
		}
		if code := s.exitCode(); code != 0 {
			t.Fatalf("exit status %d, %v", code, s.ProcessState)
		}
	}
}

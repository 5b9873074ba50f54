//go:build e2e && soak

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// soakTime is how long clients are served. FCGID_TEST_SOAK says another duration.
func soakTime(t *testing.T) time.Duration {
	text := os.Getenv("FCGID_TEST_SOAK")
	if text == "" {
		return 15 * time.Minute
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("FCGID_TEST_SOAK: %v", err)
	}
	return d
}

const (
	soakReload = 3 * time.Second // between two reloads
	soakSample = time.Second     // between two looks at the processes
)

// soakPools: in each something changes with each reload, and with every second one the users.
// Of one the daemon has no user in its table: its scripts run as who owns them.
const soakPools = `
- {name: cgi, listen: "unix:@AT-cgi", USER1, env: [GEN=N], process: {root: [DIR/cgi], kill_grace: 300ms}, timeout: 60s, LIMITS}
- {name: boxed, listen: "unix:@AT-boxed", USER2, process: {root: [DIR/cgi]}, timeout: 60s, LIMITS, sandbox: {no_new_privs: true, rlimits: [nofile=20N, core=0], network: false, read: [/], private_tmp: false}}
- {name: owned, listen: "unix:@AT-owned", user: "64209", group: "64209", env: [GEN=N], process: {root: [DIR/owned]}, timeout: 60s, LIMITS, sandbox: {owner: true, min_uid: 1}}
- {name: php, listen: "unix:@AT-php", USER3, env: [GEN=N], worker: {command: [PHP], root: [DIR/cgi], max: 3, max_requests: 200}, timeout: 60s, LIMITS}
- {name: bad, listen: "unix:@AT-bad", USER4, process: {root: [DIR/bad], kill_grace: 200ms, linger: 200ms}, timeout: 700ms, limits: {max_reqs: 6, queue: 20, queue_timeout: 2s}, sandbox: {rlimits: [core=0, nproc=40], pids: 60}}
- {name: badworker, listen: "unix:@AT-badworker", USER4, worker: {command: [DIR/bad/worker], max: 2, stop_grace: 300ms, start_timeout: 500ms}, timeout: 700ms, limits: {queue: 20, queue_timeout: 2s}}
`

// soakUsers are who programs run as.
var soakUsers = []int{64211, 64212, 64221, 64222, 64231, 64232, 64241, 64242}

// badPrograms do what programs do that end badly, or not at all.
var badPrograms = map[string]string{
	"term":    "trap '' TERM; sleep 15; sleep 15",
	"double":  "setsid sh -c 'setsid sleep 20 </dev/null >/dev/null 2>&1 &' & sleep 15",
	"forks":   "for i in 1 2 3 4 5 6 7 8 9; do sleep 15 & done; wait",
	"holds":   plainHeader + "setsid sleep 3 & exit 0",
	"leaves":  plainHeader + "(setsid sleep 2 </dev/null >/dev/null 2>&1 &) ; echo left",
	"crashes": "kill -SEGV $$",
	"stops":   "kill -STOP $$",
	"floods":  plainHeader + "exec head -c 3000000 /dev/zero",
	"header":  "exec head -c 300000 /dev/zero",
	"stderr":  "head -c 100000 /dev/zero | tr '\\000' x >&2; " + plainHeader,
	"closes":  plainHeader + "exec >&- 2>&-; sleep 15",
	"silent":  "exec sleep 15",
	"fails":   "exit 3",
	"nothing": "exec </dev/null >/dev/null 2>&1",
}

// A soak is a daemon of two processes under the load of good and hostile clients.
type soak struct {
	*apart
	t    *testing.T
	dir  string
	quit chan struct{}
	all  sync.WaitGroup
	gen  atomic.Int64

	answered, hostile atomic.Int64
	mu                sync.Mutex // guards the fields below
	faults            []string
	samples           []soakSampled
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	a := serveApart(t, stock(t), func(cmd *exec.Cmd) { cmd.Env = append(cmd.Environ(), "FCGID_LOG_LEVEL=error") })
	s := &soak{apart: a, t: t, dir: a.dir, quit: make(chan struct{})}
	for _, name := range []string{"cgi", "owned"} {
		script(t, s.dir+"/"+name+"/hello", "#!/bin/sh\n"+plainHeader+"printf 'hello %s %s' \"$QUERY_STRING\" \"$(id -u)\"\n")
		script(t, s.dir+"/"+name+"/count", "#!/bin/sh\n"+plainHeader+"wc -c\n")
		script(t, s.dir+"/"+name+"/waits", "#!/bin/sh\n"+plainHeader+"echo waits; exec sleep 10\n")
	}
	for _, name := range []string{"hello", "count", "waits"} {
		if err := os.Chown(s.dir+"/owned/"+name, 2, 2); err != nil {
			t.Fatal(err)
		}
	}
	write(t, s.dir+"/cgi/hello.php", "<?php echo 'hello ', $_SERVER['QUERY_STRING'], ' ', posix_geteuid();")
	for name, text := range badPrograms {
		script(t, s.dir+"/bad/"+name, "#!/bin/sh\n"+text+"\n")
	}
	script(t, s.dir+"/bad/worker", "#!/bin/sh\ncase $(($$ % 3)) in 0) exit 1;; 1) trap '' TERM USR1;; esac\nsleep 15 & sleep 15\n")
	a.configure(s.pools(0))
	a.order(t, "reload").is(t, "the first reload", 0, "badworker: added")
	return s
}

// pools are those of the n-th configuration.
func (s *soak) pools(n int) string {
	oldnew := []string{"AT", s.address, "DIR", s.dir, "PHP", need(s.t, "php-cgi"), "GEN=N", "GEN=" + strconv.Itoa(n), "20N", strconv.Itoa(200 + n%7),
		"LIMITS", fmt.Sprintf("limits: {max_reqs: %d, queue: 500, queue_timeout: 50s, body_memory: 16KiB, read_timeout: 20s}", 4+n%3)}
	for i := range 4 {
		oldnew = append(oldnew, fmt.Sprint("USER", i+1), asUser(soakUsers[2*i+n%2]))
	}
	pools := strings.NewReplacer(oldnew...).Replace(soakPools)
	if n%5 == 4 {
		pools = pools[:strings.Index(pools, "- {name: badworker")] // which comes and goes
	}
	return s.apart.pools(pools)
}

// fault is what should not have been.
func (s *soak) fault(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

// pause waits, and reports false at the end of the soak.
func (s *soak) pause(d time.Duration) bool {
	select {
	case <-s.quit:
		return false
	case <-time.After(d):
		return true
	}
}

// repeat does something again and again.
func (s *soak) repeat(every time.Duration, f func()) {
	s.all.Go(func() {
		for s.pause(every/2 + rand.N(every)) {
			f()
		}
	})
}

// reload changes all pools, or tries to: every seventh file is none.
func (s *soak) reload() {
	n := int(s.gen.Add(1))
	pools := s.pools(n)
	if n%7 == 6 {
		pools += "nonsense: 1\n"
	}
	s.configure(pools)
	s.signal(syscall.SIGHUP)
}

// A soakSampled is what the two processes have: the spawner, and the daemon.
type soakSampled struct {
	rss, fds, threads [2]int // memory in KiB
	goroutines        int    // of the daemon
}

// soakSeries are the numbers that are not to grow, and by how much they may for no reason.
var soakSeries = []struct {
	name  string
	of    func(*soakSampled) int
	slack int
}{
	{"RSS of the spawner, KiB", func(s *soakSampled) int { return s.rss[0] }, 3 << 10},
	{"RSS of the daemon, KiB", func(s *soakSampled) int { return s.rss[1] }, 6 << 10},
	{"descriptors of the spawner", func(s *soakSampled) int { return s.fds[0] }, 8},
	{"descriptors of the daemon", func(s *soakSampled) int { return s.fds[1] }, 20},
	{"threads of the spawner", func(s *soakSampled) int { return s.threads[0] }, 4},
	{"threads of the daemon", func(s *soakSampled) int { return s.threads[1] }, 4},
	{"goroutines of the daemon", func(s *soakSampled) int { return s.goroutines }, 30},
}

func (s *soak) sample() soakSampled {
	var now soakSampled
	for i, pid := range []int{s.Process.Pid, s.served} {
		status := procStatus(s.t, pid)
		now.rss[i], _ = strconv.Atoi(strings.TrimSuffix(status["VmRSS"], " kB"))
		now.threads[i], _ = strconv.Atoi(status["Threads"])
		fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		now.fds[i] = len(fds)
	}
	now.goroutines, _ = strconv.Atoi(s.metric(s.t, "go_goroutines"))
	return now
}

// compare looks at the last third of the samples beside the second: the median of each is to be the same.
func (s *soak) compare() {
	s.t.Helper()
	third := len(s.samples) / 3
	second, last := s.samples[third:2*third], s.samples[2*third:]
	for _, series := range soakSeries {
		values := func(of []soakSampled) (all []int) {
			for i := range of {
				all = append(all, series.of(&of[i]))
			}
			slices.Sort(all)
			return all
		}
		before, after, all := values(second), values(last), values(s.samples)
		was, is := before[len(before)/2], after[len(after)/2]
		s.t.Logf("%-28s %7d in the second third, %7d in the last, at most %7d", series.name, was, is, all[len(all)-1])
		if is > was+was/20+series.slack {
			s.t.Errorf("%s: it grows", series.name)
		}
	}
}

// programsLeft are processes of the pools' users.
func (s *soak) programsLeft() (left []string) {
	for _, uid := range append([]int{2, 64209}, soakUsers...) {
		for pid, name := range programsOf(s.t, uint32(uid)) {
			left = append(left, fmt.Sprintf("%d %s of %d", pid, name, uid))
		}
	}
	return left
}

// Good and hostile clients, programs that do not end by themselves, and a reload every few
// seconds that changes users: the two processes do not grow, every good request is answered,
// and nothing is left behind.
func TestSoak(t *testing.T) {
	s := newSoak(t)
	began, took := time.Now(), soakTime(t)
	s.good()
	s.hostiles()
	s.repeat(soakReload, s.reload)
	for time.Since(began) < took && s.pause(soakSample) {
		s.samples = append(s.samples, s.sample())
	}
	close(s.quit)
	s.all.Wait()
	s.configure(s.pools(0))
	s.order(t, "reload").is(t, "the last reload", 0)
	t.Logf("%v: %d good requests, %d faults; %d attempts of hostile clients; %d reloads", took, s.answered.Load(), len(s.faults), s.hostile.Load(), s.gen.Load())
	for i, fault := range s.faults {
		if i < 20 {
			t.Error(fault)
		}
	}
	s.compare()
	await(t, "all requests to end", func() bool {
		for _, pool := range s.status(t).Pools {
			if pool.Running+pool.Queued > 0 {
				return false
			}
		}
		return true
	})
	for _, series := range []string{`fcgid_config_reloads_total{result="success"}`, `fcgid_config_reloads_total{result="failure"}`} {
		t.Log(series, s.metric(t, series))
	}
	s.signal(syscall.SIGTERM)
	if code := s.exitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	var left []string
	defer func() { t.Log("left:", left) }()
	await(t, "all programs to be gone", func() bool { left = s.programsLeft(); return len(left) == 0 })
	if spools, _ := filepath.Glob(s.dir + "/state/*"); len(spools) > 0 {
		t.Errorf("files are left: %v", spools)
	}
	for line := range strings.Lines(s.out.String()) {
		if strings.Contains(line, "panic") || strings.Contains(line, "fatal error") || strings.Contains(line, "what it never would") {
			t.Error(line)
		}
	}
}

//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/fcgid/fcgid/internal/wiretest"
)

// costs are what a request takes of the daemon that needs no quiet machine to be counted.
type costs struct{ allocations, calls, bytes float64 }

// docs/performance.md has what a request takes at most, in the table that this reads.
func documentedCosts(t *testing.T) map[string]costs {
	t.Helper()
	text, err := os.ReadFile("../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| ((?:function|worker|CGI) hello(?:, a connection each)?(?:, two processes)?) \| (\d+) \| (\d+) \| ([\d,]+) \|$`)
	all := make(map[string]costs)
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		var n [3]float64
		for i := range n {
			n[i], _ = strconv.ParseFloat(strings.ReplaceAll(m[2+i], ",", ""), 64)
		}
		all[m[1]] = costs{n[0], n[1], n[2]}
	}
	return all
}

// helloPrograms are the programs of the requests, in a folder.
func helloPrograms(t *testing.T, dir string) {
	t.Helper()
	script(t, dir+"/hello.c", `
		#include <unistd.h>
		int main(void) { static const char s[] = "Content-Type: text/plain\r\n\r\nhello\n"; return write(1, s, sizeof s - 1) < 0; }`)
	run(t, exec.Command("gcc", "-O2", "-static", "-o", dir+"/hello", dir+"/hello.c"))
	script(t, dir+"/hello.php", "<?php header('Content-Type: text/plain'); echo \"hello\\n\";")
}

// helloPools are the pools for them, of which the last two have more keys.
func helloPools(t *testing.T, dir, more string) string {
	return strings.NewReplacer("DIR", dir, "PHP", need(t, "php-cgi"), "MORE", more).Replace(`
- {name: function, listen: "unix:@DIR/f", function: {}}
- {name: worker, listen: "unix:@DIR/w", worker: {command: [PHP], scale: static, max: 1}MORE}
- {name: cgi, listen: "unix:@DIR/c", process: {root: [DIR]}MORE}
`)
}

// mayTrace skips the test where what it starts cannot be traced.
func mayTrace(t *testing.T) {
	t.Helper()
	if scope, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); err == nil && string(scope) != "0\n" && os.Geteuid() != 0 {
		t.Skip("only root may trace here what it has not started itself")
	}
}

func TestCostsOfARequest(t *testing.T) {
	t.Parallel()
	mayTrace(t)
	dir := folder(t)
	helloPrograms(t, dir)
	d := launch(t, dir, helloPools(t, dir, ""), stock(t))
	d.wantCosts(t, "", d.Process.Pid)
}

// Those of the process that stays root count too; its allocations are not known.
func TestCostsOfARequestInTwoProcesses(t *testing.T) {
	t.Parallel()
	a := serveApart(t, stock(t))
	helloPrograms(t, a.dir)
	a.configure(a.pools(helloPools(t, a.dir, ", "+asUser(64105))))
	a.order(t, "reload").is(t, "reload", 0, "cgi: added")
	a.wantCosts(t, ", two processes", a.Process.Pid, a.served)
}

// wantCosts compares what requests take with the rows of docs/performance.md that end so.
func (d *daemon) wantCosts(t *testing.T, rows string, pids ...int) {
	t.Helper()
	most := documentedCosts(t)
	if len(most) != 6 {
		t.Fatalf("docs/performance.md has %v", most)
	}
	for _, c := range []struct {
		row, socket, script string
		keep                bool
		requests            int
	}{
		{"function hello", "/f", "/fcgid.ping", true, 5000}, {"worker hello", "/w", d.dir + "/hello.php", true, 5000},
		{"worker hello, a connection each", "/w", d.dir + "/hello.php", false, 2000}, {"CGI hello", "/c", d.dir + "/hello", true, 500},
	} {
		row := c.row + rows
		m, ok := most[row]
		if !ok {
			continue // as in one process
		}
		ask := asksAt(t, &net.UnixAddr{Net: "unix", Name: "@" + d.dir + c.socket}, helloRequest(c.script, c.keep), c.keep)
		ask(100)
		got := d.costsOf(t, c.requests, ask, pids)
		t.Logf("%s: %.1f allocations, %.1f system calls, %.0f bytes copied", row, got.allocations, got.calls, got.bytes)
		if got.allocations > m.allocations || got.calls > m.calls || got.bytes > m.bytes {
			t.Errorf("%s takes %+v, want %+v at most", row, got, m)
		}
	}
}

// asksAt asks a number of times, on one connection or on one each.
func asksAt(t *testing.T, address *net.UnixAddr, wire []byte, keep bool) func(n int) {
	if !keep {
		return func(n int) {
			for range n {
				conn, err := net.DialUnix("unix", nil, address)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := conn.Write(wire); err != nil {
					t.Error(err)
				}
				if answer, err := io.ReadAll(conn); !strings.Contains(string(answer), "hello\n") || err != nil {
					t.Errorf("answer %q, %v", answer, err)
				}
				conn.Close()
			}
		}
	}
	client := wiretest.Dial(t, address)
	return func(n int) {
		for range n {
			client.GetMany(t, wire, 1)
		}
	}
}

// helloRequest is what nginx sends for a script, on a connection that it keeps or not.
func helloRequest(script string, keep bool) []byte {
	all := append([]string(nil), wiretest.TypicalParams...)
	for i := 0; i < len(all); i += 2 {
		switch all[i] {
		case "SCRIPT_FILENAME":
			all[i+1] = script
		case "SCRIPT_NAME", "DOCUMENT_URI", "REQUEST_URI":
			all[i+1] = "/" + filepath.Base(script)
		case "DOCUMENT_ROOT":
			all[i+1] = filepath.Dir(script)
		}
	}
	return wiretest.Get(1, keep, all...)
}

// costsOf is what each request takes that ask sends. To ask for the number of allocations
// takes thousands itself, now more, now less, which is why it is asked after many requests.
// Of several rounds the least counts: a busy machine adds to each.
func (d *daemon) costsOf(t *testing.T, requests int, ask func(n int), pids []int) costs {
	t.Helper()
	const rounds, traced = 3, 100
	least := costs{math.Inf(1), math.Inf(1), math.Inf(1)}
	for range rounds {
		before := d.mallocs(t)
		ask(requests)
		least.allocations = min(least.allocations, (d.mallocs(t)-before)/float64(requests))
		calls, bytes := callsOf(t, pids, traceOf(t, pids, func() { ask(traced) }))
		least.calls, least.bytes = min(least.calls, calls/traced), min(least.bytes, bytes/traced)
	}
	return least
}

func (d *daemon) mallocs(t *testing.T) float64 {
	t.Helper()
	_, text := get(t, "http://"+d.admin+"/metrics")
	m := regexp.MustCompile(`(?m)^go_memstats_mallocs_total (\S+)$`).FindStringSubmatch(text)
	if m == nil {
		t.Fatal("there is no go_memstats_mallocs_total")
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// traceOf is what strace has written of some processes while do ran.
func traceOf(t *testing.T, pids []int, do func()) string {
	t.Helper()
	file := filepath.Join(folder(t), "trace")
	args := []string{"-f", "-q", "-o", file}
	for _, pid := range pids {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	tracer := start(t, exec.Command(need(t, "strace"), args...))
	await(t, "strace to have all threads", func() bool {
		for _, pid := range pids {
			tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
			for _, task := range tasks {
				status, err := os.ReadFile(task)
				if err == nil && strings.Contains(string(status), "TracerPid:\t0\n") {
					return false
				}
			}
			if len(tasks) == 0 {
				return false
			}
		}
		return true
	})
	do()
	tracer.signal(syscall.SIGINT)
	tracer.exitCode()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Calls of Go's scheduler, collector and poller are not counted: how many there are depends
// on how busy the machine is.
var notCounted = regexp.MustCompile(`^(futex|nanosleep|epoll_|sched_|madvise|mmap|munmap|mprotect|tgkill|rt_sig|getpid|restart_|clock_|timer_|set_robust|gettid|rseq|sigaltstack|prctl)`)

// copies are the calls whose result is a number of bytes that were copied.
var copies = regexp.MustCompile(`^(read|recv|pread|write|send|pwrite)[a-z0-9]*$`)

// tooEarly is the result of a call that found nothing yet, which is luck too.
const tooEarly = "-1 EAGAIN "

// traceLine is a call of a thread, or the end of one, and its result.
var traceLine = regexp.MustCompile(`^(\d+) +(?:<\.\.\. )?(\w+)(?:\(| resumed>).*\) += (-?\d+)`)

// isWake reports whether a call is that by which threads of Go's poller wake each other, 8
// bytes of an eventfd. The daemon itself writes with sendto and pwrite64.
func isWake(name, result string) bool { return name == "write" || name == "read" && result == "8" }

// callsOf counts the calls of the processes' own threads, and the bytes that they have copied.
func callsOf(t *testing.T, pids []int, trace string) (n, bytes float64) {
	t.Helper()
	names := make(map[string]int)
	for line := range strings.Lines(trace) {
		m := traceLine.FindStringSubmatch(line)
		if m == nil || strings.Contains(line, tooEarly) || notCounted.MatchString(m[2]) || isWake(m[2], m[3]) {
			continue
		}
		isOurs := slices.ContainsFunc(pids, func(pid int) bool {
			_, err := os.Stat(fmt.Sprintf("/proc/%d/task/%s", pid, m[1]))
			return err == nil
		})
		if !isOurs {
			continue // a program's
		}
		names[m[2]]++
		n++
		if k, _ := strconv.ParseFloat(m[3], 64); k > 0 && copies.MatchString(m[2]) {
			bytes += k
		}
	}
	t.Log(names)
	return n, bytes
}

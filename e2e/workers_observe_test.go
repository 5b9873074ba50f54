//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A slowRecord is a part of a record of the slow log.
type slowRecord struct {
	Msg, Pool, Method, URI, Script, Output string
	Request                                uint64
	Queue                                  *float64 `json:"queue_ms"`
	Run                                    float64  `json:"run_ms"`
	PID                                    int
	Ended                                  bool
	Processes                              []struct {
		PID          int
		Command      string
		State, Wchan string
	}
}

// slowRecords are those of a file, without one that is just being written.
func slowRecords(t *testing.T, file string) (records []slowRecord) {
	t.Helper()
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if !strings.HasSuffix(line, "\n") {
			break
		}
		var r slowRecord
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		records = append(records, r)
	}
	return records
}

// A request that takes long is recorded, once, and goes on; the file is opened
// again when it was renamed.
func TestSlowLog(t *testing.T) {
	const slow = ", slow: {after: 300ms, log: DIR/slow.log, command: [/bin/echo, 'pid {pid}']}"
	for name, pool := range map[string]string{
		"worker":  cPool(t, "scale: static, max: 2") + slow,
		"process": simple + slow,
	} {
		t.Run(name, func(t *testing.T) {
			s := newWorkerSite(t, pool)
			g := newGate(t, s.dir)
			os.Remove(s.dir + "/cgi/app.php") // which is no program
			script := s.script("app.php", "#!/bin/sh\n[ \"$QUERY_STRING\" != gate ] || { echo $$ >DIR/in; read x <DIR/go; }\nprintf 'Content-Type: text/plain\\n\\n%s 0 a\\n' $$\n")
			s.nginx(keepAlive)
			for _, file := range []string{"slow.1", "slow.2"} {
				s.asked("")
				got := make(chan string, 1)
				go func() {
					_, body := get(t, s.url+appScript+"?gate")
					got <- body
				}()
				pid := g.arrive(1)[0]
				await(t, "a record", func() bool { return len(slowRecords(t, s.dir+"/slow.log")) > 0 })
				g.release(1)
				if a, err := parseWorker(wait(t, "the answer", got)); err != nil || a.pid != pid {
					t.Errorf("got %+v %v, want that of %d", a, err, pid)
				}
				records := slowRecords(t, s.dir+"/slow.log")
				if len(records) != 1 {
					t.Fatalf("records are %+v", records)
				}
				wantRecord(t, records[0], script, pid)
				if err := os.Rename(s.dir+"/slow.log", s.dir+"/"+file); err != nil {
					t.Fatal(err)
				}
				s.signal(syscall.SIGUSR1)
				await(t, "a new file", func() bool { _, err := os.Stat(s.dir + "/slow.log"); return err == nil })
			}
			if n := len(slowRecords(t, s.dir+"/slow.1")); n != 1 {
				t.Errorf("the first file has %d records", n)
			}
		})
	}
}

func wantRecord(t *testing.T, r slowRecord, script string, pid int) {
	t.Helper()
	if r.Msg != "slow request" || r.Pool != "cgi" || r.Method != "GET" || r.URI != appScript+"?gate" || r.Script != script || r.Request == 0 {
		t.Errorf("record is %+v", r)
	}
	if r.Queue == nil || r.Run < 300 || r.Run > 300_000 {
		t.Errorf("run %v, queue %v", r.Run, r.Queue)
	}
	if r.PID != pid || r.Output != fmt.Sprintf("pid %d\n", pid) {
		t.Errorf("record is %+v, want pid %d", r, pid)
	}
	if len(r.Processes) != 1 || r.Processes[0].PID != pid || r.Processes[0].State == "" || r.Processes[0].Command == "" {
		t.Errorf("processes are %+v", r.Processes)
	}
	// Who may not see where a process sleeps is told 0.
	if where, err := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", os.Getpid())); err == nil && len(where) > 1 && r.Processes[0].Wchan == "" {
		t.Errorf("no wchan in %+v", r.Processes)
	}
}

// What a person and a program see of the workers.
func TestStatusCommand(t *testing.T) {
	s := newWorkerSite(t, cPool(t, "scale: static, max: 3"))
	s.configure(s.pool("cgi", cPool(t, "scale: static, max: 3")) + s.here("- {name: other, listen: 'unix:DIR/other', process: {root: [DIR/cgi]}}\n"))
	s.reload(t)
	if err := os.Symlink(s.file, s.dir+"/link.yaml"); err != nil {
		t.Fatal(err)
	}
	g := newGate(t, s.dir)
	all := s.gated(2)
	pids := g.arrive(2)
	s.awaitWorkers("2 that are busy", func(w workersStatus) bool { return w.in("busy") == 2 && w.in("idle") == 1 })
	for _, test := range []struct {
		args  []string
		code  int
		has   []string
		hasNo []string
	}{
		{[]string{"status", "-c", s.file}, 0, []string{"POOL", "cgi", "worker (static)", "1 idle, 2 busy, 3/3", "serving", "other", "process", "unix:" + s.address}, []string{"?gate"}},
		{[]string{"status", "--admin", "tcp:" + s.admin}, 0, []string{"1 idle, 2 busy, 3/3", "other"}, nil},
		{[]string{"status", "-c", s.file, "cgi"}, 0, []string{fmt.Sprint(pids[0]), fmt.Sprint(pids[1]), "GET /app.php", "busy", "RSS"}, []string{"other"}},
		{[]string{"status", "-c", s.file, "other"}, 0, []string{"process"}, []string{"busy"}},
		{[]string{"status", "-c", s.file, "third"}, 1, []string{`no pool "third"`, "cgi, other"}, []string{"POOL"}},
		{[]string{"status", "--admin", "tcp:" + freeAddress(t)}, 1, []string{"ask the daemon at tcp:127.0.0.1:", "connection refused"}, nil},
		{[]string{"status", "--admin", "unix:" + s.dir + "/none"}, 1, []string{s.dir + "/none", "no such file"}, nil},
		{[]string{"status", "--admin", "unix:" + s.address}, 1, []string{"ask the daemon at"}, nil},
		{[]string{"status", "-c", write(t, s.dir+"/bad.yaml", "admn: {}\n")}, 78, []string{"bad.yaml:1:1: admn: unknown key"}, nil},
		{[]string{"status", "-c", s.dir + "/link.yaml"}, 0, []string{"1 idle, 2 busy, 3/3"}, nil},
		{[]string{"status", "-c", write(t, s.dir+"/twin.yaml", read(t, s.file))}, 1, []string{"twin.yaml runs (at " + s.admin + " is that of " + s.file}, []string{"POOL"}},
		{[]string{"status", "-c", s.dir + "/none.yaml"}, 78, []string{"none.yaml"}, nil},
		{[]string{"status", "one", "two"}, 2, []string{"arg"}, nil},
	} {
		code, out, stderr := fcgid(t, s.dir, nil, test.args...)
		out += stderr
		if code != test.code {
			t.Errorf("%q: exit status %d, want %d\n%s", test.args, code, test.code, out)
		}
		for _, text := range test.has {
			if !strings.Contains(out, text) {
				t.Errorf("%q: no %q in\n%s", test.args, text, out)
			}
		}
		for _, text := range test.hasNo {
			if strings.Contains(out, text) {
				t.Errorf("%q: %q in\n%s", test.args, text, out)
			}
		}
	}
	s.statusJSON("", 2)
	s.statusJSON("cgi", 1)
	g.finish(all...)
}

// statusJSON wants the JSON of /status, of one pool or of all.
func (s *site) statusJSON(pool string, pools int) {
	s.t.Helper()
	args := []string{"status", "--json", "-c", s.file}
	if pool != "" {
		args = append(args, pool)
	}
	code, out, stderr := fcgid(s.t, s.dir, nil, args...)
	var page struct {
		PID   int
		Pools []struct {
			Name    string
			Workers *workersStatus
		}
	}
	err := json.Unmarshal([]byte(out), &page)
	if code != 0 || err != nil || page.PID != s.Process.Pid || len(page.Pools) != pools {
		s.t.Fatalf("%q: exit status %d, %v, %s%s", args, code, err, out, stderr)
	}
	w := page.Pools[0].Workers
	if page.Pools[0].Name != "cgi" || w == nil || w.in("busy") != 2 || len(w.List) != 3 || w.List[0].RSS == 0 {
		s.t.Errorf("%q: %s", args, out)
	}
}

// fcgid status POOL says what became of the pool's requests, and why and when the last one
// that had no good answer failed.
func TestStatusTellsOfFailures(t *testing.T) {
	t.Parallel()
	s := newSite(t, "unix", simple)
	s.order("status", "cgi").is(t, "before", 0, "\nrequests that have ended: 0\n")
	failing := s.script("fails.sh", "#!/bin/sh\nexit 3\n")
	s.ask(s.hello(), nil)
	s.ask(failing, nil, "REQUEST_URI", "/fails?secret", "REQUEST_ID", "of-the-web")
	s.ask(s.dir+"/cgi/none.sh", nil) // which is no failure, but anybody's
	s.ask(s.hello(), nil)
	await(t, "four requests", func() bool {
		return strings.Contains(s.order("status", "cgi").stdout, "\nrequests that have ended: 4: 2 ok, 1 error, 1 rejected\n")
	})
	s.order("status", "cgi").is(t, "after", 0, "\nlast failure: ", " ago (20", "), error: ", "exit status 3", ": GET /fails?secret, "+failing+"\n")
	s.order("status", "cgi", "--admin", "tcp:"+s.admin).is(t, "by TCP", 0, ": GET /fails, "+failing+"\n")
	var page struct {
		Pools []struct {
			Ended map[string]int `json:"requests_total"`
			Last  struct {
				Time    time.Time
				Outcome string
				Reason  string
				Number  int `json:"request"`
				ID      string
			} `json:"last_failure"`
		}
	}
	if err := json.Unmarshal([]byte(s.order("status", "cgi", "--json").stdout), &page); err != nil || len(page.Pools) != 1 {
		t.Fatalf("%v, %+v", err, page)
	}
	got := page.Pools[0]
	if got.Ended["error"] != 1 || got.Ended["ok"] != 2 || got.Last.Outcome != "error" || !strings.Contains(got.Last.Reason, "exit status 3") ||
		got.Last.Number == 0 || got.Last.ID != "of-the-web" || got.Last.Time.IsZero() {
		t.Errorf("JSON has %+v", got)
	}
}

// The promised metrics of workers.
func TestWorkerMetrics(t *testing.T) {
	s := newWorkerSite(t, cPool(t, "scale: static, max: 2"))
	g := newGate(t, s.dir)
	all := s.gated(2)
	g.arrive(2)
	s.awaitWorkers("2 that are busy", func(w workersStatus) bool { return w.in("busy") == 2 })
	want := func(series map[string]string) {
		t.Helper()
		for name, value := range series {
			s.awaitMetric(t, name, value)
		}
	}
	want(map[string]string{
		`fcgid_workers{pool="cgi",state="busy"}`:                     "2",
		`fcgid_workers{pool="cgi",state="idle"}`:                     "0",
		`fcgid_workers_max{pool="cgi"}`:                              "2",
		`fcgid_workers_at_max_total{pool="cgi"}`:                     "1",
		`fcgid_workers_degraded{pool="cgi"}`:                         "0",
		`fcgid_worker_starts_total{pool="cgi"}`:                      "2",
		`fcgid_worker_start_duration_seconds_count{pool="cgi"}`:      "2",
		`fcgid_worker_wait_seconds_count{pool="cgi"}`:                "2",
		`fcgid_worker_exits_total{pool="cgi",reason="max_requests"}`: "0",
		`fcgid_worker_requests_waiting{pool="cgi"}`:                  "0",
		`fcgid_limit{name="max_reqs",pool="cgi"}`:                    "2",
	})
	if rss, _ := strconv.ParseFloat(s.metric(t, `fcgid_workers_resident_bytes{pool="cgi"}`), 64); rss < 64<<10 {
		t.Errorf("two workers have %v bytes", rss)
	}
	g.finish(all...)
	await(t, "the CPU time of workers that run", func() bool {
		for range 20 {
			s.asked("")
		}
		cpu, _ := strconv.ParseFloat(s.metric(t, `fcgid_process_cpu_seconds_total{pool="cgi"}`), 64)
		return cpu > 0
	})
	served := s.metric(t, `fcgid_requests_total{outcome="ok",pool="cgi"}`)
	s.configure(s.cPoolOf("a", "scale: static, max: 1"))
	s.reload(t)
	s.awaitWorkers("one worker", func(w workersStatus) bool { return len(w.List) == 1 })
	want(map[string]string{
		`fcgid_workers{pool="cgi",state="idle"}`:              "1",
		`fcgid_workers_max{pool="cgi"}`:                       "1",
		`fcgid_worker_exits_total{pool="cgi",reason="scale"}`: "1",
		`fcgid_requests_total{outcome="ok",pool="cgi"}`:       served,
	})
}

//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/fcgid/fcgid/fcgi"
)

// compiled is the program of testdata/workers/app.c.
var compiled = sync.OnceValues(func() (string, error) {
	path := filepath.Join(filepath.Dir(binary), "app")
	out, err := exec.Command("gcc", "-O2", "-Wall", "-o", path, "testdata/workers/app.c", "-lfcgi").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// appScript is what workers are asked for: PHP needs to be told, others need not.
const appScript = "/app.php"

// workerCommand is that of a program of testdata/workers: "c", "perl" or "php",
// which has the further arguments.
func workerCommand(t testing.TB, program string, more ...string) string {
	t.Helper()
	var argv []string
	switch program {
	case "c":
		need(t, "gcc")
		path, err := compiled()
		if err != nil {
			t.Fatal(err)
		}
		argv = []string{path}
	case "perl":
		path, err := filepath.Abs("testdata/workers/app.pl")
		if err != nil {
			t.Fatal(err)
		}
		argv = []string{need(t, "perl"), path}
	default:
		argv = []string{need(t, "php-cgi"), "-d", "log_errors=1", "-d", "html_errors=0"}
	}
	text, err := json.Marshal(append(argv, more...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// workerEnv is the environment of workers, with the number of their generation.
func workerEnv(gen string) string {
	return ", env: [GATE=DIR, BROKEN=DIR/broken, GEN=" + gen + "]"
}

// cPool is a pool of the C program with these keys.
func cPool(t testing.TB, keys string) string {
	t.Helper()
	return "worker: {command: " + workerCommand(t, "c") + ", " + keys + "}" + workerEnv("a")
}

// newWorkerSite is a site whose pool "cgi" is one of workers, with the PHP scripts
// in its folder.
func newWorkerSite(t testing.TB, pool string) *site {
	t.Helper()
	s := newSite(t, "unix", pool)
	scripts, err := filepath.Glob("testdata/workers/*.php")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range scripts {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, s.dir+"/cgi/"+filepath.Base(path), string(text))
	}
	return s
}

// A workersStatus is a part of a pool's workers in /status.
type workersStatus struct {
	Scale    string
	Max      int
	States   map[string]int
	Waiting  int `json:"requests_waiting"`
	Degraded string
	Starts   int            `json:"starts_total"`
	Exits    map[string]int `json:"exits_total"`
	List     []struct {
		PID      int
		State    string
		Leaving  string
		Requests int
		RSS      int64 `json:"rss_bytes"`
		Current  []struct{ Method, URI string }
	}
}

// workers is what the site's first pool tells of its workers.
func (s *site) workers() workersStatus {
	s.t.Helper()
	code, body := get(s.t, "http://"+s.admin+"/status")
	var page struct {
		Pools []struct{ Workers *workersStatus }
	}
	if err := json.Unmarshal([]byte(body), &page); err != nil || code != 200 {
		s.t.Fatalf("/status: %d %v\n%s", code, err, body)
	}
	if len(page.Pools) == 0 || page.Pools[0].Workers == nil {
		return workersStatus{}
	}
	return *page.Pools[0].Workers
}

// in is how many workers are in a state.
func (w workersStatus) in(state string) int { return w.States[state] }

// serving is how many workers there are that are not ending.
func (w workersStatus) serving() int { return w.in("starting") + w.in("idle") + w.in("busy") }

// pids are those of all workers, sorted.
func (w workersStatus) pids() []int {
	var pids []int
	for _, one := range w.List {
		pids = append(pids, one.PID)
	}
	slices.Sort(pids)
	return pids
}

// awaitWorkers waits until the site's workers are as they should be.
func (s *site) awaitWorkers(what string, are func(workersStatus) bool) workersStatus {
	s.t.Helper()
	var last workersStatus
	s.t.Cleanup(func() {
		if s.t.Failed() && !are(last) {
			s.t.Logf("no %s: %+v", what, last)
		}
	})
	await(s.t, what, func() bool { last = s.workers(); return are(last) })
	return last
}

// A workerAnswer is what one of the programs of testdata/workers has said.
type workerAnswer struct {
	pid, count int
	gen, rest  string
}

// parseWorker takes an answer apart; a header may stand before it.
func parseWorker(text string) (a workerAnswer, err error) {
	if _, body, ok := strings.Cut(text, "\r\n\r\n"); ok && strings.Contains(text, "Content-") {
		text = body
	}
	line, rest, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return a, fmt.Errorf("got %q", tail(text, 200))
	}
	a.gen, a.rest = fields[2], rest
	if a.pid, err = strconv.Atoi(fields[0]); err != nil {
		return a, err
	}
	a.count, err = strconv.Atoi(fields[1])
	return a, err
}

// asked sends the query straight to the pool and returns its answer.
func (s *site) asked(query string, body ...byte) workerAnswer {
	s.t.Helper()
	res, out := s.ask(s.dir+"/cgi"+appScript, body, "QUERY_STRING", query)
	a, err := parseWorker(out)
	if err != nil || res != (fcgi.Result{}) {
		s.t.Fatalf("%q: %+v %v", query, res, err)
	}
	return a
}

// A pending is a request in the background.
type pending struct {
	t testing.TB
	c <-chan answer
}

// later sends the query straight to the pool and returns at once.
func (s *site) later(query string) pending {
	s.t.Helper()
	return pending{s.t, s.askLater(s.t.Context(), s.dir+"/cgi"+appScript, "QUERY_STRING", query)}
}

// gated sends n requests that wait at the gate.
func (s *site) gated(n int) (all []pending) {
	s.t.Helper()
	for range n {
		all = append(all, s.later("gate"))
	}
	return all
}

// answer waits for the answer, which has to be a good one.
func (p pending) answer() workerAnswer {
	p.t.Helper()
	a := wait(p.t, "an answer", p.c)
	w, err := parseWorker(a.body)
	if a.err != nil || err != nil || a.Result != (fcgi.Result{}) {
		p.t.Fatalf("%+v %v", a, err)
	}
	return w
}

// arrive waits for n programs at the gate and returns their pids, sorted.
func (g *gate) arrive(n int) (pids []int) {
	g.t.Helper()
	for range n {
		pid, err := strconv.Atoi(g.arrived())
		if err != nil {
			g.t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	return pids
}

// finish lets the requests go on and waits for their answers.
func (g *gate) finish(all ...pending) (answers []workerAnswer) {
	g.t.Helper()
	g.release(len(all))
	for _, one := range all {
		answers = append(answers, one.answer())
	}
	return answers
}

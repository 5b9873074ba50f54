package worker_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/protocol"
)

func TestProtocolStatus(t *testing.T) {
	p := workers(t)
	for status, want := range map[int]int{0: 0, 1: 502, 2: 503, 3: 501} {
		_, err := p.ask(background, "status "+strconv.Itoa(status))
		if want == 0 && (err == nil || err.Error() != "status 7") || refusal(err) != want {
			t.Errorf("protocolStatus %d: %v", status, err)
		}
	}
	if s := p.Snapshot(); s.Starts != 1 {
		t.Errorf("%d starts", s.Starts)
	}
}

// A worker that answers without reading STDIN is fine.
func TestEarlyAnswer(t *testing.T) {
	p := workers(t)
	for range 20 {
		p.want("early", "early", post(random(1_000_000)))
		p.want("early", "early", post(neverReader{Closed: make(chan struct{})}))
	}
	if s := p.Snapshot(); s.Starts != 1 {
		t.Errorf("exits are %v", s.Exits)
	}
}

func TestBodies(t *testing.T) {
	p := workers(t)
	for _, n := range []int{0, 1, 1000, 64 << 10, 65_528, 65_529, 200_000, 3_000_000} {
		text := strings.Repeat("0123456789", n/10+1)[:n]
		want := fmt.Sprintf("%d %s", n, digest(text))
		p.want("digest", want, post(strings.NewReader(text)))
		p.want("digest", want, post(whole(text)))
	}
}

// What a program writes to its own STDOUT and STDERR is in the log; what it writes at
// once is one entry.
func TestOutputOfWorkers(t *testing.T) {
	p := workers(t, func(o *workerOptions) {
		o.Command = []string{"sh", "-c", `echo out; echo err >&2; printf 'two\nlines\n'; exec sleep 1000`}
	})
	var said []any
	p.await("said all", func(snapshot) bool {
		said = nil
		for _, e := range p.logs.Of("worker stderr") {
			said = append(said, e.Fields["line"])
		}
		return len(said) == 3
	})
	if fmt.Sprintf("%q", said) != `["out" "err" "two\nlines"]` {
		t.Errorf("it says %q", said)
	}
}

// The program has three descriptors, a group of its own and the environment that
// it was given.
func TestWorldOfWorkers(t *testing.T) {
	t.Setenv("PASSED", "on")
	script := `(exec ls -l /proc/$$/fd >&2); echo "$PASSED $SET $UNSET $(pwd -P) $(cut -d ' ' -f 1,5 /proc/$$/stat)" >&2; exec sleep 1000`
	dir := tempDir(t)
	p := workers(t, func(o *workerOptions) {
		o.Command, o.Dir = []string{"sh", "-c", script}, dir
		o.Env, o.PassEnv = []string{"SET=1"}, []string{"PASSED", "UNSET"}
	})
	var said []string
	p.await("said all", func(snapshot) bool {
		said = nil
		for _, e := range p.logs.Of("worker stderr") {
			said = append(said, strings.Split(e.Fields["line"].(string), "\n")...)
		}
		return len(said) == 5
	})
	pid := p.Snapshot().Workers[0].PID
	want := fmt.Sprintf("on 1  %s %d %d", dir, pid, pid)
	if !strings.Contains(said[1], " 0 -> socket:") || !strings.Contains(said[2], " 1 -> pipe:") ||
		!strings.Contains(said[3], " 2 -> pipe:") || said[4] != want {
		t.Errorf("it says %q, want %q", said, want)
	}
	folders, _ := os.ReadDir(p.dir)
	if info, err := folders[0].Info(); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder is %v, %v", info, err)
	}
}

func TestWorkerParams(t *testing.T) {
	p := workers(t, func(o *workerOptions) { o.Software = "fcgid/test" })
	for name, want := range map[string]string{
		"HTTP_PROXY": " false", "LD_PRELOAD": "said.so true", "SCRIPT_FILENAME": "/srv/a.php true", "odd name": " false", "PATH_TRANSLATED": " false",
		"GATEWAY_INTERFACE": "CGI/1.1 true", "SERVER_SOFTWARE": "fcgid/test true", "EMPTY": " true",
	} {
		p.want("param "+name, want, func(r *protocol.Request) {
			r.Params = params("REQUEST_METHOD", "GET", "DO", "param "+name, "HTTP_PROXY", "http://evil/", "LD_PRELOAD", "said.so", "PATH_TRANSLATED", "/x",
				"SCRIPT_FILENAME", "proxy:fcgi://localhost:9000/srv/a.php", "odd name", "x", "EMPTY", "")
		})
	}
}

func TestStderrOfRequests(t *testing.T) {
	for _, to := range []string{cgi.StderrLog, cgi.StderrClient, cgi.StderrBoth} {
		p := workers(t, func(o *workerOptions) { o.Stderr = to })
		var errs output
		p.want("stderr", "said", func(r *protocol.Request) { r.Stderr = &errs })
		logged := len(p.logs.Of("request stderr"))
		if (errs.String() == "one\ntwo\n") != (to != cgi.StderrLog) || (logged == 1) != (to != cgi.StderrClient) {
			t.Errorf("%s: client got %q, %d lines are logged", to, errs.String(), logged)
		}
		p.stop()
	}
}

//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/protocol"
)

// A program with the race detector takes a second to exit, if not told.
func init() { os.Setenv("GORACE", "atexit_sleep_ms=10") }

// A peer is a client that speaks to a pool record by record, and need not keep
// to the rules.
type peer struct {
	net.Conn
	t      testing.TB
	reader *protocol.Reader
	others map[uint16]*reply // what has come of requests since send, while reply waited for another
}

// connect opens a connection: an address that is a path is that of a Unix
// socket. All that the peer does ends within half a minute.
func connect(t testing.TB, address string) *peer {
	t.Helper()
	c, err := net.Dial(networkOf(address), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	return &peer{Conn: c, t: t, reader: protocol.NewReader(c), others: make(map[uint16]*reply)}
}

func networkOf(address string) string {
	if strings.HasPrefix(address, "/") {
		return "unix"
	}
	return "tcp"
}

// send writes records, and reports whether all of them were taken.
func (p *peer) send(records ...[]byte) bool {
	p.t.Helper()
	p.others = make(map[uint16]*reply)
	_, err := p.Write(bytes.Join(records, nil))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Fatal("the daemon takes nothing any more")
	}
	return err == nil
}

// next is the next record, or false when the daemon has closed the connection.
func (p *peer) next() (protocol.Record, bool) {
	p.t.Helper()
	rec, err := p.reader.Next()
	if err == nil {
		return rec, true
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		p.t.Fatalf("read a record: %v", err)
	}
	return rec, false
}

// A reply is the answer to one request; with neither an end nor a status the
// connection was closed before it.
type reply struct {
	stdout, stderr string
	end            *protocol.End
}

// status is the HTTP status of the answer, 0 without one.
func (r reply) status() int {
	head, _, ok := strings.Cut(r.stdout, "\r\n\r\n")
	if !ok {
		return 0
	}
	for line := range strings.SplitSeq(head, "\r\n") {
		if v, ok := strings.CutPrefix(line, "Status: "); ok {
			n, _ := strconv.Atoi(v[:min(3, len(v))])
			return n
		}
	}
	return 200
}

// body is the answer behind its header.
func (r reply) body() string {
	_, body, _ := strings.Cut(r.stdout, "\r\n\r\n")
	return body
}

// String is for messages of a failed test.
func (r reply) String() string {
	end := "no END_REQUEST"
	if r.end != nil {
		end = fmt.Sprintf("%v appStatus %d", r.end.Status, r.end.AppStatus)
	}
	return fmt.Sprintf("status %d, %s, stdout %q", r.status(), end, tail(r.stdout, 200))
}

// reply reads the answer to request id. What comes of others meanwhile, which are answered
// in any order, is kept for their turn, until the next send.
func (p *peer) reply(id uint16) reply {
	p.t.Helper()
	for {
		if r := p.others[id]; r != nil && r.end != nil {
			delete(p.others, id)
			return *r
		}
		rec, ok := p.next()
		if !ok {
			if r := p.others[id]; r != nil {
				return *r
			}
			return reply{}
		}
		p.keep(rec)
	}
}

// keep adds a record to its answer.
func (p *peer) keep(rec protocol.Record) {
	p.t.Helper()
	r := p.others[rec.ID]
	if r == nil || r.end != nil {
		r = new(reply)
		p.others[rec.ID] = r
	}
	switch rec.Type {
	case protocol.TypeStdout:
		r.stdout += string(rec.Content)
	case protocol.TypeStderr:
		r.stderr += string(rec.Content)
	case protocol.TypeEndRequest:
		end, err := protocol.ParseEnd(rec.Content)
		if err != nil {
			p.t.Fatal(err)
		}
		r.end = &end
	}
}

// closed waits for the daemon to close the connection and returns how many
// records it has sent before.
func (p *peer) closed() (records int) {
	p.t.Helper()
	for {
		if _, ok := p.next(); !ok {
			return records
		}
		records++
	}
}

// begin, pairs and stdin are records. An empty stdin is the end of the stream.
func begin(id uint16, role protocol.Role, keep bool) []byte {
	return protocol.AppendBegin(nil, id, protocol.Begin{Role: role, Keep: keep})
}

func pairs(id uint16, params fcgi.Params) []byte {
	var p protocol.Params
	for _, one := range params {
		p.Add(one.Name, one.Value)
	}
	return protocol.AppendParams(nil, id, &p, nil)
}

func stdin(id uint16, content string) []byte {
	return protocol.AppendRecord(nil, protocol.TypeStdin, id, []byte(content))
}

// request is a whole one, on a connection that is kept, with a body if there is one.
func request(id uint16, params fcgi.Params, body string) []byte {
	all := append(begin(id, protocol.RoleResponder, true), pairs(id, params)...)
	for len(body) > 0 {
		n := min(len(body), 32<<10)
		all = append(all, stdin(id, body[:n])...)
		body = body[n:]
	}
	return append(all, stdin(id, "")...)
}

// A rig is a daemon with the pool "cgi" at a Unix socket and at a TCP port.
type rig struct {
	*daemon
	unix, tcp string
}

// newRig starts a daemon whose pool has further keys, such as "limits: {…}", and
// whose process has, such as "stderr: both". The command may be changed first.
func newRig(t testing.TB, pool, process string, change ...func(*exec.Cmd)) *rig {
	t.Helper()
	dir := folder(t)
	script(t, dir+"/cgi/hello.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello %s' \"$QUERY_STRING\"\n")
	r := &rig{unix: dir + "/s", tcp: freeAddress(t)}
	if pool != "" {
		pool += ", "
	}
	if process != "" {
		process = ", " + process
	}
	r.daemon = launch(t, dir, fmt.Sprintf("- {name: cgi, listen: [\"unix:%s\", \"tcp:%s\"], %sprocess: {root: [%s/cgi], kill_grace: 1s%s}}\n",
		r.unix, r.tcp, pool, dir, process), change...)
	return r
}

// launch is serve with a command that may be changed before it starts.
func launch(t testing.TB, dir, pools string, change ...func(*exec.Cmd)) *daemon {
	t.Helper()
	d := &daemon{dir: dir, file: filepath.Join(dir, "fcgid.yaml"), admin: freeAddress(t)}
	d.configure(pools)
	cmd := exec.Command(binary, "serve", "-c", d.file)
	for _, c := range change {
		c(cmd)
	}
	t.Cleanup(func() { // after it has ended
		if _, race, found := strings.Cut(d.out.String(), "WARNING: DATA RACE"); found {
			t.Errorf("the daemon has a data race:%s", race[:min(len(race), 20000)])
		}
	})
	d.process = start(t, cmd)
	d.awaitReady(t)
	return d
}

func (d *daemon) awaitReady(t testing.TB) {
	t.Helper()
	await(t, "the daemon to be ready", func() bool {
		select {
		case <-d.done:
			t.Fatalf("the daemon has exited: %v\n%s", d.Err, d.out)
		default:
		}
		status, _ := get(t, "http://"+d.admin+"/-/ready")
		return status == 200
	})
}

// script writes a program into the pool's folder and returns its path.
func (r *rig) script(t testing.TB, name, text string) string {
	t.Helper()
	return script(t, r.dir+"/cgi/"+name, text)
}

// both runs a test at the Unix socket and at the TCP port.
func (r *rig) both(t *testing.T, test func(t *testing.T, address string)) {
	t.Run("unix", func(t *testing.T) { test(t, r.unix) })
	t.Run("tcp", func(t *testing.T) { test(t, r.tcp) })
}

// good sends a request that must succeed.
func (r *rig) good(t testing.TB, address string) {
	t.Helper()
	_, out := ask(t, networkOf(address), address, &fcgi.Request{Close: true, Params: params(r.dir+"/cgi/hello.sh", "QUERY_STRING", "again")})
	if !strings.HasSuffix(out, "\r\n\r\nhello again") {
		t.Errorf("a good request after it: got %q", out)
	}
}

// one sends a GET of a script, on a connection of its own, and returns the answer.
func (r *rig) one(t testing.TB, address, path string, more ...string) reply {
	t.Helper()
	p := connect(t, address)
	defer p.Close()
	p.send(request(1, params(path, more...), ""))
	return p.reply(1)
}

// noPrograms waits until no program from the rig's folder runs, nor what it started.
func (r *rig) noPrograms(t testing.TB) {
	t.Helper()
	noProgramsOf(t, r.dir+"/cgi/")
}

// noProgramsOf does that for those whose paths begin so.
func noProgramsOf(t testing.TB, prefix string) {
	t.Helper()
	var left []string
	t.Cleanup(func() {
		if len(left) > 0 {
			t.Logf("these ran: %q", left)
		}
	})
	await(t, "programs to end", func() bool { left = programs(prefix); return len(left) == 0 })
}

// programs are the command lines of the programs in a folder that run, and of
// what they have started.
func programs(dir string) (found []string) {
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		line, _ := os.ReadFile(p + "/cmdline")
		env, _ := os.ReadFile(p + "/environ")
		if bytes.Contains(line, []byte(dir)) || bytes.Contains(env, []byte("SCRIPT_FILENAME="+dir)) {
			found = append(found, filepath.Base(p)+": "+strings.ReplaceAll(strings.TrimRight(string(line), "\x00"), "\x00", " "))
		}
	}
	return found
}

// memory is the daemon's resident memory in bytes.
func (d *daemon) memory(t testing.TB) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", d.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// awaitOutcome waits until n requests to the pool cgi have ended with an outcome:
// one counts only after its last record was sent.
func (d *daemon) awaitOutcome(t testing.TB, outcome string, n int) {
	t.Helper()
	d.awaitMetric(t, fmt.Sprintf("fcgid_requests_total{outcome=%q,pool=\"cgi\"}", outcome), strconv.Itoa(n))
}

// awaitMetric waits until a series has this value: what is counted at the end of a
// request is counted after its client has its answer.
func (d *daemon) awaitMetric(t testing.TB, series, want string) {
	t.Helper()
	var got string
	t.Cleanup(func() {
		if t.Failed() && got != want {
			t.Logf("%s is %q", series, got)
		}
	})
	await(t, series+" to be "+want, func() bool { got = d.metric(t, series); return got == want })
}

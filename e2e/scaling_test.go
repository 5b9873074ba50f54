//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fcgid/fcgid/e2e/harness"
	"github.com/fcgid/fcgid/internal/admin"
)

// A machine is a daemon on a host of its own.
type machine struct {
	*host
	dir string
	d   *process // that was started last
}

// newMachine plugs a machine into a network, and starts its daemon.
func newMachine(t testing.TB, name, address string, network *host, conf string) *machine {
	t.Helper()
	m := &machine{host: newHost(t, name), dir: folder(t)}
	m.plugInto(network, address)
	write(t, m.dir+"/fcgid.yaml", fmt.Sprintf("log: {output: %[1]s/log}\nshutdown_timeout: 10s\n%s", m.dir,
		strings.Replace(conf, "admin:\n", "admin:\n  control: unix:"+m.dir+"/control\n", 1)))
	t.Cleanup(func() {
		if pid := m.running(); pid != 0 {
			syscall.Kill(pid, syscall.SIGTERM)
			await(t, "the daemon of "+name+" to end", func() bool { return !alive(pid) })
		}
		text, _ := os.ReadFile(m.dir + "/log")
		if t.Failed() {
			t.Logf("the log of %s:\n%s", name, tail(string(text), 4000))
		}
		if strings.Contains(string(text), "DATA RACE") {
			t.Errorf("%s: a data race", name)
		}
	})
	m.serve()
	return m
}

// serve starts the daemon. What it says beside its log is in the file, too.
func (m *machine) serve() {
	m.t.Helper()
	cmd := m.command("sh", "-c", `exec "$0" "$@" 2>>`+m.dir+"/log", binary, "serve", "-c", m.dir+"/fcgid.yaml")
	cmd.Env = append(os.Environ(), "HOST="+m.name)
	m.d = start(m.t, cmd)
	await(m.t, "the daemon of "+m.name, func() bool {
		if m.d.Exited() {
			text, _ := os.ReadFile(m.dir + "/log")
			m.t.Fatalf("%s: %v: %s%s", m.name, m.d.Err, m.d.out, text)
		}
		return m.running() != 0
	})
}

// running is the pid of the daemon, or 0.
func (m *machine) running() int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	page, err := admin.FetchStatus(ctx, "unix", m.dir+"/control")
	if err != nil {
		return 0
	}
	return page.PID
}

func (m *machine) order(args ...string) output {
	code, stdout, stderr := fcgid(m.t, "/", nil, append(args, "--control", m.dir+"/control")...)
	return output{code, stdout, stderr}
}

// A balancer is HAProxy or nginx on a host of its own, whose socket files are seen from
// everywhere, and the pages that all machines have.
type balancer struct {
	*host
	dir, www string
}

func (b *balancer) haproxy(conf string) {
	b.t.Helper()
	file := write(b.t, b.dir+"/haproxy.cfg", "global\n    log stdout format raw local0\n    stats socket "+b.dir+"/stats\n"+conf)
	start(b.t, b.command(need(b.t, "haproxy"), "-db", "-f", file))
	listening(b.t, "unix", b.dir+"/www")
}

func (b *balancer) nginx(conf string) {
	b.t.Helper()
	file := write(b.t, b.dir+"/nginx.conf", fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log %[1]s/error.log; user root;
events {}
http {
  access_log off; client_body_temp_path %[1]s/body; fastcgi_temp_path %[1]s/fastcgi; proxy_temp_path %[1]s/proxy;
  uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
%[2]s}`, b.dir, conf))
	start(b.t, b.command(need(b.t, "nginx"), "-c", file, "-p", b.dir, "-e", b.dir+"/error.log"))
	listening(b.t, "unix", b.dir+"/www")
}

// state is what HAProxy thinks of a server: UP, DOWN, or on its way to one of them.
func (b *balancer) state(server string) string {
	b.t.Helper()
	conn, err := net.Dial("unix", b.dir+"/stats")
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintln(conn, "show stat")
	text, err := io.ReadAll(conn)
	if err != nil {
		b.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Split(line, ","); len(fields) > 17 && fields[0] == "www" && fields[1] == server {
			return fields[17]
		}
	}
	b.t.Fatalf("HAProxy has no server %s:\n%s", server, text)
	return ""
}

func (b *balancer) awaitState(server, state string) {
	b.t.Helper()
	await(b.t, "HAProxy to find "+server+" "+state, func() bool { return strings.HasPrefix(b.state(server), state) })
}

// A lostRequest is one that has failed.
type lostRequest struct {
	method, id   string
	began, ended time.Time
	why          string
}

// visitors ask a balancer all the time, by GET and by POST.
type visitors struct {
	to       http.Client
	answered atomic.Int64

	mu   sync.Mutex // guards the fields below
	by   map[string]int
	done map[string]bool // ids of POSTs that were answered
	lost []lostRequest
}

func newVisitors(socket string) *visitors {
	v := &visitors{by: make(map[string]int), done: make(map[string]bool)}
	v.to = http.Client{Timeout: time.Minute, Transport: &http.Transport{
		MaxIdleConnsPerHost: 100,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	return v
}

// come begins, with one request at a time for each of them, and returns what ends it.
func (v *visitors) come(gets, posts int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for i := range gets + posts {
		method := "GET"
		if i >= gets {
			method = "POST"
		}
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				v.ask(method, fmt.Sprintf("%s-%d-%d", method, i, n))
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
		v.to.CloseIdleConnections()
	}
}

func (v *visitors) ask(method, id string) {
	began := time.Now()
	host, err := v.once(method, id)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		v.lost = append(v.lost, lostRequest{method, id, began, time.Now(), err.Error()})
		return
	}
	v.by[host]++
	if method == "POST" {
		v.done[id] = true
	}
	v.answered.Add(1)
}

// once asks, and returns the name of the host that has answered.
func (v *visitors) once(method, id string) (host string, err error) {
	var body io.Reader
	if method == "POST" {
		body = strings.NewReader("id=" + id)
	}
	req, err := http.NewRequest(method, "http://www.example/order.php/"+id, body)
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := v.to.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	host, found := strings.CutSuffix(string(text), " has "+id)
	if res.StatusCode != 200 || !found {
		return "", fmt.Errorf("%s %q", res.Status, text)
	}
	return host, nil
}

// answeredBy is how many requests a host has answered.
func (v *visitors) answeredBy(host string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.by[host]
}

// losses are what has been lost since they were taken last.
func (v *visitors) losses() []lostRequest {
	v.mu.Lock()
	defer v.mu.Unlock()
	lost := v.lost
	v.lost = nil
	return lost
}

func (v *visitors) nothingLost(t testing.TB, when string) {
	t.Helper()
	for _, l := range v.losses() {
		t.Errorf("%s: %s %s: %s", when, l.method, l.id, l.why)
	}
}

// awaitAnswers waits until all of the hosts have answered more.
func (v *visitors) awaitAnswers(t testing.TB, hosts ...string) {
	t.Helper()
	for _, host := range hosts {
		before := v.answeredBy(host)
		await(t, "answers of "+host, func() bool { return v.answeredBy(host) >= before+20 })
	}
}

// orderPage writes down each POST, and takes a moment for each request.
const orderPage = `<?php
$id = substr($_SERVER['PATH_INFO'], 1);
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    file_put_contents('DIR/orders', $_POST['id'] . "\n", FILE_APPEND);
}
usleep(5000);
$text = getenv('HOST') . " has $id";
header('Content-Length: ' . strlen($text));
echo $text;
`

// Three machines behind HAProxy, under load. One is upgraded, one is drained and started
// anew, and nothing is lost. One is killed: no GET is lost, and of POSTs those alone that it had
// when it died. No POST is carried out twice.
func TestScaling(t *testing.T) {
	t.Parallel()
	lb, machines := newCluster(t)
	lb.haproxy(harness.Documented(t, "docs/scaling.md", "scaling-haproxy", "bind :80", "bind unix@"+lb.dir+"/www", "/srv/www", lb.www))
	v := newVisitors(lb.dir + "/www")
	stop := v.come(6, 4)
	defer func() { stop() }()
	v.awaitAnswers(t, "one", "two", "three")
	v.nothingLost(t, "at the beginning")

	machines["one"].upgrade(t)
	v.awaitAnswers(t, "one", "two", "three")
	v.nothingLost(t, "upgraded")

	machines["two"].drain(t, lb)
	v.awaitAnswers(t, "one", "three")
	machines["two"].serve()
	lb.awaitState("two", "UP")
	v.awaitAnswers(t, "one", "two", "three")
	v.nothingLost(t, "drained")

	killed := time.Now()
	syscall.Kill(machines["three"].running(), syscall.SIGKILL)
	lb.awaitState("three", "DOWN")
	noticed := time.Now()
	v.awaitAnswers(t, "one", "two")
	machines["three"].serve()
	lb.awaitState("three", "UP")
	v.awaitAnswers(t, "one", "two", "three")
	stop()
	stop = func() {}
	lost := v.losses()
	for _, l := range lost {
		if l.method != "POST" || l.ended.Before(killed) || l.began.After(noticed) {
			t.Errorf("killed: %s %s: %s, from %v to %v after it; HAProxy knew after %v", l.method, l.id, l.why, l.began.Sub(killed), l.ended.Sub(killed), noticed.Sub(killed))
		}
	}
	t.Logf("%d requests were answered; %d POSTs were lost with the machine that was killed, which HAProxy knew after %v", v.answered.Load(), len(lost), noticed.Sub(killed))
	v.checkOrders(t, lb.www+"/orders")
}

// HAProxy and nginx take what docs/scaling.md has for programs that keep something.
func TestDocumentedAffinity(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	conf := harness.Documented(t, "docs/scaling.md", "scaling-haproxy")
	before, servers, _ := strings.Cut(conf, "    server one ")
	_, after, _ := strings.Cut(servers, "\n\n")
	affine := write(t, dir+"/haproxy.cfg", before+harness.Documented(t, "docs/scaling.md", "scaling-affinity-haproxy")+"\n"+after)
	run(t, exec.Command(need(t, "haproxy"), "-c", "-f", affine))
	conf = harness.Documented(t, "docs/scaling.md", "scaling-nginx", "least_conn;", "hash $cookie_PHPSESSID consistent;", "listen 80;", "listen unix:"+dir+"/www;", "include fastcgi_params;", "")
	file := write(t, dir+"/nginx.conf", "pid "+dir+"/pid; error_log "+dir+"/error.log; events {}\nhttp {\n"+conf+"}\n")
	run(t, exec.Command(need(t, "nginx"), "-t", "-c", file, "-p", dir, "-e", dir+"/error.log"))
}

// nginx has no health checks: it finds out by those requests that fail, and gives GETs to
// another machine.
func TestScalingNginx(t *testing.T) {
	t.Parallel()
	lb, machines := newCluster(t)
	lb.nginx(strings.NewReplacer("listen 80;", "listen unix:"+lb.dir+"/www;", "/srv/www", lb.www, "include fastcgi_params;", "include /etc/nginx/fastcgi_params;").
		Replace(harness.Documented(t, "docs/scaling.md", "scaling-nginx")))
	v := newVisitors(lb.dir + "/www")
	stop := v.come(6, 4)
	defer func() { stop() }()
	v.awaitAnswers(t, "one", "two", "three")
	machines["one"].upgrade(t)
	v.awaitAnswers(t, "one", "two", "three")
	v.nothingLost(t, "upgraded")

	killed := time.Now()
	syscall.Kill(machines["three"].running(), syscall.SIGKILL)
	v.awaitAnswers(t, "one", "two")
	machines["two"].order("drain", "www").is(t, "drain", 0)
	v.awaitAnswers(t, "one")
	stop()
	stop = func() {}
	posts := 0
	for _, l := range v.losses() {
		if l.method != "POST" || l.ended.Before(killed) {
			t.Errorf("%s %s: %s", l.method, l.id, l.why)
		}
		posts++
	}
	t.Logf("%d requests were answered, %d POSTs were lost", v.answered.Load(), posts)
	v.checkOrders(t, lb.www+"/orders")
}

// newCluster starts three machines whose pool is that of docs/scaling.md, and a host on
// which what is in front of them is to run.
func newCluster(t testing.TB) (*balancer, map[string]*machine) {
	t.Helper()
	needRoot(t)
	lb := &balancer{newHost(t, "lb"), folder(t), folder(t)}
	write(t, lb.www+"/order.php", strings.ReplaceAll(orderPage, "DIR", lb.www))
	lb.makeSwitch("10.0.0.1/24")
	conf := harness.Documented(t, "docs/scaling.md", "scaling-pool", "/srv/www", lb.www, "silence: 45s", "silence: 45s\n    pass_env: [HOST]")
	machines := make(map[string]*machine)
	for i, name := range []string{"one", "two", "three"} {
		machines[name] = newMachine(t, name, fmt.Sprintf("10.0.0.1%d/24", i+1), lb.host, conf)
	}
	return lb, machines
}

func (m *machine) upgrade(t testing.TB) {
	t.Helper()
	old := m.running()
	m.order("upgrade").is(t, "upgrade", 0)
	await(t, "the old daemon to end", func() bool { return !alive(old) })
}

// drain takes a machine out of service as docs/scaling.md says, and stops its daemon. The
// notice ends here when the load balancer has seen it, not after a time.
func (m *machine) drain(t testing.TB, lb *balancer) {
	t.Helper()
	drained := make(chan output, 1)
	go func() { drained <- m.order("drain", "www", "--notice", "10m") }()
	lb.awaitState(m.name, "DOWN")
	m.order("drain", "www").is(t, "drain", 0, "takes no requests")
	(<-drained).is(t, "the notice", 1, "another order has ended the notice")
	m.d.signal(syscall.SIGTERM)
	if code := m.d.exitCode(); code != 0 {
		t.Errorf("%s: exit status %d", m.name, code)
	}
}

// checkOrders looks at what POSTs have been carried out: each at most once, and each that
// was answered.
func (v *visitors) checkOrders(t *testing.T, file string) {
	t.Helper()
	orders := strings.Fields(read(t, file))
	slices.Sort(orders)
	if once := slices.Compact(slices.Clone(orders)); len(once) != len(orders) {
		t.Errorf("%d POSTs were carried out twice", len(orders)-len(once))
	}
	for id := range v.done {
		if _, found := slices.BinarySearch(orders, id); !found {
			t.Errorf("%s was answered, and not carried out", id)
		}
	}
}

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/fcgid/fcgid/fcgi"
)

// genScript waits for the gate and tells the pool's settings that it has got.
const genScript = `#!/bin/sh
echo "$GEN" >DIR/in
read x <DIR/go
printf 'Content-Type: text/plain\n\n%s' "$GEN"
`

// inode is that of the site's socket.
func (s *site) inode() uint64 {
	s.t.Helper()
	info, err := os.Stat(s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// A file with a fault changes nothing, whatever the fault is.
func TestReloadOfBadFile(t *testing.T) {
	s := newSite(t, "unix", simple+", env: [GEN=old]")
	path := s.script("gen.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%s' \"$GEN\"\n")
	good := s.pool("cgi", simple+", env: [GEN=new]")
	write(t, s.dir+"/occupied", "not a socket")
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	c, err := fcgi.Dial(t.Context(), s.network+":"+s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	inode := s.inode()
	// What the first request leaves for good is there: the connection, and threads that fork.
	if res, err := c.Do(t.Context(), &fcgi.Request{Params: params(path), Stdout: io.Discard}); err != nil || res.AppStatus != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	for i, test := range []struct{ name, pools, want string }{
		{"syntax", good + "- {name: [", "fcgid.yaml:"},
		{"unknown key", s.pool("cgi", simple+", env: [GEN=new], limits: {max_request: 1}"), "max_request"},
		{"no pools", "", "pools"},
		{"port in use", good + "- {name: second, listen: 'tcp:" + other.Addr().String() + "', " + s.here(simple) + "}\n", "address in use"},
		{"file in the way", good + "- {name: second, listen: 'unix:" + s.dir + "/occupied', " + s.here(simple) + "}\n", "occupied"},
		{"first of two sockets", "- {name: first, listen: 'unix:" + s.dir + "/first', " + s.here(simple) + "}\n" + good +
			"- {name: second, listen: 'unix:" + s.dir + "/no/folder', " + s.here(simple) + "}\n", "/no/folder"},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := s.resources()
			s.configure(test.pools)
			s.reload(t)
			now := s.status(t)
			if now.Reload.OK || !strings.Contains(now.Reload.Error, test.want) || len(now.Pools) != 1 {
				t.Errorf("status: %+v, %d pools, want %q", now.Reload, len(now.Pools), test.want)
			}
			failures := s.metric(t, `fcgid_config_reloads_total{result="failure"}`)
			if s.metric(t, "fcgid_config_last_reload_successful") != "0" || failures != fmt.Sprint(i+1) {
				t.Errorf("metrics: %s failures", failures)
			}
			if !s.logged(func(l logLine) bool { return l.Level == "error" && strings.Contains(l.Error, test.want) }) {
				t.Error("the log does not say it")
			}
			var out bytes.Buffer // by a connection from before
			if res, err := c.Do(t.Context(), &fcgi.Request{Params: params(path), Stdout: &out}); err != nil || res.AppStatus != 0 || !strings.HasSuffix(out.String(), "old") {
				t.Errorf("kept connection: %+v %v %q", res, err, out.String())
			}
			if _, out := s.ask(path, nil); !strings.HasSuffix(out, "old") || s.inode() != inode {
				t.Errorf("new connection: %q", out)
			}
			if _, err := os.Stat(s.dir + "/first"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a socket was left behind: %v", err)
			}
			s.backTo(before)
		})
	}
	s.configure(good)
	s.reload(t)
	if _, out := s.ask(path, nil); !strings.HasSuffix(out, "new") || !s.status(t).Reload.OK || s.metric(t, "fcgid_config_last_reload_successful") != "1" {
		t.Errorf("the good file at last: %q, %+v", out, s.status(t).Reload)
	}
}

// A pool that changes keeps its socket and its connections; what runs ends under
// the settings that it began with.
func TestReloadOfChangedPool(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			s := newSite(t, network, simple+", env: [GEN=old]")
			g := newGate(t, s.dir)
			path := s.script("gen.sh", genScript)
			quick := s.script("quick.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%s' \"$GEN\"\n")
			c, err := fcgi.Dial(t.Context(), s.network+":"+s.address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			kept := func(want string) {
				t.Helper()
				var out bytes.Buffer
				if _, err := c.Do(t.Context(), &fcgi.Request{Params: params(quick), Stdout: &out}); err != nil || !strings.HasSuffix(out.String(), want) {
					t.Errorf("kept connection: %v %q, want %q", err, out.String(), want)
				}
			}
			kept("old")
			var inode uint64
			if network == "unix" {
				inode = s.inode()
			}
			running := s.askLater(t.Context(), path)
			g.arrived()

			s.configure(s.pool("cgi", simple+", env: [GEN=new], timeout: 2s, limits: {max_reqs: 2}"))
			s.reload(t)
			kept("new")
			if network == "unix" && s.inode() != inode {
				t.Error("the socket is another one")
			}
			if got := s.metric(t, `fcgid_limit{name="max_reqs",pool="cgi"}`); got != "2" {
				t.Errorf("max_reqs is %s", got)
			}
			// The new timeout is over for one that began after the reload.
			if res, _ := s.ask(path, nil); res.AppStatus != 408 {
				t.Errorf("under the new timeout: appStatus %d", res.AppStatus)
			}
			if got := g.arrived(); got != "new" {
				t.Errorf("it had %q", got)
			}
			await(t, "its program to end", func() bool { return s.status(t).Pools[0].Running == 1 })
			g.release(1)
			if a := wait(t, "the old request", running); a.err != nil || a.AppStatus != 0 || !strings.HasSuffix(a.body, "old") {
				t.Errorf("the old request: %+v", a)
			}
			kept("new")
			await(t, "the other connections to be closed", func() bool { return s.status(t).Pools[0].Connections == 1 })
		})
	}
}

// A pool of another name takes over the socket: no client is refused or loses
// its request, and the old pool goes when its last request has ended.
func TestReloadOfRenamedPool(t *testing.T) {
	for network, directives := range map[string]string{"unix": keepAlive, "tcp": ""} {
		t.Run(network+" "+directives, func(t *testing.T) {
			s := newSite(t, network, simple+", env: [GEN=old]")
			g := newGate(t, s.dir)
			slow := s.script("gen.sh", genScript)
			path := s.hello()
			s.flood(50, func(int) (caller, func()) { return s.straight(path) })
			s.awaitIdle()
			before := s.resources()
			running := s.askLater(t.Context(), slow)
			g.arrived()

			ctx, stop := context.WithCancel(t.Context())
			var clients sync.WaitGroup
			var asked, failed atomic.Int64
			s.nginx(directives)
			for _, newCaller := range []func(string) (caller, func()){s.straight, s.straight, s.overHTTP, s.overHTTP} {
				clients.Go(func() {
					for ctx.Err() == nil {
						call, end := newCaller(path) // which uses its connection once
						asked.Add(1)
						if body, err := call(1); err != nil || !strings.HasPrefix(body, "hello") {
							if failed.Add(1) <= 5 {
								t.Errorf("client: %v %q", err, body)
							}
						}
						end()
					}
				})
			}
			for i := range 20 {
				name := []string{"renamed", "cgi"}[i%2]
				seen := asked.Load()
				s.configure(s.pool(name, simple+", env: [GEN="+name+"]"))
				s.reload(t)
				if got := s.status(t); !got.Reload.OK || got.Pools[0].Name != name {
					t.Errorf("reload %d: %+v", i, got)
				}
				await(t, "some requests", func() bool { return asked.Load() > seen+10 })
			}
			stop()
			clients.Wait()
			t.Logf("%d requests, %d failed", asked.Load(), failed.Load())
			s.stopNginx()

			// The first pool is still there, for the request that it runs.
			draining := 0
			for _, p := range s.status(t).Pools {
				if p.State == "draining" {
					draining++
				}
			}
			if draining != 1 {
				t.Errorf("%d pools are draining, want 1: %+v", draining, s.status(t).Pools)
			}
			g.release(1)
			if a := wait(t, "the old request", running); a.err != nil || !strings.HasSuffix(a.body, "old") {
				t.Errorf("the old request: %+v", a)
			}
			await(t, "the old pool to go", func() bool { return len(s.status(t).Pools) == 1 })
			s.backTo(before)
		})
	}
}

// A pool that is removed ends its requests and its socket; one that is added
// serves at once.
func TestReloadAddsAndRemoves(t *testing.T) {
	s := newSite(t, "unix", simple+", env: [GEN=old]")
	g := newGate(t, s.dir)
	path := s.script("gen.sh", genScript)
	first := s.address
	running := s.askLater(t.Context(), path)
	g.arrived()
	s.address = s.dir + "/other"
	s.configure(s.pool("other", simple+", env: [GEN=new]"))
	s.reload(t)
	await(t, "the old socket to go", func() bool { _, err := os.Stat(first); return errors.Is(err, os.ErrNotExist) })
	added := s.askLater(t.Context(), path)
	if got := g.arrived(); got != "new" {
		t.Errorf("the added pool has %q", got)
	}
	g.release(2)
	for name, c := range map[string]<-chan answer{"old": running, "new": added} {
		if a := wait(t, name, c); a.err != nil || !strings.HasSuffix(a.body, name) {
			t.Errorf("%s: %+v", name, a)
		}
	}
	await(t, "the removed pool to go", func() bool { return len(s.status(t).Pools) == 1 })
	if got := s.metric(t, `fcgid_limit{name="max_reqs",pool="cgi"}`) + s.metric(t, `fcgid_requests_total{outcome="ok",pool="cgi"}`); got != "" {
		t.Errorf("the removed pool still has metrics: %s", got)
	}
}

// A reload that is refused is told in the log that the operator reads, not in the
// one that the refused file names.
func TestRefusedReloadKeepsTheLog(t *testing.T) {
	s := newSite(t, "unix", simple)
	old, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	withLogs := func(log, access string) {
		write(t, s.file, strings.Replace(string(old), "log: {level: debug}",
			fmt.Sprintf("log: {level: debug, output: %[1]s/%[2]s}\naccess_log: {output: %[1]s/%[3]s}", s.dir, log, access), 1))
		s.reload(t)
	}
	withLogs("one.log", "access.log")
	if r := s.status(t).Reload; !r.OK {
		t.Fatal(r.Error)
	}
	withLogs("two.log", "missing/access.log")
	if s.status(t).Reload.OK {
		t.Fatal("the reload was not refused")
	}
	await(t, "the refusal in the old log", func() bool {
		text, _ := os.ReadFile(s.dir + "/one.log")
		return strings.Contains(string(text), "reload refused")
	})
	if text, _ := os.ReadFile(s.dir + "/two.log"); len(text) > 0 {
		t.Errorf("the log of the refused file has %q", text)
	}
}

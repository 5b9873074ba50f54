//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/protocol"
)

// With `memory: 64MiB` the daemon stays small whatever all clients together do: it
// refuses, and does not die of it.
func TestMemoryUnderAttack(t *testing.T) {
	const most = 256 << 20
	s := &site{t: t, dir: folder(t), network: "unix"}
	s.address = s.dir + "/s"
	script(t, s.dir+"/cgi/hello", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
	script(t, s.dir+"/cgi/big", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; exec head -c 3000000 /dev/zero\n")
	script(t, s.dir+"/cgi/loud", "#!/bin/sh\nhead -c 3000000 /dev/zero >&2\nprintf 'Content-Type: text/plain\\n\\n'\n")
	script(t, s.dir+"/cgi/header", "#!/bin/sh\nprintf 'X: '; head -c 60000 /dev/zero | tr '\\0' x; exec sleep 1\n")
	write(t, s.dir+"/big.php", "<?php echo str_repeat('x', 3000000);")
	limits := "limits: {max_reqs: 16, queue: 4000, spool: 64MiB}"
	pools := func(kind string) string {
		tcp := strings.Split(kind, " ")[0]
		return s.pool("cgi", limits+", process: {root: [DIR/cgi], stderr: both}") +
			fmt.Sprintf("- {name: php, listen: 'unix:%s/w', %s, worker: {command: %s, scale: static, max: 2}}\n", s.dir, limits, workerCommand(t, "php")) +
			fmt.Sprintf("- {name: fn, listen: ['unix:%s/f', 'unix:%s/%s'], function: {names: [fcgid.ping, fcgid.echo]}}\n", s.dir, s.dir, tcp)
	}
	s.daemon = launch(t, s.dir, pools("one"), stock(t), func(c *exec.Cmd) {
		c.Env = append(c.Environ(), "FCGID_MEMORY=64MiB", "FCGID_LOG_LEVEL=info")
	})

	cgi, php, fn := s.address, s.dir+"/w", s.dir+"/f"
	path := func(name string) string { return s.dir + "/cgi/" + name }
	post := func(script string) fcgi.Params {
		return params(script, "REQUEST_METHOD", "POST", "CONTENT_LENGTH", "1000000")
	}
	many := func(n int, one func(id uint16) []byte) (all []byte) {
		for id := range n {
			all = append(all, one(uint16(id+1))...)
		}
		return all
	}
	// open is a request that is begun and whose body has not ended.
	open := func(script string, size int) func(id uint16) []byte {
		return func(id uint16) []byte {
			body := size
			all := append(begin(id, protocol.RoleResponder, true), pairs(id, post(script))...)
			for ; body > 0; body -= 30_000 {
				all = append(all, stdin(id, strings.Repeat("x", min(body, 30_000)))...)
			}
			return all
		}
	}
	whole := func(script string, body int) func(id uint16) []byte {
		return func(id uint16) []byte { return request(id, post(script), strings.Repeat("x", body)) }
	}
	var small fcgi.Params
	for i := range 20_000 {
		small = append(small, fcgi.Param{Name: fmt.Sprintf("A%d", i)})
	}
	half := []byte(strings.Repeat("\x01\x01ab", 16_000))
	attacks := map[string]struct {
		address string
		data    []byte
	}{
		"bodies below body_memory": {cgi, many(300, open(path("hello"), 60_000))},
		"the same for workers":     {php, many(300, open(s.dir+"/big.php", 60_000))},
		"the same for functions":   {fn, many(300, open("fcgid.echo", 60_000))},
		"bodies in files":          {cgi, many(300, open(path("hello"), 70_000))},
		"whole bodies that wait":   {cgi, many(300, whole(path("header"), 60_000))},
		"PARAMS that have not ended": {cgi, many(300, func(id uint16) []byte {
			return protocol.AppendRecord(begin(id, protocol.RoleResponder, true), protocol.TypeParams, id, half)
		})},
		"many small pairs": {php, many(40, func(id uint16) []byte { return append(begin(id, protocol.RoleResponder, true), pairs(id, small)...) })},
		"many small requests": {php, many(1000, func(id uint16) []byte {
			return append(begin(id, protocol.RoleResponder, true), pairs(id, params("/x"))...)
		})},
		"answers that nobody reads": {cgi, many(500, whole(path("big"), 10))},
		"those of workers":          {php, many(500, whole(s.dir+"/big.php", 10))},
		"those of functions":        {fn, many(300, whole("fcgid.echo", 60_000))},
		"headers without an end":    {cgi, many(500, whole(path("header"), 10))},
		"programs that complain":    {cgi, many(500, whole(path("loud"), 10))},
		"roles that are refused":    {cgi, many(20_000, func(id uint16) []byte { return begin(id, protocol.RoleFilter, true) })},
		"questions that nobody hears": {cgi, many(20_000, func(uint16) []byte {
			return protocol.AppendRecord(nil, protocol.TypeGetValues, 0, protocol.AppendPair(nil, protocol.MaxConns, ""))
		})},
		"records of no kind": {cgi, many(20_000, func(uint16) []byte { return protocol.AppendRecord(nil, 77, 0, nil) })},
		"half a record":      {php, append(begin(1, protocol.RoleResponder, true), stdin(1, strings.Repeat("x", 65_000))[:64_000]...)},
		"connections":        {cgi, nil},
	}
	var largest atomic.Int64
	var met tally
	attackers := int64(0)
	stop := make(chan struct{})
	var all sync.WaitGroup
	for _, a := range attacks {
		conns := 6
		if len(a.data) < 100_000 {
			conns = 100
		}
		for range conns {
			attackers++
			all.Go(func() { attack(a.address, a.data, stop, &met) })
		}
	}
	for _, ask := range []struct{ address, script string }{{cgi, path("hello")}, {fn, "fcgid.ping"}} {
		all.Go(func() { // somebody who is well
			for !isClosed(stop) {
				p := connect(t, ask.address)
				p.send(request(1, params(ask.script), ""))
				if r := p.reply(1); r.status() != 200 && r.status() != 503 {
					t.Errorf("%s: %v", ask.script, r)
				}
				p.Close()
			}
		})
	}
	all.Go(func() {
		for tick := time.NewTicker(100 * time.Millisecond); !isClosed(stop); <-tick.C {
			largest.Store(max(largest.Load(), s.memory(t)))
		}
	})
	for i := range int64(5) {
		await(t, "half of the attackers to come again", func() bool { return met.ended.Load() > (i+1)*attackers/2 })
		s.configure(pools(fmt.Sprint(i, " ", i)))
		s.reload(t)
	}
	close(stop)
	all.Wait()
	t.Logf("RSS was %d MiB at most, %d connections have seen a 503", largest.Load()>>20, met.refused.Load())
	if largest.Load() > most {
		t.Errorf("RSS was %d MiB, more than %d", largest.Load()>>20, most>>20)
	}
	if met.refused.Load() == 0 {
		t.Error("nobody was told 503")
	}
	await(t, "good service", func() bool {
		return s.one(cgi, path("hello")).status() == 200 && s.one(fn, "fcgid.ping").status() == 200
	})
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A tally counts what attackers have met.
type tally struct{ refused, ended atomic.Int64 } // connections that have seen a 503, and all

// attack sends data again and again, each time on a new connection, of which it reads
// only when nothing is taken for a second, if at all.
func attack(address string, data []byte, stop <-chan struct{}, met *tally) {
	for !isClosed(stop) {
		c, err := net.Dial(networkOf(address), address)
		if err != nil {
			continue
		}
		end := time.Now().Add(2 * time.Second)
		c.SetDeadline(end)
		c.Write(data)
		select {
		case <-stop:
		case <-time.After(time.Until(end)):
		}
		buf := make([]byte, 256<<10)
		c.SetDeadline(time.Now().Add(10 * time.Millisecond))
		n, _ := c.Read(buf)
		if strings.Contains(string(buf[:n]), "Status: 503") {
			met.refused.Add(1)
		}
		c.Close()
		met.ended.Add(1)
	}
}

// one sends a GET of a script, on a connection of its own, and returns the answer.
func (s *site) one(address, path string) reply {
	s.t.Helper()
	p := connect(s.t, address)
	defer p.Close()
	p.send(request(1, params(path), ""))
	return p.reply(1)
}

// A daemon that has nothing to do needs little memory: what only its start needed, and
// what other commands have brought into the program, is not there any more.
func TestIdleMemory(t *testing.T) {
	t.Parallel()
	s := &site{t: t, dir: folder(t), network: "unix"}
	s.address = s.dir + "/s"
	s.daemon = launch(t, s.dir, s.pool("cgi", "process: {root: [DIR]}"), stock(t))
	var kib int
	await(t, "12 MiB at most", func() bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "VmRSS:")
		if _, err := fmt.Sscan(rest, &kib); err != nil {
			t.Fatal(err)
		}
		return kib <= 12<<10
	})
	t.Logf("%d KiB", kib)
}

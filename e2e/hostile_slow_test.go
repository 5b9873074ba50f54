//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// slowly writes b a byte at a time, with a pause, until the daemon closes.
func (p *peer) slowly(b []byte, pause time.Duration) {
	for i := range b {
		if _, err := p.Write(b[i : i+1]); err != nil {
			return
		}
		<-time.After(pause)
	}
}

// Clients that are slow to send: 408, or a closed connection, in time.
func TestHostileSlowSender(t *testing.T) {
	t.Parallel()
	r := newRig(t, "limits: {read_timeout: 1s}", "")
	hello := params(r.dir + "/cgi/hello.sh")
	cat := r.script(t, "cat.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; exec cat\n")
	head := begin(1, protocol.RoleResponder, true)
	var trickle []byte
	for _, one := range hello {
		trickle = protocol.AppendRecord(trickle, protocol.TypeParams, 1, protocol.AppendPair(nil, one.Name, one.Value))
	}
	withBody := append(append([]byte(nil), head...), pairs(1, params(cat, "CONTENT_LENGTH", "1000"))...)
	for name, c := range map[string]struct {
		fast, slow []byte
		pause      time.Duration
		closed     bool // else 408
	}{
		"BEGIN alone":             {fast: head},
		"a byte of PARAMS a time": {head, trickle, 20 * time.Millisecond, false},
		"silence in the body":     {fast: append(append([]byte(nil), withBody...), stdin(1, "half")...)},
		"silence before the body": {fast: withBody},
		"half a header":           {fast: head[:5], closed: true},
		"half a BEGIN":            {fast: head[:12], closed: true},
		"half a record of STDIN":  {fast: append(append([]byte(nil), withBody...), stdin(1, "half")[:10]...)},
	} {
		r.both(t, func(t *testing.T, address string) {
			t.Parallel()
			began := time.Now()
			p := connect(t, address)
			p.send(c.fast)
			go p.slowly(c.slow, c.pause)
			got := p.reply(1)
			if took := time.Since(began); took < 900*time.Millisecond {
				t.Errorf("%s: it took %v", name, took)
			}
			if c.closed && got.end != nil || !c.closed && (got.status() != 408 || got.end == nil || got.end.AppStatus != 408) {
				t.Errorf("%s: got %v", name, got)
			}
			r.good(t, address)
		})
	}
}

// A client that is slow but never silent for too long is served.
func TestSlowBody(t *testing.T) {
	t.Parallel()
	r := newRig(t, "limits: {read_timeout: 4s}", "")
	cat := r.script(t, "cat.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; exec cat\n")
	r.both(t, func(t *testing.T, address string) {
		t.Parallel()
		p := connect(t, address)
		p.send(begin(1, protocol.RoleResponder, true), pairs(1, params(cat, "CONTENT_LENGTH", "15")))
		for range 15 {
			<-time.After(300 * time.Millisecond)
			p.send(stdin(1, "x"))
		}
		p.send(stdin(1, ""))
		if got := p.reply(1); got.status() != 200 || got.body() != strings.Repeat("x", 15) {
			t.Errorf("got %v", got)
		}
	})
}

// A client that takes nothing is gone after write_timeout, and its program with it.
func TestHostileSlowReader(t *testing.T) {
	t.Parallel()
	r := newRig(t, "limits: {write_timeout: 500ms}", "")
	endless := r.script(t, "endless.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; exec cat /dev/zero\n")
	r.both(t, func(t *testing.T, address string) {
		p := connect(t, address)
		p.send(request(1, params(endless), ""))
		p.next()
		await(t, "the request to be given up", func() bool { return len(r.status(t).Pools[0].Requests) == 0 })
		r.noPrograms(t)
		r.good(t, address)
	})
	r.awaitOutcome(t, "aborted", 2)
}

// One that takes a little all the time gets all, however long that takes.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	r := newRig(t, "limits: {write_timeout: 3s}", "")
	big := r.script(t, "big.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; head -c 3000000 /dev/zero\n")
	r.both(t, func(t *testing.T, address string) {
		t.Parallel()
		p := connect(t, address)
		p.send(request(1, params(big), ""))
		slow := protocol.NewReader(slowReader{p})
		total := 0
		for {
			rec, err := slow.Next()
			if err != nil {
				t.Fatalf("after %d bytes: %v", total, err)
			}
			if rec.Type == protocol.TypeStdout {
				total += len(rec.Content)
			}
			if rec.Type == protocol.TypeEndRequest {
				break
			}
		}
		if total < 3000000 {
			t.Errorf("%d bytes came", total)
		}
	})
}

// slowReader takes 64 KiB in 100 ms.
type slowReader struct{ io.Reader }

func (s slowReader) Read(p []byte) (int, error) {
	<-time.After(100 * time.Millisecond)
	return s.Reader.Read(p[:min(len(p), 64<<10)])
}

// A client of a Unix socket that closes its half once it has asked gets its answer.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", "")
	slow := r.script(t, "slow.sh", "#!/bin/sh\ncat >/dev/null\nsleep 0.3\nprintf 'Content-Type: text/plain\\n\\nslow'\n")
	p := connect(t, r.unix)
	p.send(request(1, params(slow), strings.Repeat("x", 100_000)))
	if err := p.Conn.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got := p.reply(1); got.status() != 200 || got.body() != "slow" {
		t.Errorf("got %v", got)
	}
	if n := p.closed(); n != 0 {
		t.Errorf("%d records after the end", n)
	}
	r.good(t, r.unix)
}

// A connection without a request ends at idle_timeout, one with a request does not.
func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	r := newRig(t, "limits: {idle_timeout: 2s}", "")
	slow := r.script(t, "slow.sh", "#!/bin/sh\nsleep 3\nprintf 'Content-Type: text/plain\\n\\nslow'\n")
	r.both(t, func(t *testing.T, address string) {
		t.Parallel()
		p := connect(t, address)
		p.send(request(1, params(slow), ""))
		if got := p.reply(1); got.body() != "slow" {
			t.Errorf("got %v", got)
		}
		if n := p.closed(); n != 0 {
			t.Errorf("%d records, then closed", n)
		}
	})
}

// More connections than max_conns have one that is idle closed, or wait, and all are
// served.
func TestHostileConnectionFlood(t *testing.T) {
	r := newRig(t, "limits: {max_conns: 8}", "")
	hello := params(r.dir + "/cgi/hello.sh")
	r.both(t, func(t *testing.T, address string) {
		var peers []*peer
		for range 8 {
			p := connect(t, address)
			p.send(request(1, hello, ""))
			if got := p.reply(1); got.status() != 200 {
				t.Fatalf("within max_conns: %v", got)
			}
			peers = append(peers, p)
		}
		for range 300 {
			p := connect(t, address)
			p.send(begin(1, protocol.RoleResponder, false), pairs(1, hello), stdin(1, ""))
			peers = append(peers, p)
		}
		for _, p := range peers[8:] {
			if got := p.reply(1); got.status() != 200 {
				t.Errorf("in the flood: %v", got)
			}
		}
		for _, p := range peers {
			p.Close()
		}
		await(t, "the connections to end", func() bool { return r.status(t).Pools[0].Connections == 0 })
		r.good(t, address)
	})
}

// With few descriptors a flood of connections waits in the kernel, and then all is well.
func TestHostileDescriptors(t *testing.T) {
	r := newRig(t, "", "", func(c *exec.Cmd) {
		c.Args = append([]string{"prlimit", "--nofile=48:48", c.Path}, c.Args[1:]...)
		c.Path = need(t, "prlimit")
	})
	r.both(t, func(t *testing.T, address string) {
		var peers []*peer
		for range 200 {
			p := connect(t, address)
			p.send(request(1, params(r.dir+"/cgi/hello.sh"), strings.Repeat("x", 100_000)))
			peers = append(peers, p)
		}
		answers := make(map[string]int)
		for _, p := range peers {
			got := p.reply(1)
			answers[fmt.Sprint(got.status())]++
			p.Close()
		}
		t.Log("answers by status:", answers)
		if answers["200"] == 0 || answers["0"] > 0 {
			t.Errorf("answers by status: %v", answers)
		}
		await(t, "good service", func() bool {
			p := connect(t, address)
			defer p.Close()
			p.send(request(1, params(r.dir+"/cgi/hello.sh"), ""))
			return p.reply(1).status() == 200
		})
		r.good(t, address)
	})
}

//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
)

// countScript tells how long its body and CONTENT_LENGTH are.
const countScript = "#!/bin/sh\nn=$(wc -c)\nprintf 'Content-Type: text/plain\\n\\n%d of %s' $n \"$CONTENT_LENGTH\"\n"

// A body over limits.body is refused, whatever CONTENT_LENGTH says.
func TestHostileBody(t *testing.T) {
	r := newRig(t, "limits: {body: 300KiB}", "")
	count := r.script(t, "count.sh", countScript)
	within, over := strings.Repeat("x", 300<<10), strings.Repeat("x", 300<<10+1)
	for name, c := range map[string]struct {
		length []string
		body   string
		status int
		answer string
	}{
		"largest":                        {[]string{"CONTENT_LENGTH", "307200"}, within, 200, "307200 of 307200"},
		"largest, no length":             {nil, within, 200, "307200 of 307200"},
		"too large":                      {[]string{"CONTENT_LENGTH", "307201"}, over, 413, ""},
		"too large, no length":           {nil, over, 413, ""},
		"too large, nonsense length":     {[]string{"CONTENT_LENGTH", "-1"}, over, 413, ""},
		"too large, empty length":        {[]string{"CONTENT_LENGTH", ""}, over, 413, ""},
		"too large, said to be small":    {[]string{"CONTENT_LENGTH", "5"}, over, 413, ""},
		"said to be too large":           {[]string{"CONTENT_LENGTH", "99999999"}, "small", 413, ""},
		"a number that is none":          {[]string{"CONTENT_LENGTH", "99999999999999999999"}, "small", 200, "5 of 5"},
		"nonsense length":                {[]string{"CONTENT_LENGTH", "-1"}, "small", 200, "5 of 5"},
		"hexadecimal":                    {[]string{"CONTENT_LENGTH", "0x5"}, "small", 200, "5 of 5"},
		"no length":                      {nil, "small", 200, "5 of 5"},
		"no body, no length":             {nil, "", 200, "0 of "},
		"no body, nonsense length":       {[]string{"CONTENT_LENGTH", "-1"}, "", 200, "0 of 0"},
		"much too large, 10 MiB, length": {[]string{"CONTENT_LENGTH", "10485760"}, strings.Repeat("x", 10<<20), 413, ""},
	} {
		r.both(t, func(t *testing.T, address string) {
			p := connect(t, address)
			p.send(request(1, params(count, append([]string{"REQUEST_METHOD", "POST"}, c.length...)...), c.body))
			got := p.reply(1)
			if got.status() != c.status || c.status == 200 && got.body() != c.answer || got.end == nil {
				t.Errorf("%s: got %v, want %d %q", name, got, c.status, c.answer)
			}
			p.send(request(1, params(count), "next"))
			if got := p.reply(1); got.body() != "4 of 4" {
				t.Errorf("%s: the next request on the connection: %v", name, got)
			}
		})
	}
	r.good(t, r.unix)
}

// A body that has no room on disk is answered with 503; what needs none is served.
func TestHostileSpool(t *testing.T) {
	t.Parallel()
	missing := folder(t) + "/missing"
	t.Run("missing folder", func(t *testing.T) { spool(t, missing) })
	t.Run("full", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("only root can mount")
		}
		small := folder(t)
		if err := syscall.Mount("fcgid-e2e", small, "tmpfs", 0, "size=128k"); err != nil {
			t.Skip("mount:", err)
		}
		t.Cleanup(func() { syscall.Unmount(small, syscall.MNT_DETACH) })
		spool(t, small)
	})
}

func spool(t *testing.T, tmp string) {
	r := newRig(t, "", "", func(c *exec.Cmd) { c.Env = append(c.Environ(), "TMPDIR="+tmp) })
	count := r.script(t, "count.sh", countScript)
	r.both(t, func(t *testing.T, address string) {
		for range 3 {
			for _, length := range [][]string{nil, {"CONTENT_LENGTH", "2097152"}} {
				p := connect(t, address)
				p.send(request(1, params(count, length...), strings.Repeat("x", 2<<20)))
				got := p.reply(1)
				// A program that keeps pace may get it all without the disk.
				served := len(length) > 0 && got.body() == "2097152 of 2097152"
				if got.status() != 503 && !served || got.end == nil {
					t.Errorf("2 MiB, length %v: got %v, want 503", length, got)
				}
				for _, size := range []int{5, 64 << 10} { // body_memory: what is no larger needs no file
					p.send(request(1, params(count), strings.Repeat("x", size)))
					if got := p.reply(1); got.body() != fmt.Sprintf("%d of %d", size, size) {
						t.Errorf("the next request on the connection, with %d bytes: %v", size, got)
					}
				}
			}
			r.good(t, address)
		}
	})
	r.noPrograms(t)
}

// The queue is full, or a request waits in it for too long: 503.
func TestHostileQueue(t *testing.T) {
	t.Parallel()
	r := newRig(t, "limits: {max_reqs: 1, queue: 2, queue_timeout: 4s}", "")
	gate := r.dir + "/gate"
	if err := syscall.Mkfifo(gate, 0o666); err != nil {
		t.Fatal(err)
	}
	wait := r.script(t, "wait.sh", "#!/bin/sh\nread line <"+gate+"\nprintf 'Content-Type: text/plain\\n\\nwaited'\n")
	var peers []*peer
	for range 3 { // one runs, two wait
		p := connect(t, r.unix)
		p.send(request(1, params(wait), ""))
		peers = append(peers, p)
		await(t, "the first to run", func() bool { return r.status(t).Pools[0].Running == 1 })
	}
	await(t, "a request to run and two to wait", func() bool {
		pool := r.status(t).Pools[0]
		return pool.Running == 1 && pool.Queued == 2
	})
	refused := func(got reply) bool {
		return got.status() == 503 && got.end != nil && got.end.Status == protocol.StatusOverloaded && strings.Contains(got.stdout, "Retry-After: ")
	}
	if got := r.one(t, r.tcp, wait); !refused(got) {
		t.Errorf("a fourth: got %v, want 503 and OVERLOADED", got)
	}
	for _, p := range peers[1:] {
		if got := p.reply(1); !refused(got) {
			t.Errorf("waited for queue_timeout: got %v, want 503 and OVERLOADED", got)
		}
	}
	if err := os.WriteFile(gate, []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	if got := peers[0].reply(1); got.body() != "waited" {
		t.Errorf("the one that ran: %v", got)
	}
	r.good(t, r.unix)
	r.awaitOutcome(t, "overloaded", 3)
}

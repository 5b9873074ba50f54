//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/protocol"
)

// slowRounds is how often others ask while clients are slow. FCGID_SLOW_ROUNDS says
// another number: 100 is for a release.
func slowRounds(t testing.TB) int {
	text := os.Getenv("FCGID_SLOW_ROUNDS")
	if text == "" {
		return 2
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("FCGID_SLOW_ROUNDS: %v", err)
	}
	return n
}

// Clients that read nothing, that read slowly, and that send slowly hold no place to run.
// The pool has one place, and nobody may wait: while these clients are slow, others are
// answered. It runs with the daemon that users get, which splices.
func TestSlowClientsHoldNoPlace(t *testing.T) {
	for kind, c := range map[string]struct{ pool, big, hello string }{
		"process":  {"process: {root: [DIR]}", "big.sh", "hello.sh"},
		"worker":   {"worker: {command: " + workerCommand(t, "php") + ", scale: static, max: 1}", "big.php", "hello.php"},
		"function": {"function: {names: [fcgid.echo, fcgid.ping]}", "fcgid.echo", "fcgid.ping"},
	} {
		for _, network := range []string{"unix", "tcp"} {
			t.Run(kind+" "+network, func(t *testing.T) {
				t.Parallel()
				size := 4_000_000
				switch {
				case kind == "function":
					size = 3_000_000
				case network == "tcp":
					size = 12_000_000 // the kernel may take ten
				}
				s := &site{t: t, dir: folder(t), network: network}
				if s.address = s.dir + "/s"; network == "tcp" {
					s.address = freeAddress(t)
				}
				script(t, s.dir+"/big.sh", fmt.Sprintf("#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; exec head -c %d /dev/zero\n", size))
				script(t, s.dir+"/hello.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
				write(t, s.dir+"/big.php", fmt.Sprintf("<?php for ($i = 0; $i < %d; $i += 1000) { echo str_repeat('x', 1000); }", size))
				write(t, s.dir+"/hello.php", "<?php echo 'hello';")
				s.daemon = launch(t, s.dir, s.pool("cgi", "limits: {max_reqs: 1, queue_timeout: 20s, params: 8MiB}, "+c.pool), stock(t))
				path := func(name string) string {
					if strings.Contains(name, ".") && kind != "function" {
						return s.dir + "/" + name
					}
					return name
				}
				// What fcgid.echo answers is as long as its params.
				big := params(path(c.big))
				if kind == "function" {
					big = append(big, fcgi.Param{Name: "X", Value: strings.Repeat("x", 60_000)})
					for len(big) < size/60_000+10 {
						big = append(big, fcgi.Param{Name: fmt.Sprint("X", len(big)), Value: strings.Repeat("x", 60_000)})
					}
				}
				for round := range slowRounds(t) {
					s.slowRound(t, fmt.Sprint("round ", round), big, params(path(c.hello)), size)
				}
				s.awaitIdle()
			})
		}
	}
}

// slowRound has slow clients ask for a large answer, and upload, and others ask meanwhile.
func (s *site) slowRound(t *testing.T, name string, big, hello fcgi.Params, size int) {
	t.Helper()
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for _, rate := range []int{0, 60_000, 200_000} { // bytes a second
		p := connect(t, s.address)
		p.send(request(1, big, ""))
		readers.Go(func() { p.readAt(rate, size, stop) })
	}
	up := connect(t, s.address)
	post := slices.Clone(hello)
	post.Set("REQUEST_METHOD", "POST")
	up.send(begin(1, protocol.RoleResponder, true), pairs(1, post), stdin(1, strings.Repeat("x", 32<<10)), stdin(1, strings.Repeat("x", 32<<10)))
	readers.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Second):
				up.Write(stdin(1, "x"))
			}
		}
	})
	// Each of the three has the place for a second at most, and then it is free. The upload is
	// the only request that has still to come.
	await(t, name+": the programs to have ended", func() bool {
		pool := s.status(t).Pools[0]
		return pool.Running == 0 && pool.Queued == 0 && pool.Connections == 4 && s.coming(t) == 1
	})
	for range 5 {
		p := connect(t, s.address)
		p.send(request(1, hello, ""))
		if r := p.reply(1); r.status() != 200 || r.body() == "" {
			t.Errorf("%s: another client gets %v", name, r)
		}
		p.Close()
	}
	if n := s.coming(t); n != 1 {
		t.Errorf("%s: %d requests are still coming, want the upload alone", name, n)
	}
	close(stop)
	readers.Wait()
	up.send(stdin(1, ""))
	if r := up.reply(1); r.status() != 200 {
		t.Errorf("%s: the slow upload gets %v", name, r)
	}
	up.Close()
}

// coming is how many requests have not been received in whole.
func (s *site) coming(t *testing.T) (n int) {
	t.Helper()
	for _, r := range s.status(t).Pools[0].Requests {
		if r.Stage == "params" || r.Stage == "body" {
			n++
		}
	}
	return n
}

// readAt takes so many bytes a second until stop is closed, and then all that is left. It
// reports an answer that is not whole.
func (p *peer) readAt(rate, size int, stop <-chan struct{}) {
	defer p.Close()
	p.SetDeadline(time.Now().Add(2 * time.Minute))
	reader, got := protocol.NewReader(&throttled{p.Conn, rate, stop}), 0
	for {
		rec, err := reader.Next()
		switch {
		case err != nil:
			p.t.Errorf("a client at %d bytes a second has %d, then: %v", rate, got, err)
			return
		case rec.Type == protocol.TypeStdout:
			got += len(rec.Content)
		case rec.Type == protocol.TypeEndRequest:
			if got < size {
				p.t.Errorf("a client at %d bytes a second gets %d of %d", rate, got, size)
			}
			return
		}
	}
}

// throttled reads so many bytes a second until stop is closed.
type throttled struct {
	io.Reader
	rate int
	stop <-chan struct{}
}

// Read reads a tenth of a second's worth.
func (r *throttled) Read(b []byte) (int, error) {
	pause := time.After(100 * time.Millisecond)
	if r.rate == 0 {
		pause = nil
	}
	select {
	case <-r.stop:
	case <-pause:
		b = b[:min(len(b), r.rate/10)]
	}
	return r.Reader.Read(b)
}

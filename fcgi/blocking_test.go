package fcgi_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// Clients that send nothing, or take nothing, stop nobody else, and no garbage
// collection, whatever has become of their sockets' flags. A process that this
// stops cannot tell, so another one watches it.
func TestSocketsThatBlock(t *testing.T) {
	const inside = "FCGID_TEST_SOCKETS_THAT_BLOCK"
	if os.Getenv(inside) != "" {
		sockets(t, serveOnSocketsThatBlock)
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "--- PASS") < 3 {
		t.Errorf("%v, %v\n%s", err, context.Cause(ctx), out)
	}
}

func serveOnSocketsThatBlock(t *testing.T, l net.Listener) {
	large, lost := strings.Repeat("x", 16<<20), make(chan error)
	serveOn(t, wiretest.BlockingListener{Listener: l}, &fcgi.Server{
		WriteTimeout: time.Second,
		Handler: fcgi.HandlerFunc(func(_ context.Context, req *fcgi.Request) (uint32, error) {
			n, err := io.Copy(io.Discard, req.Stdin)
			runtime.GC()
			fmt.Fprintf(req.Stdout, "Content-Type: text/plain\n\n%d", n)
			if req.Params.Get("QUERY_STRING") == "large" {
				_, err := io.WriteString(req.Stdout, large)
				lost <- err
			}
			return 0, err
		}),
	})
	dial := func() net.Conn {
		nc, err := net.Dial(l.Addr().Network(), l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return nc
	}
	dial() // sends nothing
	dial().Write(wiretest.Get(1, true, "QUERY_STRING", "large"))
	busy := wiretest.Dial(t, l.Addr())
	for range 20 {
		busy.Get(t)
		busy.GetMany(t, wiretest.Post(1, true, large[:1<<20]), 1)
	}
	if err := <-lost; err == nil { // write_timeout holds too
		t.Error("an answer that nobody reads was written")
	}
}

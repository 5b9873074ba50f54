package server

import (
	"bytes"
	"context"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// A page that comes in parts passes through buffers that others have used: what it takes of
// memory does not depend on how long it is.
func TestMemoryOfAPage(t *testing.T) {
	if wiretest.UnderRace() {
		t.Skip("the race detector allocates too")
	}
	part := bytes.Repeat([]byte("x"), 8<<10)
	settings := testSettings(func(_ context.Context, req *protocol.Request) (uint32, error) {
		io.WriteString(req.Stdout, plainHeader)
		for range 3 {
			req.Stdout.Write(part)
		}
		_, err := req.Stdout.(protocol.LastWriter).WriteLast(part[:6000])
		return 0, err
	})
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	startServer(t, l, settings)
	c := wiretest.Dial(t, l.Addr())
	const requests = 300
	ask := func() {
		for range requests {
			c.Get(t)
		}
	}
	ask()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ask()
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / requests; each > 8<<10 {
		t.Errorf("a page of 30 kB takes %d bytes", each)
	}
}

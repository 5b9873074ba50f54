package admin

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/status"
)

// A daemon that nobody has named is asked only if it is its owner's, and what it says does
// nothing to a terminal.
func TestOwner(t *testing.T) {
	const text = `a\u001b]2;b\u0007\u009b`
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.Method == http.MethodPost {
			fmt.Fprintf(w, `{"text": "%[1]s", "left": ["%[1]s"], "changes": {"pools": [{"name": "%[1]s"}]}}`, text)
			return
		}
		fmt.Fprintf(w, `{"config_file": "%[1]s", "pools": [{"name": "%[1]s", "requests": [{"uri": "%[1]s"}], "requests_total": {"%[1]s": 1, "ok": 2}}]}`, text)
	})}
	ended := make(chan struct{})
	go func() { defer close(ended); server.Serve(l) }()
	defer func() { server.Close(); <-ended }()

	own, other := uint32(os.Geteuid()), uint32(os.Geteuid()+1)
	if _, err := SendOrder(t.Context(), path, status.Order{}, other); err == nil || !strings.Contains(err.Error(), "not the socket's owner") {
		t.Errorf("another's order: %v", err)
	}
	if _, err := FetchStatus(t.Context(), "unix", path, other); err == nil || asked > 0 {
		t.Errorf("another's status: %v, asked %d times", err, asked)
	}
	reply, err := SendOrder(t.Context(), path, status.Order{}, own)
	if err != nil {
		t.Fatal(err)
	}
	page, err := FetchStatus(t.Context(), "unix", path, own)
	if err != nil {
		t.Fatal(err)
	}
	want := `"a\x1b]2;b\a\u009b"`
	pool := page.Pools[0]
	got := []string{reply.Text, reply.Left[0], reply.Changes.Pools[0].Name, page.File, pool.Name, pool.Requests[0].URI}
	for i, s := range got {
		if s != want {
			t.Errorf("%d: %q, want %q", i, s, want)
		}
	}
	if ended := map[string]int64{"ok": 2}; !reflect.DeepEqual(pool.Ended, ended) {
		t.Errorf("%v, want %v", pool.Ended, ended)
	}
}

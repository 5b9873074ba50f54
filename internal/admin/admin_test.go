package admin

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/logtest"
	"github.com/fcgid/fcgid/internal/status"
)

// A fakeDaemon says what a test has it say.
type fakeDaemon struct {
	page   status.Page
	unfit  string // why it is not ready
	wanted string // the pool and the room that it was asked for last
}

func (d *fakeDaemon) Ready(pool string, room int) (string, error) {
	if pool == "none" {
		return "", errors.New("no such pool")
	}
	d.wanted = fmt.Sprint(pool, " ", room)
	return d.unfit, nil
}

// Status is a page of the caller's own.
func (d *fakeDaemon) Status() *status.Page {
	page := d.page
	page.Pools, page.LeavingRequests = slices.Clone(page.Pools), slices.Clone(page.LeavingRequests)
	for i := range page.Pools {
		pool := &page.Pools[i]
		pool.Requests = slices.Clone(pool.Requests)
		if pool.Workers == nil {
			continue
		}
		workers := *pool.Workers
		workers.List = slices.Clone(workers.List)
		for i := range workers.List {
			workers.List[i].Current = slices.Clone(workers.List[i].Current)
		}
		pool.Workers = &workers
	}
	return &page
}

func newTestServer(t *testing.T) (*Server, *fakeDaemon) {
	t.Helper()
	ignored := goleak.IgnoreCurrent()
	d := &fakeDaemon{page: status.Page{PID: 71, Pools: []status.Pool{{Name: "php"}}}}
	log, _ := logtest.New()
	s := New(Options{
		Daemon: d, Log: log,
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "numbers") }),
		Broken:  func(err error) { t.Errorf("broken: %v", err) },
	})
	t.Cleanup(func() {
		s.Close()
		goleak.VerifyNone(t, ignored)
	})
	return s, d
}

func (s *Server) change(t *testing.T, address string) {
	t.Helper()
	s.changeTo(t, Settings{Address: address})
}

func (s *Server) changeTo(t *testing.T, settings Settings) {
	t.Helper()
	c, err := s.Listen(t.Context(), settings)
	if err != nil {
		t.Fatal(err)
	}
	c.Commit()
}

// isServed asks for the status at an address of net.Dial.
func isServed(t *testing.T, network, address string) bool {
	t.Helper()
	page, err := FetchStatus(t.Context(), network, address)
	return err == nil && page.PID == 71 && len(page.Pools) == 1
}

func TestPages(t *testing.T) {
	s, _ := newTestServer(t)
	s.change(t, "tcp:127.0.0.1:0")
	get := func(path string) (int, string) {
		t.Helper()
		res, err := http.Get("http://" + s.l.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}
	for path, want := range map[string]string{"/-/healthy": "healthy", "/-/ready": "ready", "/metrics": "numbers", "/status": `"name": "php"`} {
		if code, body := get(path); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// The server follows its address, and a change that is dropped leaves it where it was.
func TestAddressChanges(t *testing.T) {
	s, _ := newTestServer(t)
	dir := t.TempDir()
	first, second := filepath.Join(dir, "1"), filepath.Join(dir, "2")
	if err := os.Symlink(dir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	s.change(t, "unix:"+first)
	dropped, err := s.Listen(t.Context(), Settings{Address: "unix:" + second})
	if err != nil {
		t.Fatal(err)
	}
	dropped.Undo()
	if _, err := os.Lstat(second); err == nil || !isServed(t, "unix", first) {
		t.Error("a change that was dropped has left something behind")
	}
	s.change(t, "unix:"+first)
	if !isServed(t, "unix", first) {
		t.Error("not served after a change to the same")
	}
	renamed, err := s.Listen(t.Context(), Settings{Address: "unix:" + dir + "/link/1"})
	if err != nil {
		t.Fatal(err)
	}
	renamed.Undo()
	s.change(t, "unix:"+dir+"/link/1")
	if !isServed(t, "unix", first) {
		t.Error("not served by another name of the same")
	}
	s.change(t, "unix:"+second)
	if _, err := os.Lstat(first); err == nil || !isServed(t, "unix", second) {
		t.Error("it has not moved")
	}
	s.change(t, "")
	if _, err := os.Lstat(second); err == nil {
		t.Error("the socket stays though none is wanted")
	}
	s.change(t, "")
}

// A socket file that somebody has removed comes back.
func TestLostSocketComesBack(t *testing.T) {
	s, _ := newTestServer(t)
	path := filepath.Join(t.TempDir(), "s")
	s.change(t, "unix:"+path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s.change(t, "unix:"+path)
	if !isServed(t, "unix", path) {
		t.Error("it is not there again")
	}
}

// The port stays while the address becomes wider or narrower.
func TestWidthChanges(t *testing.T) {
	s, _ := newTestServer(t)
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := probe.Addr().String()
	_, port, _ := net.SplitHostPort(at)
	s.change(t, "")
	if _, err := s.Listen(t.Context(), Settings{Address: "tcp:" + at}); !errors.Is(err, listen.ErrInUse) ||
		!strings.Contains(err.Error(), `give this one another port, unix:/path, or "" for none`) {
		t.Errorf("the port is another's: %v", err)
	}
	probe.Close()
	for _, host := range []string{"127.0.0.1", "0.0.0.0", "127.0.0.1", "localhost"} {
		s.change(t, "tcp:"+host+":"+port)
		if !isServed(t, "tcp", at) {
			t.Errorf("%s: not served", host)
		}
	}
}

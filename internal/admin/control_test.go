package admin

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fcgid/fcgid/internal/logtest"
	"github.com/fcgid/fcgid/internal/status"
)

// A fakeOperator answers each order with its verb. "wait" is one that waits.
type fakeOperator struct {
	waiting chan struct{} // gets something when an order waits
	end     chan struct{} // closed: such orders end

	mu     sync.Mutex // guards the field below
	orders []status.Order
}

func (f *fakeOperator) Status() *status.Page { return &status.Page{PID: 71} }

func (f *fakeOperator) Do(ctx context.Context, by Peer, o status.Order) status.Reply {
	f.mu.Lock()
	f.orders = append(f.orders, o)
	f.mu.Unlock()
	if o.Verb == "wait" {
		f.waiting <- struct{}{}
		select {
		case <-f.end:
		case <-ctx.Done():
		}
	}
	if o.Verb == "much" {
		return status.Reply{Text: strings.Repeat("x", 1<<20)}
	}
	return status.Reply{Text: fmt.Sprint(o.Verb, " by ", by.UID, " ", by.PID)}
}

func (f *fakeOperator) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.orders)
}

func newTestControl(t *testing.T) (*Control, *fakeOperator, string) {
	t.Helper()
	return newTestControlFor(t, clientTime)
}

func newTestControlFor(t *testing.T, clientTime time.Duration) (*Control, *fakeOperator, string) {
	t.Helper()
	ignored := goleak.IgnoreCurrent()
	f := &fakeOperator{waiting: make(chan struct{}, 1000), end: make(chan struct{})}
	log, _ := logtest.New()
	c := newControl(ControlOptions{Daemon: f, Log: log}, clientTime)
	path := filepath.Join(t.TempDir(), "control.sock")
	if err := c.Listen(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		goleak.VerifyNone(t, ignored)
	})
	return c, f, path
}

func (f *fakeOperator) works(t *testing.T, path string) {
	t.Helper()
	reply, err := SendOrder(t.Context(), path, status.Order{Verb: "hello"})
	if want := fmt.Sprint("hello by ", os.Geteuid(), " ", os.Getpid()); err != nil || reply.Text != want {
		t.Errorf("reply %+v, %v; want %s", reply, err, want)
	}
	if page, err := FetchStatus(t.Context(), "unix", path); err != nil || page.PID != 71 {
		t.Errorf("status %+v, %v", page, err)
	}
}

func TestControl(t *testing.T) {
	c, f, path := newTestControl(t)
	f.works(t, path)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, _, err := func() (*Control, *fakeOperator, error) {
		other := NewControl(c.opt)
		defer other.Close()
		return nil, nil, other.Listen(t.Context(), path)
	}(); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("two at one place: %v", err)
	}
	f.works(t, path)
}

// A file that somebody has removed comes back, and orders that wait get their replies.
func TestControlLost(t *testing.T) {
	c, f, path := newTestControl(t)
	replies := make(chan string, 1)
	go func() {
		reply, err := SendOrder(t.Context(), path, status.Order{Verb: "wait"})
		if err != nil {
			reply = &status.Reply{Text: err.Error()}
		}
		replies <- reply.Text
	}()
	<-f.waiting
	if c.IsLost() {
		t.Error("it is lost")
	}
	os.Remove(path)
	if !c.IsLost() {
		t.Error("it is not lost")
	}
	if err := c.Listen(t.Context(), path); err != nil || c.IsLost() {
		t.Fatal(err)
	}
	f.works(t, path)
	close(f.end)
	if got := <-replies; !strings.HasPrefix(got, "wait by") {
		t.Errorf("the order that waited: %s", got)
	}
}

// raw sends bytes and returns what comes until the connection is closed.
func raw(t *testing.T, path, text string) string {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(conn, text)
	answer, err := io.ReadAll(conn)
	if err != nil && len(answer) == 0 {
		return err.Error()
	}
	return string(answer)
}

func post(body string) string {
	return fmt.Sprintf("POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// What is no order does nothing.
func TestControlMalformed(t *testing.T) {
	_, f, path := newTestControl(t)
	for name, test := range map[string]struct{ text, want string }{
		"no HTTP":           {"\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\r\n\r\n", "400"},
		"no JSON":           {post("kill 7"), "400"},
		"nothing":           {post(""), "400"},
		"an unknown field":  {post(`{"verb": "kill", "id": 7}`), "400"},
		"a negative number": {post(`{"verb": "kill", "ids": [-7]}`), "400"},
		"a list":            {post(`[]`), "400"},
		"much":              {post(`{"verb": "` + strings.Repeat("x", maxOrder) + `"}`), "400"},
		"a long header":     {"GET /status HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", "431"},
		"GET of an order":   {"GET /orders HTTP/1.1\r\nHost: x\r\n\r\n", "405"},
		"another path":      {"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
	} {
		got := raw(t, path, test.text)
		if !strings.HasPrefix(got, "HTTP/1.1 "+test.want) && !strings.Contains(got, "reset") && !strings.Contains(got, "broken pipe") {
			t.Errorf("%s: %.200q, want %s", name, got, test.want)
		}
	}
	if n := f.count(); n != 0 {
		t.Errorf("%d orders were carried out", n)
	}
	f.works(t, path)
}

// Clients that say nothing, or half of it, or take no reply, are in nobody's way for
// long, however many they are. Nor is one that leaves.
func TestControlStuckClients(t *testing.T) {
	_, _, path := newTestControlFor(t, 100*time.Millisecond)
	for i := range 3 * maxOrders {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, []string{"", "POST /orders HT", "POST /orders HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", post(`{"verb": "much"}`)}[i%4])
	}
	// A client of ours may be too slow for such times too, on a busy machine.
	for deadline := time.Now().Add(time.Minute); ; {
		reply, err := SendOrder(t.Context(), path, status.Order{Verb: "hello"})
		if err == nil && strings.HasPrefix(reply.Text, "hello by") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody is heard any more: %+v, %v", reply, err)
		}
	}
}

// The context of an order ends when its client leaves.
func TestControlClientLeaves(t *testing.T) {
	_, f, path := newTestControl(t)
	for range 2 * maxOrders { // so that their places are free again
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := SendOrder(ctx, path, status.Order{Verb: "wait"})
			done <- err
		}()
		<-f.waiting
		cancel()
		if err := <-done; err == nil {
			t.Error("an order was carried out that nobody waited for")
		}
	}
	f.works(t, path)
}

// An order whose client has given up before it was heard, as while the daemon is stopped, is
// not carried out: the client was told that it had failed.
func TestControlClientHasLeft(t *testing.T) {
	c, f, path := newTestControl(t)
	for len(c.slots) < maxOrders { // nobody is let in, but for one whose place Serve may have
		select {
		case c.slots <- struct{}{}:
		default:
		}
	}
	const many = 20
	first, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	for range many {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, post(`{"verb": "late"}`))
		conn.Close()
	}
	for range maxOrders - 1 {
		<-c.slots
	}
	f.works(t, path) // those before it have been accepted
	first.Close()
	c.Close()
	if n := f.count(); n != 1 {
		t.Errorf("%d of %d orders were carried out that nobody waits for", n-1, many)
	}
}

// Close gives those their replies that wait, if they end with it, and is done soon in
// any case.
func TestControlClose(t *testing.T) {
	c, f, path := newTestControl(t)
	replies := make(chan string, maxOrders)
	for range maxOrders - 1 {
		go func() {
			reply, err := SendOrder(t.Context(), path, status.Order{Verb: "wait"})
			if err != nil {
				reply = &status.Reply{Text: err.Error()}
			}
			replies <- reply.Text
		}()
		<-f.waiting
	}
	silent, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	close(f.end)
	c.Close()
	c.Close()
	for range maxOrders - 1 {
		if got := <-replies; !strings.HasPrefix(got, "wait by") {
			t.Errorf("an order that waited: %s", got)
		}
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the file of the socket is left")
	}
}

package daemon

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newFIFO makes a FIFO that holds as little as the kernel lets it, and its reader.
func newFIFO(t *testing.T) (name string, reader *os.File) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	if err := reader.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	conn, err := reader.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Control(func(fd uintptr) { _, err = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) }); err != nil {
		t.Fatal(err)
	}
	return name, reader
}

// A log whose reader has stopped drops records, says so once, and says how many
// once it takes them again.
func TestStuckLog(t *testing.T) {
	name, reader := newFIFO(t)
	var said []string
	l := &logFile{
		stuck:     func(output string) { said = append(said, "stuck "+filepath.Base(output)) },
		recovered: func(output string, drops int) { said = append(said, fmt.Sprintf("recovered %d", drops)) },
	}
	file, err := openLog(name)
	if err != nil {
		t.Fatal(err)
	}
	l.set(name, file)
	record := []byte(strings.Repeat("x", 1023) + "\n")
	log := func() {
		t.Helper()
		if n, err := l.Write(record); n != len(record) || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
	}
	for range 4 + 20 {
		log()
	}
	if got := strings.Join(said, ", "); got != "stuck fifo" {
		t.Errorf("said %q", got)
	}
	got := make([]byte, pipeSize)
	if n, err := reader.Read(got); n != pipeSize || err != nil || !bytes.Equal(got, bytes.Repeat(record, 4)) {
		t.Errorf("read %d bytes, %v", n, err)
	}
	log()
	if got := strings.Join(said, ", "); got != "stuck fifo, recovered 20" {
		t.Errorf("said %q", got)
	}
	l.set("", nil)
}

// A record that got in by half does not spoil the next.
func TestCutRecord(t *testing.T) {
	name, reader := newFIFO(t)
	file, err := openLog(name)
	if err != nil {
		t.Fatal(err)
	}
	l := new(logFile)
	l.set(name, file)
	l.Write(bytes.Repeat([]byte("x"), 2*pipeSize))
	if n, err := reader.Read(make([]byte, pipeSize)); n != pipeSize || err != nil {
		t.Fatalf("read %d bytes, %v", n, err)
	}
	l.Write([]byte("next\n"))
	got := make([]byte, pipeSize)
	if n, _ := reader.Read(got); string(got[:n]) != "\nnext\n" {
		t.Errorf("read %q", got[:n])
	}
	l.set("", nil)
}

// What a person sees of a worker with many requests.
func TestCurrentRequests(t *testing.T) {
	var w workerStatus
	for n, want := range []string{"", "GET /0", "GET /0 and 1 more", "GET /0 and 2 more"} {
		if got := w.current(); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
		w.Current = append(w.Current, currentRequest{Method: "GET", URI: fmt.Sprint("/", n)})
	}
}

// Nothing that others have written reaches a terminal as it is.
func TestStatusIsPrintable(t *testing.T) {
	page := statusPage{File: "a\x1b[2J", Reload: reloadStatus{Error: "b\x1b[2J"}, Pools: []poolStatus{
		{Name: "p", Runner: "worker", Workers: &workersStatus{Degraded: "c\x1b[2J"}},
	}}
	var out strings.Builder
	if err := page.print(&out, true); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("got %q", out.String())
	}
}

// systemd names all of its RuntimeDirectory=.
func TestRuntimeFolder(t *testing.T) {
	for given, want := range map[string]string{"": "", "/run/a": "/run/a", "/run/a:/run/b": "/run/a"} {
		t.Setenv("RUNTIME_DIRECTORY", given)
		if got := runtimeFolder(); got != want {
			t.Errorf("%q: got %q, want %q", given, got, want)
		}
	}
}

package logs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
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
	var lost atomic.Int64
	l := &file{
		lost:      &lost,
		stuck:     func(output string) { said = append(said, "stuck "+filepath.Base(output)) },
		recovered: func(output string, drops int) { said = append(said, fmt.Sprintf("recovered %d", drops)) },
	}
	f, err := open(name)
	if err != nil {
		t.Fatal(err)
	}
	l.set(name, f)
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
	if got := strings.Join(said, ", "); got != "stuck fifo, recovered 20" || lost.Load() != 20 {
		t.Errorf("said %q, counted %d", got, lost.Load())
	}
	l.set("", nil)
}

// A record that got in by half does not spoil the next.
func TestCutRecord(t *testing.T) {
	name, reader := newFIFO(t)
	f, err := open(name)
	if err != nil {
		t.Fatal(err)
	}
	l := new(file)
	l.set(name, f)
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

// Reopen says which files it has opened, each once, and which it could not.
func TestReopenSaysWhat(t *testing.T) {
	dir := t.TempDir()
	gone := filepath.Join(dir, "gone")
	if err := os.Mkdir(gone, 0o700); err != nil {
		t.Fatal(err)
	}
	log, slow := filepath.Join(dir, "log"), filepath.Join(dir, "slow")
	l, err := New(Options{Level: "info", Output: log, Access: AccessOptions{Output: filepath.Join(gone, "access")},
		Slow: map[string]string{"a": slow, "b": slow, "c": "stderr"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(gone); err != nil {
		t.Fatal(err)
	}
	files, failed := l.Reopen()
	if want := []string{log, slow}; !slices.Equal(files, want) {
		t.Errorf("opened %q, want %q", files, want)
	}
	if len(failed) != 1 || !strings.Contains(failed[0].Error(), "open log: open "+gone+"/access: no such file") {
		t.Errorf("failed: %v", failed)
	}
}

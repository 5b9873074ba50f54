package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The loop answers as a CGI server does: a short answer, one longer than its buffer, none,
// and the exit status.
func TestCGILoop(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	listener, err := listenUnix(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(listener)
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(null)
	l := cgiLoop{listener: listener, null: null, buffer: make([]byte, 64<<10)}
	const head = "echo Content-Type: text/plain; echo; "
	for i, test := range []struct {
		script, problem string
		bytes           int64
	}{
		{head + "echo $REQUEST_METHOD", "", 4},
		{head + "head -c 100000 /dev/zero", "", 100_000},
		{"", "no header", 0},
		{head + "exit 3", "appStatus 3", 0},
	} {
		script := fmt.Sprintf("%s/%d", dir, i)
		if err := os.WriteFile(script, []byte("#!/bin/sh\n"+test.script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		request := get(script, false, 1)
		request.want, request.wantBytes = "", test.bytes
		asked := make(chan error)
		go func() { _, err := verify("unix", socket, request); asked <- err }()
		if err := l.one(); err != nil {
			t.Errorf("%s: %v", test.script, err)
		}
		err := <-asked
		if (err == nil) != (test.problem == "") || err != nil && !strings.Contains(err.Error(), test.problem) {
			t.Errorf("%s: %v, want %q", test.script, err, test.problem)
		}
	}
}

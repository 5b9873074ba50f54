// Package harness is what the suites of end-to-end tests share: building the daemon,
// starting it and web servers, waiting for what is to come, and reading out of the
// documentation what it tells people to write.
package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// Main runs the tests of a suite with a daemon that it builds, and with a folder of
// their own for temporary files: what a daemon leaves behind is looked for there, and
// others may run daemons too. The daemon is built as the tests are, see Build.
func Main(m *testing.M, daemon *string) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "fcgid-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		// Programs run as the user who runs the tests, web servers as others.
		os.Chmod(dir, 0o755)
		os.Setenv("TMPDIR", dir)
		*daemon = filepath.Join(dir, "fcgid")
		if err := Build(wiretest.UnderRace(), *daemon, Module+"/cmd/fcgid"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		code := m.Run()
		left := running(dir)
		for end := time.Now().Add(10 * time.Second); len(left) > 0 && time.Now().Before(end); left = running(dir) {
			time.Sleep(50 * time.Millisecond)
		}
		for pid, command := range left {
			fmt.Fprintf(os.Stderr, "the tests have left process %d: %s\n", pid, command)
			syscall.Kill(pid, syscall.SIGKILL)
			code = 1
		}
		return code
	}())
}

// running are the processes whose programs lie in a folder, with their commands.
func running(dir string) map[int]string {
	found := make(map[int]string)
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		if program, err := os.Readlink(link); err != nil || !strings.HasPrefix(program, dir+"/") {
			continue
		}
		process := filepath.Dir(link)
		pid, _ := strconv.Atoi(filepath.Base(process))
		command, _ := os.ReadFile(process + "/cmdline")
		found[pid] = strings.ReplaceAll(string(command), "\x00", " ")
	}
	return found
}

// Module is the import path of fcgid.
const Module = "github.com/fcgid/fcgid"

// Build builds a program with the race detector, or as `make` builds the daemon:
// these make different system calls.
func Build(race bool, program, source string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if race {
		cmd = exec.Command("go", "build", "-race", "-o", program, source)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}

// Need is the path of a program that a test cannot do without.
func Need(t testing.TB, name string) string {
	t.Helper()
	for _, candidate := range []string{name, "/usr/sbin/" + name, "/usr/lib/git-core/" + name, "/usr/lib/cgit/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path
		}
	}
	t.Fatalf("%s is not installed; `make test` installs what the tests need", name)
	return ""
}

// Folder is a short-named folder that every user can read: a Unix socket's name
// holds 107 bytes.
func Folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "f")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Script writes an executable file and returns its path.
func Script(t testing.TB, path, text string) string {
	t.Helper()
	return write(t, path, text, 0o755)
}

// Write writes a file and returns its path.
func Write(t testing.TB, path, text string) string {
	t.Helper()
	return write(t, path, text, 0o644)
}

func write(t testing.TB, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Create(path, text, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// Create puts a file in its place when it is whole: a daemon may be reading the one
// that was there. No process is forked meanwhile, since that would hold the file open
// for writing until it executes something, and what is open for writing cannot be
// executed (ETXTBSY).
func Create(path, text string, mode os.FileMode) error {
	part := path + ".part"
	syscall.ForkLock.RLock()
	err := os.WriteFile(part, []byte(text), mode)
	syscall.ForkLock.RUnlock()
	if err != nil {
		return err
	}
	return os.Rename(part, path)
}

// ports are those that tests are given: below the ones from which the kernel takes the ports of
// clients and of who listens on port 0, so that it gives none of them to anybody else meanwhile.
const firstPort, ports = 12000, 20000

// lastPort is the port that was given last, from firstPort. Each process begins somewhere else.
var lastPort atomic.Int64

func init() { lastPort.Store(rand.Int64N(ports)) }

// FreeAddress is a loopback address that nothing listens on, and that is nobody else's until
// the test that has it listens there.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range ports {
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+lastPort.Add(1)%ports)
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

// Await polls until what is wanted is there, for a minute at most.
func Await(t testing.TB, what string, there func() bool) {
	t.Helper()
	polltest.Until(t, what, there)
}

// Listening waits until somebody accepts connections at an address.
func Listening(t testing.TB, network, address string) {
	t.Helper()
	Await(t, address+" to accept connections", func() bool {
		c, err := net.Dial(network, address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// Run runs a program to its end and returns what it printed.
func Run(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

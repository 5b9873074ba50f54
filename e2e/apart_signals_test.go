//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A reading is a daemon apart whose file waits to be read: it includes a FIFO.
type reading struct {
	*apart
	fifo   string
	writer *os.File
	reader int // pid of the process that reads it
}

// hang makes a FIFO of what the file includes, so that who reads it waits for more.
func (r *reading) hang(t *testing.T) {
	t.Helper()
	os.Remove(r.fifo)
	if err := unix.Mkfifo(r.fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(r.fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { writer.Close() })
	r.writer = writer
}

// awaitReader waits until a process reads it.
func (r *reading) awaitReader(t *testing.T) {
	t.Helper()
	await(t, "a process to read the file", func() bool {
		for _, pid := range children(r.Process.Pid) {
			if pid != r.served && len(openFiles(pid, r.fifo)) > 0 {
				r.reader = pid
				return true
			}
		}
		return false
	})
}

// goOn gives it what it waits for. Who reads the file later finds a regular one.
func (r *reading) goOn(t *testing.T) {
	t.Helper()
	const rest = "pools: []\n"
	write(t, r.fifo+".next", rest)
	if err := os.Rename(r.fifo+".next", r.fifo); err != nil {
		t.Fatal(err)
	}
	r.writer.WriteString(rest)
	r.writer.Close()
}

// openFiles are the descriptors that a process has of a file.
func openFiles(pid int, path string) (fds []string) {
	folder := fmt.Sprintf("/proc/%d/fd/", pid)
	entries, _ := os.ReadDir(folder)
	for _, e := range entries {
		if target, err := os.Readlink(folder + e.Name()); err == nil && target == path {
			fds = append(fds, e.Name())
		}
	}
	return fds
}

// startReading starts a daemon, and returns when its file is about to be read.
func startReading(t *testing.T) *reading {
	t.Helper()
	a := setup(t)
	r := &reading{apart: a, fifo: a.dir + "/more.yaml"}
	a.configure(a.pools("include: [" + r.fifo + "]\n"))
	r.hang(t)
	cmd := exec.Command(binary, "serve", "-c", a.file)
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+a.dir+"/runtime")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	a.process = start(t, cmd)
	r.awaitReader(t)
	return r
}

// Signals that come while the file is read for the first time, to the process that was started or
// to all of its group, are the daemon's when it serves.
func TestApartSignalsWhileReading(t *testing.T) {
	t.Parallel()
	for signal, want := range map[syscall.Signal]string{
		syscall.SIGHUP: `"msg":"reloaded"`, syscall.SIGUSR1: "no log is a file, so none was opened anew", syscall.SIGUSR2: `"msg":"upgraded: `,
	} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			r := startReading(t)
			unix.Kill(-r.Process.Pid, signal)
			r.goOn(t)
			await(t, "the daemon to do as it was asked", func() bool {
				hasExited := r.Exited()
				if strings.Contains(r.out.String(), want) {
					return true
				}
				if hasExited {
					t.Fatalf("it has exited: %v\n%s", r.Err, r.out)
				}
				return false
			})
			if successor := regexp.MustCompile(`"successor":(\d+)`).FindStringSubmatch(r.out.String()); successor != nil {
				pid, _ := strconv.Atoi(successor[1])
				syscall.Kill(pid, syscall.SIGTERM)
				await(t, "the successor to end", func() bool { return !alive(pid) })
			}
		})
	}
}

// A stop while the file is read, for the first time or again, waits for no file and ends in order.
func TestApartStoppedWhileReading(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run("start, "+signal.String(), func(t *testing.T) {
			t.Parallel()
			r := startReading(t)
			unix.Kill(-r.Process.Pid, signal)
			if code := r.exitCode(); code != 0 || alive(r.reader) {
				t.Errorf("exit status %d", code)
			}
		})
	}
	t.Run("reload", func(t *testing.T) {
		t.Parallel()
		a := serveApart(t)
		r := &reading{apart: a, fifo: a.dir + "/more.yaml"}
		a.configure(a.pools("include: [" + r.fifo + "]\n"))
		r.hang(t)
		a.signal(syscall.SIGHUP)
		r.awaitReader(t)
		a.signal(syscall.SIGTERM)
		if code := r.exitCode(); code != 0 || alive(r.reader) || !strings.Contains(a.out.String(), "terminated") {
			t.Errorf("exit status %d", code)
		}
	})
}

// A stop that comes before the daemon has begun to hear any ends it in order.
func TestApartStoppedEarly(t *testing.T) {
	t.Parallel()
	for range 5 {
		r := startReading(t)
		r.goOn(t)
		await(t, "the daemon", func() bool {
			for _, pid := range children(r.Process.Pid) {
				r.served = pid
			}
			return r.served != r.reader && userOf(r.served) == "65534"
		})
		r.signal(syscall.SIGTERM)
		if code := r.exitCode(); code != 0 {
			t.Errorf("exit status %d", code)
		}
	}
}

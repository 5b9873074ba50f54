package spawn_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/spawn"
)

func TestChroot(t *testing.T) {
	needRoot(t)
	dir := openFolder(t)
	for _, name := range []string{"bin", "www"} {
		runnertest.Must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	program, err := os.ReadFile(listProgram(t))
	runnertest.Must(t, err)
	runnertest.WriteFile(t, dir+"/bin/busybox", string(program), 0o755)
	s := &spawn.Sandbox{Chroot: dir, OOMScoreAdj: 500, Nice: 1, Read: []string{"/bin", "/www"}, NoNewPrivs: true}
	var l spawn.Local
	var out strings.Builder
	err = spawn.Run(t.Context(), &l, &spawn.Command{Argv: []string{"/bin/busybox", "ls", "/"}, Dir: "/www", Env: []string{"HELPER=list"}, Sandbox: s}, &out)
	if err == nil || strings.Contains(out.String(), "etc") {
		t.Errorf("lists %q, %v: a folder above those of sandbox.read", out.String(), err)
	}
	s.Read = nil
	out.Reset()
	err = spawn.Run(t.Context(), &l, &spawn.Command{Argv: []string{"/bin/busybox", "ls", "/"}, Dir: "/www", Sandbox: s}, &out)
	if got := strings.Fields(out.String()); err != nil || len(got) != 2 || got[0] != "bin" || got[1] != "www" {
		t.Errorf("the root holds %q, %v", got, err)
	}
	err = spawn.Run(t.Context(), &l, &spawn.Command{Argv: []string{"/bin/none"}, Dir: "/www", Sandbox: s}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "start /bin/none: no such file") {
		t.Errorf("of a program that is not there: %v", err)
	}
	_, err = l.Start(t.Context(), &spawn.Command{Argv: []string{"/bin/busybox"}, Dir: "/", Sandbox: &spawn.Sandbox{Chroot: dir + "/none"}})
	if err == nil || !strings.Contains(err.Error(), "sandbox.chroot: "+dir+"/none: no such file") {
		t.Errorf("of a root that is not there: %v", err)
	}
}

// listProgram is a program that needs no library: with the arguments ls and a folder, it
// lists that.
func listProgram(t *testing.T) string {
	t.Helper()
	if busybox, err := exec.LookPath("busybox"); err == nil {
		return busybox
	}
	return staticProgram(t)
}

// staticProgram is a program that needs no library, and lists its folder as busybox does.
func staticProgram(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	runnertest.Must(t, os.WriteFile(dir+"/main.go", []byte(`package main
import ("fmt"; "os")
func main() {
	entries, err := os.ReadDir(os.Args[2])
	if err != nil { fmt.Println(err); os.Exit(1) }
	for _, e := range entries { fmt.Println(e.Name()) }
}`), 0o644))
	cmd := exec.Command("go", "build", "-o", dir+"/list", dir+"/main.go")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, text)
	}
	return dir + "/list"
}

func TestPrivateTmp(t *testing.T) {
	s := &spawn.Sandbox{Name: "www", PrivateTmp: true, Umask: umask(0o022)}
	needFit(t, s, nil)
	secret, err := os.CreateTemp("/tmp", "fcgid-test-secret-")
	runnertest.Must(t, err)
	defer os.Remove(secret.Name())
	defer secret.Close()
	var l spawn.Local
	release, err := l.Hold(s, nil)
	runnertest.Must(t, err)
	if got := says(t, &l, &spawn.Command{Sandbox: s}, "ls -A /tmp /var/tmp"); got != "/tmp:\n\n/var/tmp:" {
		t.Errorf("the private folders hold %q", got)
	}
	// Others of the pool see what one leaves, also when the sandbox changes, and nobody else does.
	says(t, &l, &spawn.Command{Sandbox: s, Identity: identity()}, "echo session >/tmp/session; echo >/var/tmp/own")
	changed := *s
	changed.Umask = umask(0o027)
	next, err := l.Hold(&changed, nil)
	runnertest.Must(t, err)
	release()
	if got := says(t, &l, &spawn.Command{Sandbox: &changed, Identity: identity()}, "cat /tmp/session; ls /var/tmp"); got != "session\nown" {
		t.Errorf("another program finds %q", got)
	}
	if _, err := os.Stat("/tmp/session"); err == nil {
		t.Error("the private file is in /tmp")
	}
	other := *s
	other.Name = "other"
	if got := says(t, &l, &spawn.Command{Sandbox: &other}, "ls /tmp"); got != "" {
		t.Errorf("another pool finds %q", got)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	runnertest.Must(t, err)
	if strings.Contains(string(mounts), " /var/tmp tmpfs") {
		t.Error("a mount came out")
	}
	next()
	last, err := l.Hold(s, nil)
	runnertest.Must(t, err)
	defer last()
	if got := says(t, &l, &spawn.Command{Sandbox: s}, "ls /tmp"); got != "" {
		t.Errorf("when the last has gone, %q is left", got)
	}
}

// runChrooted is a daemon in a chroot of its own whose program lists the root, and a private
// /tmp after a file was made there.
func runChrooted() int {
	dir := os.Getenv("ROOT")
	for _, do := range []func() error{
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error { return unix.Mount(dir, dir, "", unix.MS_BIND, "") }, // mounts can be changed at one alone
		func() error { return unix.Mount("proc", dir+"/proc", "proc", 0, "") },
		func() error { return unix.Mount("/dev", dir+"/dev", "", unix.MS_BIND, "") },
		func() error { return unix.Chroot(dir) },
		func() error { return unix.Chdir("/") },
	} {
		if err := do(); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	s := &spawn.Sandbox{Name: "www", PrivateTmp: true}
	var l spawn.Local
	for _, folder := range []string{"/", "/tmp"} {
		cmd := &spawn.Command{Argv: []string{"/busybox", "ls", folder}, Dir: "/", Sandbox: s}
		if err := spawn.Run(context.Background(), &l, cmd, os.Stdout); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	return 0
}

// A private /tmp does not take programs out of a root folder that the daemon was given.
func TestPrivateTmpInDaemonsChroot(t *testing.T) {
	needRoot(t)
	needFit(t, &spawn.Sandbox{PrivateTmp: true}, nil)
	dir := openFolder(t)
	for _, name := range []string{"dev", "proc", "tmp", "tmp/of-all"} {
		runnertest.Must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	program, err := os.ReadFile(listProgram(t))
	runnertest.Must(t, err)
	runnertest.WriteFile(t, dir+"/busybox", string(program), 0o755)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"HELPER=chrooted", "ROOT=" + dir, "GORACE=atexit_sleep_ms=0"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	text, err := cmd.CombinedOutput()
	if got := strings.Fields(string(text)); err != nil || !slices.Equal(got, []string{"busybox", "dev", "proc", "tmp"}) {
		t.Errorf("the root, and then /tmp, hold %q, %v", got, err)
	}
}

package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

//go:embed programs
var programs embed.FS

// bulk is how much a download or an upload carries.
const bulk = 256 << 20

// A rig is what a run of the benchmark stands on: a folder with programs, the
// configuration file, and the servers of the case that is running.
type rig struct {
	ctx      context.Context
	dir      string // removed by close
	fcgid    string // path of the binary
	duration time.Duration
	pairs    int
	cpus     int
	config   configuration
	base     *rig // of an older binary that is compared with this one, or nil
	servers  map[string]*server
	order    []*server // as they were started
}

// A server is one that is measured. Several sides may share one.
type server struct {
	*process
	network, address string
}

// newRig makes the folder, compiles the programs and writes the configuration.
func newRig(ctx context.Context, fcgid string) (*rig, error) {
	dir, err := os.MkdirTemp("", "fcgid-bench")
	if err != nil {
		return nil, err
	}
	r := &rig{ctx: ctx, dir: dir, fcgid: fcgid, cpus: runtime.NumCPU(), servers: make(map[string]*server)}
	if err := r.fill(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return r, nil
}

// close ends what still runs and removes the folder.
func (r *rig) close() error {
	r.endServers()
	endDescendants()
	var err error
	if r.base != nil {
		err = os.RemoveAll(r.base.dir)
	}
	return errors.Join(err, os.RemoveAll(r.dir))
}

func (r *rig) fill() error {
	if err := os.Chmod(r.dir, 0o755); err != nil { // Apache's children are another user
		return err
	}
	if err := os.Mkdir(r.path("cgi"), 0o755); err != nil {
		return err
	}
	files, err := programs.ReadDir("programs")
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := r.install(f.Name()); err != nil {
			return err
		}
	}
	r.config, err = configure(r.ctx, r.dir, r.fcgid)
	return err
}

// install puts a program into the folder cgi, compiled if it is in C.
func (r *rig) install(name string) error {
	text, err := programs.ReadFile("programs/" + name)
	if err != nil {
		return err
	}
	base, isC := strings.CutSuffix(name, ".c")
	if !isC {
		return os.WriteFile(r.program(name), text, 0o755)
	}
	args := []string{"-O2", "-static", fmt.Sprintf("-DDOWNLOAD_BYTES=%dLL", bulk), "-pthread", "-x", "c", "-", "-o", r.program(base)}
	if strings.HasPrefix(base, "libfcgi") {
		args = append(args[:1], append(args[2:], "-lfcgi")...) // Debian's is a shared library first of all
	}
	cmd := exec.CommandContext(r.ctx, "gcc", args...)
	cmd.Stdin = bytes.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile %s: %w: %s", name, err, out)
	}
	return nil
}

// path is a file of the rig's folder.
func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

// program is a program that install has installed.
func (r *rig) program(name string) string { return filepath.Join(r.dir, "cgi", name) }

// once starts a server of the running case and waits until it listens at its
// address, or returns the one of that name that runs already.
func (r *rig) once(name, network, address string, command func() (*exec.Cmd, error)) (*server, error) {
	if s := r.servers[name]; s != nil {
		return s, nil
	}
	cmd, err := command()
	if err != nil {
		return nil, err
	}
	p, err := start(r.dir, cmd)
	if err != nil {
		return nil, err
	}
	s := &server{p, network, address}
	r.servers[name], r.order = s, append(r.order, s)
	return s, s.ready(r.ctx, network, address)
}

// endServers ends the servers of a case, the last one first.
func (r *rig) endServers() {
	if r.base != nil {
		r.base.endServers()
	}
	for i := len(r.order) - 1; i >= 0; i-- {
		r.order[i].end()
		if r.order[i].network == "unix" {
			os.Remove(r.order[i].address)
		}
	}
	r.servers, r.order = make(map[string]*server), nil
}

// need finds a peer's program.
func need(names ...string) (string, error) {
	for _, name := range names {
		if matches, _ := filepath.Glob(name); len(matches) > 0 {
			return matches[len(matches)-1], nil
		}
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed; bench/packages installs it", filepath.Base(names[0]))
}

// freeAddress is a loopback address that nothing listens on.
func freeAddress() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err) // no loopback
	}
	defer l.Close()
	return l.Addr().String()
}

// openFiles is how many files a process may have open.
func openFiles() int {
	var limit syscall.Rlimit
	syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	return int(min(limit.Max, 1<<30))
}

// userName is who runs the benchmark.
func userName() string {
	u, err := user.Current()
	if err != nil {
		return "root"
	}
	return u.Username
}

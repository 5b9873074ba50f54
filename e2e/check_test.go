//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// A verdict is what fcgid check and fcgid serve are to say of a file in a folder DIR, with a pool
// after it unless it has pools, as root or as somebody else.
type verdict struct {
	name, file string
	prepare    func(t *testing.T, dir string)
	as         *syscall.Credential
	tmp        string      // TMPDIR
	mode       os.FileMode // of a copy of the program; 0: it is the program
	code       int
	says       string // by both
	busy       bool   // check only warns: who has the address may have gone by then
	at         string // by check, before says
}

var nobody = &syscall.Credential{Uid: 65534, Gid: 65534}

const (
	quiet     = "admin: {listen: ''}\n"
	apartOf   = quiet + "user: nobody\n"
	fPool     = "pools: [{name: f, timeout: 5s, listen: 'unix:DIR/own/s', function: {}}]\n"
	ownedPool = "pools: [{name: f, timeout: 5s, listen: {address: 'unix:DIR/own/s', "
)

// below makes a preparation of changes to files below the folder.
func below(changes ...any) func(t *testing.T, dir string) {
	return func(t *testing.T, dir string) {
		for i := 0; i < len(changes); i += 2 {
			path := filepath.Join(dir, changes[i].(string))
			var err error
			switch to := changes[i+1].(type) {
			case os.FileMode:
				err = os.Chmod(path, to)
			case int: // whose it is
				err = os.Chown(path, to, to)
			case string:
				err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(strings.ReplaceAll(to, "DIR", dir)), 0o644))
			case func(path string) error:
				err = to(path)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// listens has somebody else listen at a path until the test is over.
func listens(t *testing.T, network, address string) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

// addressOf is the TCP address in the file of a folder.
func addressOf(t *testing.T, dir string) string {
	t.Helper()
	_, rest, _ := strings.Cut(read(t, dir+"/f.yaml"), "'tcp:")
	address, _, _ := strings.Cut(rest, "'")
	return address
}

// dead makes the socket of a daemon that was killed.
func dead(path string) error {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		err = errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Close(fd), os.Chmod(path, 0o777))
	}
	return err
}

func link(to string) func(path string) error {
	return func(path string) error { return os.Symlink(to, path) }
}

func folderFor(uid int, mode os.FileMode) func(path string) error {
	return func(path string) error {
		return errors.Join(os.Mkdir(path, 0o700), os.Chown(path, uid, uid), os.Chmod(path, mode))
	}
}

var verdicts = []verdict{
	// Who can change the files that root relies on.
	{name: "apart", file: apartOf},
	{name: "a file that all can write", file: apartOf, prepare: below("f.yaml", os.FileMode(0o777)), code: 78, says: "file DIR/f.yaml could be changed by others than root"},
	{name: "another's file", file: apartOf, prepare: below("f.yaml", 1), code: 78, says: "file DIR/f.yaml could be changed by others than root"},
	{name: "a folder above", file: apartOf, prepare: below("", os.FileMode(0o777)), code: 78, says: "folder DIR could be changed by others than root"},
	{name: "an included file", file: apartOf + "include: [more/a.yaml]\n", prepare: below("more/a.yaml", "pools: []\n", "more/a.yaml", os.FileMode(0o666)), code: 78, says: "file DIR/more/a.yaml could be changed"},
	{name: "an included folder", file: apartOf + "include: ['more/*.yaml']\n", prepare: below("more/a.yaml", "pools: []\n", "more", 1), code: 78, says: "folder DIR/more could be changed"},
	{name: "such a file in one process", file: quiet, prepare: below("f.yaml", os.FileMode(0o777))},

	{name: "a program of root's alone", file: apartOf, mode: 0o700, code: 1, says: "permission denied"},
	{name: "a program of root's alone, in one process", file: quiet, mode: 0o700},

	// Sockets.
	{name: "a folder that is another's", file: apartOf, prepare: below("own", 1), code: 1, at: "pools[0].listen: ", says: "folder DIR/own: permission denied: others than root can change this folder, so only the rights of the socket's owner count there (user 65534)"},
	{name: "a folder that is the daemon's", file: apartOf, prepare: below("own", 65534)},
	{name: "the folder of the owner", file: apartOf + ownedPool + "owner: daemon}, function: {}}]\n", prepare: below("own", 1)},
	{name: "a folder that is not there", file: quiet + strings.Replace(fPool, "/own/", "/none/", 1), code: 1, at: "pools[0].listen: ", says: "folder DIR/none: no such file or directory"},
	{name: "a folder that is a file", file: quiet + strings.Replace(fPool, "/own/", "/f.yaml/", 1), code: 1, says: "folder DIR/f.yaml: not a directory"},
	{name: "what is no socket", file: quiet, prepare: below("own/s", "text"), code: 1, says: "DIR/own/s exists and is no socket"},
	{name: "a folder that takes no files", file: quiet + strings.Replace(fPool, "DIR/own/s", "/sys/fcgid-e2e", 1), code: 1},
	{name: "a dead socket", file: quiet, prepare: below("own/s", dead)},
	{name: "a dead socket, apart", file: apartOf, prepare: below("own/s", dead)},
	{name: "another's dead socket in a sticky folder", file: quiet, as: nobody, prepare: below("own/s", dead, "own", os.FileMode(0o777|os.ModeSticky)), code: 1, says: "unlink DIR/own/s: operation not permitted"},
	{name: "root's dead socket in a sticky folder", file: apartOf, prepare: below("own/s", dead, "own", os.FileMode(0o777|os.ModeSticky)), code: 1, says: "unlink DIR/own/s: operation not permitted"},
	{name: "a socket in use", file: quiet, prepare: func(t *testing.T, dir string) { listens(t, "unix", dir+"/own/s") }, code: 1, says: "address in use: another process answers on it", busy: true},
	{name: "a socket in use, to be given to another group", file: quiet + ownedPool + "group: daemon}, function: {}}]\n", as: nobody, code: 1, says: "DIR/own/s",
		prepare: func(t *testing.T, dir string) { listens(t, "unix", dir+"/own/s"); below("own", 65534)(t, dir) }},
	{name: "a port in use", file: quiet + "pools: [{name: f, timeout: 5s, listen: 'tcp:127.0.0.1:PORT', function: {}}]\n", code: 1, says: "address in use: another process listens on it", busy: true,
		prepare: func(t *testing.T, dir string) { listens(t, "tcp", addressOf(t, dir)) }},
	{name: "a name in use", file: quiet + strings.Replace(fPool, "DIR/own/s", "@DIR", 1), prepare: func(t *testing.T, dir string) { listens(t, "unix", "@"+dir) }, code: 1, says: "address in use: another process holds the name", busy: true},
	{name: "two names of one socket", file: quiet + "pools: [{name: f, timeout: 5s, listen: ['unix:DIR/own/s', 'unix:DIR/also/s'], function: {}}]\n", prepare: below("also", link("own")), code: 1, at: "pools[0].listen[1]: ", says: "address in use"},
	{name: "two hosts of one port", file: quiet + "pools: [{name: f, timeout: 5s, listen: ['tcp:127.0.0.1:PORT', 'tcp:localhost:PORT'], function: {}}]\n", code: 1, says: "address in use"},
	{name: "a host among all hosts", file: quiet + "pools: [{name: f, timeout: 5s, listen: [{address: 'tcp:0.0.0.0:PORT', allow: [127.0.0.0/8]}, 'tcp:127.0.0.1:PORT'], function: {}}]\n", code: 1, says: "address in use"},
	{name: "hosts of two families", file: quiet + "pools: [{name: f, timeout: 5s, listen: [{address: 'tcp:0.0.0.0:PORT', allow: [127.0.0.0/8]}, 'tcp:[::1]:PORT'], function: {}}]\n"},
	{name: "the admin server's port", file: "admin: {listen: 'tcp:127.0.0.1:PORT', control: auto}\npools: [{name: f, timeout: 5s, listen: 'tcp:127.0.0.1:PORT', function: {}}]\n", code: 78, says: "already used at"},
	{name: "the admin server's port, by another name", file: "admin: {listen: 'tcp:localhost:PORT', control: auto}\npools: [{name: f, timeout: 5s, listen: 'tcp:127.0.0.1:PORT', function: {}}]\n", code: 1, says: "address in use"},
	{name: "another machine's address", file: quiet + "pools: [{name: f, timeout: 5s, listen: {address: 'tcp:192.0.2.7:PORT', allow: [192.0.2.0/24]}, function: {}}]\n", code: 1, says: "cannot assign requested address"},
	{name: "a control socket in no folder", file: "admin: {listen: '', control: 'unix:DIR/none/c'}\n", code: 1, says: "folder DIR/none: no such file or directory"},

	// Who is not root.
	{name: "an owner without root", file: quiet + ownedPool + "owner: daemon}, function: {}}]\n", as: nobody, prepare: below("own", 65534), code: 1, says: "chown DIR/own/s 1:-1: operation not permitted"},
	{name: "a group without root", file: quiet + ownedPool + "group: daemon}, function: {}}]\n", as: nobody, prepare: below("own", 65534), code: 1, says: "chown DIR/own/s -1:1: operation not permitted"},
	{name: "a group of one's own", file: quiet + ownedPool + "group: daemon}, function: {}}]\n", as: &syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{1}}, prepare: below("own", 65534)},
	{name: "the group of the folder", file: quiet + ownedPool + "group: daemon}, function: {}}]\n", as: nobody, prepare: below("own", folderAgain(65534, 1, 0o755|os.ModeSetgid))},
	{name: "a foreign folder without root", file: quiet, as: nobody, code: 1, says: "folder DIR/own: permission denied"},
	{name: "a sandbox without root", file: quiet + "pools: [{name: p, timeout: 5s, listen: 'unix:DIR/own/s', process: {root: [/usr/bin]}, sandbox: {chroot: /usr}}]\n", as: nobody, prepare: below("own", 65534), code: 1, says: "pool p: sandbox.chroot: needs root"},

	// Logs.
	{name: "a log in a folder of root's", file: apartOf + "log: {output: DIR/own/log}\n", code: 1, at: "log.output: ", says: "open log: open DIR/own/log: permission denied"},
	{name: "a log of root's", file: apartOf + "access_log: {output: DIR/logs/log}\n", prepare: below("logs", folderFor(65534, 0o755), "logs/log", ""), code: 1, at: "access_log.output: ", says: "open log: open DIR/logs/log: permission denied"},
	{name: "a log of the daemon's", file: apartOf + "log: {output: DIR/logs/log}\n", prepare: below("logs", folderFor(65534, 0o755))},
	{name: "a slow log", file: apartOf + "pools: [{name: f, timeout: 5s, listen: 'unix:DIR/own/s', slow: {after: 1s, log: DIR/none/log}, function: {}}]\n", code: 1, at: "pools[0].slow.log: ", says: "open log: open DIR/none/log: no such file or directory"},
	{name: "a log that is a folder", file: quiet + "log: {output: DIR/own}\n", code: 1, says: "open log: open DIR/own: is a directory"},
	{name: "a log by a link to nothing", file: quiet + "log: {output: DIR/log}\n", prepare: below("log", link("none/log")), code: 1, says: "open log: open DIR/log: no such file or directory"},
	{name: "a log by a link", file: quiet + "log: {output: DIR/log}\n", prepare: below("log", link("own/log"))},
	{name: "a log below a file", file: quiet + "log: {output: DIR/f.yaml/log}\n", code: 1, says: "open log: open DIR/f.yaml/log: not a directory"},

	// What workers need.
	{name: "no folder for workers", file: quiet + "pools: [{name: w, timeout: 5s, listen: 'unix:DIR/own/s', worker: {command: [/bin/cat], max: 1}}]\n", tmp: "DIR/none", code: 1, says: "make a folder for workers' sockets: "},
	{name: "no folder for the daemon's workers", file: apartOf + "pools: [{name: w, timeout: 5s, listen: 'unix:DIR/own/s', user: daemon, worker: {command: [/bin/cat], max: 1}}]\n", tmp: "DIR/own", code: 1, says: "make a folder for workers' sockets: "},
	{name: "no folder for direct workers", file: quiet + "pools: [{name: w, listen: 'unix:DIR/own/s', worker: {command: [/bin/cat], max: 1, connections: direct, scale: static}}]\n", tmp: "DIR/none"},
}

// folderAgain changes a folder that is there.
func folderAgain(uid, gid int, mode os.FileMode) func(path string) error {
	return func(path string) error { return errors.Join(os.Chown(path, uid, gid), os.Chmod(path, mode)) }
}

// What check passes, a start does not refuse for what was there to be seen, and the other way
// round; and check leaves nothing behind.
func TestCheckIsTheStart(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for _, v := range verdicts {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			v.test(t)
		})
	}
}

func (v *verdict) test(t *testing.T) {
	dir := folder(t)
	if err := os.Mkdir(dir+"/own", 0o755); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(freeAddress(t))
	fill := strings.NewReplacer("DIR", dir, "PORT", port).Replace
	text := v.file
	if !strings.Contains(text, "pools:") {
		text += fPool
	}
	file := write(t, dir+"/f.yaml", fill(text))
	if v.prepare != nil {
		v.prepare(t, dir)
	}
	program := binary
	if v.mode != 0 {
		program = dir + "/fcgid"
		text := read(t, binary)
		if err := errors.Join(os.WriteFile(program, []byte(text), 0o700), os.Chmod(program, v.mode)); err != nil {
			t.Fatal(err)
		}
	}
	command := func(verb string) *exec.Cmd {
		cmd := exec.Command(program, verb, "-c", file)
		cmd.Dir = dir
		if v.tmp != "" {
			cmd.Env = append(os.Environ(), "TMPDIR="+fill(v.tmp))
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: v.as}
		return cmd
	}
	before := tree(t, dir)
	check := command("check")
	out, _ := check.CombinedOutput()
	if after := tree(t, dir); !slices.Equal(before, after) {
		t.Errorf("check has changed %v to %v", before, after)
	}
	p := harness.Start(t, command("serve"))
	await(t, "the start, or its end", func() bool { return p.Exited() || strings.Contains(p.Out.String(), `"serving"`) || v.serves(dir) })
	code := 0
	if p.Exited() {
		code = p.ProcessState.ExitCode()
	}
	wantCheck := v.code
	if v.busy {
		wantCheck = 0
	}
	if got := check.ProcessState.ExitCode(); got != wantCheck || code != v.code {
		t.Errorf("check exits with %d, serve with %d, want %d\ncheck: %s\nserve: %s", got, code, v.code, out, p.Out.String())
	}
	if want := fill(v.says); !strings.Contains(string(out), v.at) || !strings.Contains(string(out), want) || !strings.Contains(p.Out.String(), want) {
		t.Errorf("not said by both: %s %q\ncheck: %s\nserve: %s", v.at, want, out, p.Out.String())
	}
}

// serves reports whether a log in a file says so.
func (v *verdict) serves(dir string) bool {
	for _, path := range []string{dir + "/logs/log", dir + "/own/log"} {
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), `"serving"`) {
			return true
		}
	}
	return false
}

// tree are the files below a folder, with mode and owner.
func tree(t *testing.T, dir string) (files []string) {
	t.Helper()
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // by now
		}
		if err == nil {
			stat := info.Sys().(*syscall.Stat_t)
			files = append(files, fmt.Sprint(path, info.Mode(), stat.Uid, stat.Gid, stat.Ino, info.Size()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Who has no account yet is told how to get one.
func TestCheckOfNoUser(t *testing.T) {
	needRoot(t)
	dir := folder(t)
	write(t, dir+"/f.yaml", "user: fcgid-e2e\npools: [{name: a, listen: 'unix:@"+dir+"', user: web-e2e, timeout: 5s, process: {root: [/usr]}}]\n")
	for _, verb := range []string{"check", "serve"} {
		code, _, stderr := fcgid(t, dir, nil, verb, "-c", "f.yaml")
		for _, name := range []string{"fcgid-e2e", "web-e2e"} {
			want := "unknown user " + name + " (useradd --system --user-group --no-create-home --shell /usr/sbin/nologin " + name + " makes one; or systemd-sysusers, by a file in /etc/sysusers.d with the line u " + name + " - - /)"
			if code != 78 || !strings.Contains(stderr, want) {
				t.Errorf("%s: %d, %s lacks %q", verb, code, stderr, want)
			}
		}
	}
}

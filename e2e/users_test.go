//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
	"github.com/fcgid/fcgid/fcgi"
)

// needRoot skips a test of what only root can do.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can do that")
	}
}

// asUser are the keys of a pool whose programs run as a user and group without account.
func asUser(id int) string { return fmt.Sprintf("user: %q, group: %q", fmt.Sprint(id), fmt.Sprint(id)) }

// programsOf are the names of a user's processes, by pid, as ps has them.
func programsOf(t testing.TB, uid uint32) map[int]string {
	t.Helper()
	names := make(map[int]string)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		info, infoErr := e.Info()
		if err != nil || infoErr != nil || info.Sys().(*syscall.Stat_t).Uid != uid {
			continue
		}
		if name, err := os.ReadFile("/proc/" + e.Name() + "/comm"); err == nil {
			names[pid] = strings.TrimSpace(string(name))
		}
	}
	return names
}

const whoAmI = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%s %s %s %s' \"$(id -u)\" \"$(id -g)\" \"$(id -G)\" \"$HOME\"\n"

// Three pools of one daemon run their programs as three users: CGI programs and workers.
func TestUsers(t *testing.T) {
	needRoot(t)
	t.Parallel()
	dir := folder(t)
	who := script(t, dir+"/cgi/who", whoAmI)
	write(t, dir+"/cgi/who.php", "<?php echo posix_geteuid(), ' ', posix_getegid(), ' ', implode(' ', posix_getgroups());")
	body := script(t, dir+"/cgi/body", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\nwc -c </dev/stdin; echo >/dev/stderr\n")
	secret := script(t, dir+"/cgi/secret/who", whoAmI)
	for path, mode := range map[string]os.FileMode{dir + "/cgi/secret": 0o700, dir + "/cgi/who": 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	pool := func(name string, id int, runs string) string {
		return fmt.Sprintf("- {name: %s, listen: 'unix:%s/%s.s', %s, groups: [\"7\"], %s}\n", name, dir, name, asUser(id), strings.ReplaceAll(runs, "DIR", dir))
	}
	d := serve(t, dir, pool("a", 64001, "process: {root: [DIR/cgi]}, limits: {body_memory: 4KiB}")+
		pool("b", 64002, "process: {root: [DIR/cgi]}")+
		pool("php", 64003, "worker: {command: ["+need(t, "php-cgi")+"], root: [DIR/cgi], max: 1}"))
	get := func(pool, script string, body []byte) string {
		t.Helper()
		req := &fcgi.Request{Close: true, Params: params(script)}
		if body != nil {
			req.Stdin = bytes.NewReader(body)
			req.Params.Set("REQUEST_METHOD", "POST")
		}
		_, out := ask(t, "unix", dir+"/"+pool+".s", req)
		_, text, _ := strings.Cut(out, "\r\n\r\n")
		if status := out[:min(11, len(out))]; strings.HasPrefix(status, "Status: ") && status != "Status: 200" {
			return status
		}
		return strings.TrimSpace(text)
	}
	for pool, want := range map[string]string{"a": "64001 64001 64001 7 /", "b": "64002 64002 64002 7 /"} {
		if got := get(pool, who, nil); got != want {
			t.Errorf("pool %s runs its programs as %q, want %q", pool, got, want)
		}
	}
	if got := get("php", dir+"/cgi/who.php", nil); got != "64003 64003 7" {
		t.Errorf("workers run as %q", got)
	}
	// A body in a file, one that is given at the start, and one by a pipe.
	for _, n := range []int{100 << 10, 100} {
		for _, pool := range []string{"a", "b"} {
			if got := get(pool, body, bytes.Repeat([]byte("x"), n)); got != fmt.Sprint(n) {
				t.Errorf("pool %s: a program that opens /dev/stdin of %d bytes has read %q", pool, n, got)
			}
		}
	}
	// What the daemon may look through, and the pool's user may not.
	for _, pool := range []string{"a", "php"} {
		if got := get(pool, secret, nil); got != "Status: 403" {
			t.Errorf("pool %s: a script in a folder that is not its user's: %q", pool, got)
		}
	}
	// The log says who may not, and what denies it.
	for _, user := range []string{"64001", "64003"} {
		denied := "permission denied to user " + user + ": the folder " + dir + "/cgi/secret has mode 0700, owner root and group root"
		await(t, denied, func() bool { return strings.Contains(d.out.String(), denied) })
	}
	out, err := exec.Command(binary, "status", "--admin", "tcp:"+d.admin).CombinedOutput()
	for _, want := range []string{"process as 64001", "process as 64002", "worker (dynamic) as 64003"} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%v: fcgid status lacks %q:\n%s", err, want, out)
		}
	}
	if names := programsOf(t, 64003); len(names) != 1 || !slices.ContainsFunc(slices.Collect(maps.Values(names)), func(name string) bool { return strings.HasPrefix(name, "php-cgi") }) {
		t.Errorf("the workers' user has the processes %v", names)
	}
}

// A reload that changes the user of a pool loses no request, and then every program has
// the new one.
func TestReloadOfUser(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for name, runs := range map[string]string{
		"process": "process: {root: [DIR/cgi]}",
		"worker":  "worker: {command: [" + need(t, "php-cgi") + "], max: 2}",
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "unix", runs+", "+asUser(64001))
			path := s.script("who", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%s' \"$(id -u)\"\n")
			if name == "worker" {
				path = write(t, s.dir+"/cgi/who.php", "<?php header('Content-Type: text/plain'); echo posix_geteuid();")
			}
			pools := []string{s.pool("cgi", runs+", "+asUser(64001)), s.pool("cgi", runs+", "+asUser(64002))}
			end := s.storm(pools...)
			bodies := s.flood(1000, func(int) (caller, func()) { return s.straight(path) })
			reloads := end()
			if bodies["64001"]+bodies["64002"] != 1000 {
				t.Errorf("%d reloads: answers are %v", reloads, bodies)
			}
			s.configure(pools[1])
			s.reload(t)
			await(t, "the new user's programs", func() bool {
				_, out := s.ask(path, nil)
				return strings.HasSuffix(out, "64002")
			})
		})
	}
}

// The example of the documentation, for a user that there is.
func TestDocumentedUser(t *testing.T) {
	needRoot(t)
	t.Parallel()
	dir := folder(t)
	who := script(t, dir+"/cgi/who", whoAmI)
	serve(t, dir, strings.TrimPrefix(harness.Documented(t, "docs/users.md", "user-of-a-pool",
		"/run/fcgid/alice.sock", dir+"/s", "user: alice", "user: daemon", "/home/alice/cgi-bin", dir+"/cgi"), "pools:\n"))
	if _, out := ask(t, "unix", dir+"/s", &fcgi.Request{Close: true, Params: params(who)}); !strings.HasSuffix(out, "1 1 1 /usr/sbin") {
		t.Errorf("the program runs as %q", out)
	}
}

// So is the other example.
func TestDocumentedOwner(t *testing.T) {
	needRoot(t)
	t.Parallel()
	dir := folder(t)
	who := script(t, dir+"/home/nobody/who.cgi", whoAmI)
	for _, path := range []string{who, dir + "/home/nobody"} {
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	rooted := script(t, dir+"/home/root.cgi", whoAmI)
	sample := harness.Documented(t, "docs/users.md", "owner-of-a-script", "/run/fcgid/homes.sock", dir+"/s", "[/home]", "["+dir+"/home]")
	run(t, exec.Command(binary, "check", "-c", write(t, dir+"/apart.yaml", "user: daemon\nadmin: {listen: ''}\n"+sample))) // as below the packaged file's user
	d := serve(t, dir, strings.TrimPrefix(sample, "pools:\n"))
	if _, out := ask(t, "unix", dir+"/s", &fcgi.Request{Close: true, Params: params(who)}); !strings.HasSuffix(out, "65534 65534 65534 /nonexistent") {
		t.Errorf("the script runs as %q", out)
	}
	if _, out := ask(t, "unix", dir+"/s", &fcgi.Request{Close: true, Params: params(rooted)}); !strings.HasPrefix(out, "Status: 403") {
		t.Errorf("root's script: %q", out)
	}
	await(t, "a word in the log", func() bool { return strings.Contains(d.out.String(), "user 0 is below sandbox.min_uid, which is 1000") })
	if out := run(t, exec.Command(binary, "status", "--admin", "tcp:"+d.admin)); !strings.Contains(out, "process as the script's owner") {
		t.Errorf("fcgid status:\n%s", out)
	}
}

// What a program of one pool tries with those of another, and with the daemon, is refused
// by the kernel.
func TestUsersApart(t *testing.T) {
	needRoot(t)
	t.Parallel()
	dir := folder(t)
	closed := dir + "/closed"
	write(t, closed+"/index.php", "<?php // password")
	if err := os.Chown(closed, 64012, 64012); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0o750); err != nil {
		t.Fatal(err)
	}
	worker := need(t, "php-cgi")
	thief := script(t, dir+"/cgi/thief", `#!/bin/sh
printf 'Content-Type: text/plain\n\n'
try() { echo "$1: $(shift; "$@" 2>&1 && echo DONE)"; }
for pid in $QUERY_STRING; do
	try environment cat /proc/$pid/environ
	try memory cat /proc/$pid/mem
	try descriptors ls /proc/$pid/fd
	try signal kill -9 $pid
done
try script cat `+closed+`/index.php
try write sh -c 'echo x >`+closed+`/index.php'
for socket in $SOCKETS; do try "socket $socket" python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])' "$socket"; done
try control cat /proc/self/fd/3
try root sh -c 'test "$(id -u)" = 0'
try become su root -c true </dev/null
`)
	d := serve(t, dir, fmt.Sprintf("- {name: thief, listen: 'unix:%s/t.s', %s, process: {root: [%s/cgi]}}\n", dir, asUser(64011), dir)+
		fmt.Sprintf("- {name: victim, listen: 'unix:%s/v.s', %s, env: [PASSWORD=secret], worker: {command: [%s], root: [%s], max: 1}}\n", dir, asUser(64012), worker, closed))
	_, page := ask(t, "unix", dir+"/v.s", &fcgi.Request{Close: true, Params: params(closed + "/index.php")})
	if strings.HasPrefix(page, "Status: ") {
		t.Fatalf("the victim's own page: %q", page)
	}
	victims := slices.Collect(maps.Keys(programsOf(t, 64012)))
	if len(victims) != 1 {
		t.Fatalf("the victim has the processes %v", victims)
	}
	sockets := workerSockets(t, d.Cmd.Process.Pid)
	_, out := ask(t, "unix", dir+"/t.s", &fcgi.Request{Close: true, Params: params(thief, "QUERY_STRING", fmt.Sprintf("%d %d", d.Cmd.Process.Pid, victims[0]),
		"SOCKETS", strings.Join(sockets, " "))})
	if !strings.Contains(out, "socket "+sockets[0]+": ") || strings.Contains(out, "DONE") || strings.Contains(out, "secret") || strings.Contains(out, "password") || strings.Count(out, "\n") < 12 {
		t.Errorf("what the thief has done:\n%s", out)
	}
	if _, again := ask(t, "unix", dir+"/v.s", &fcgi.Request{Close: true, Params: params(closed + "/index.php")}); again != page {
		t.Errorf("the victim's page is now %q", again)
	}
	// And fcgid check says so where a pool's user cannot go.
	write(t, dir+"/check.yaml", fmt.Sprintf("admin: {listen: ''}\npools: [{name: lost, listen: 'unix:%s/x.s', %s, process: {root: [%s]}}]\n", dir, asUser(64011), closed))
	if out := run(t, exec.Command(binary, "check", "-c", dir+"/check.yaml")); !strings.Contains(out, "warning: pool lost: its user 64011 cannot go to "+closed+": permission denied to user 64011: the folder "+closed+" has mode 0750, owner 64012 and group 64012; its scripts are answered with 403\n") {
		t.Errorf("check says %s", out)
	}
}

// workerSockets are those on which the workers of a daemon listen: it holds their folder.
func workerSockets(t *testing.T, daemon int) (paths []string) {
	t.Helper()
	held, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", daemon))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range held {
		if folder, err := os.Readlink(fd); err == nil && strings.Contains(folder, "fcgid-workers-") {
			found, _ := filepath.Glob(folder + "/*")
			paths = append(paths, found...)
		}
	}
	if len(paths) == 0 {
		t.Fatalf("no worker of %d listens", daemon)
	}
	return paths
}

// Who is not root is told what to do about a user.
func TestUserWithoutRoot(t *testing.T) {
	needRoot(t)
	t.Parallel()
	dir := folder(t)
	file := write(t, dir+"/fcgid.yaml", "admin: {listen: '', control: ''}\npools: [{name: a, listen: 'unix:"+dir+"/s', user: root, process: {root: [/usr]}}]\n")
	for _, verb := range []string{"check", "serve"} {
		cmd := exec.Command(binary, verb, "-c", file)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 78 || !strings.Contains(string(out), "pools[0].user: only root can start programs as somebody else, and this is user nobody: start fcgid as root, or") {
			t.Errorf("%s: %v %s", verb, err, out)
		}
	}
}

// Who is not root is the daemon, whoever the file names, and is told so.
func TestGlobalUserWithoutRoot(t *testing.T) {
	needRoot(t)
	t.Parallel()
	dir := folder(t)
	file := write(t, dir+"/fcgid.yaml", "admin: {listen: '', control: ''}\nuser: daemon\npools: [{name: a, listen: 'unix:@"+dir+"/s', user: nobody, process: {root: [/usr]}, timeout: 5s}]\n")
	as := func(cmd *exec.Cmd) *exec.Cmd {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		return cmd
	}
	const want = "user: only root can become somebody else: the daemon is nobody, who starts it"
	if out, err := as(exec.Command(binary, "check", "-c", file)).CombinedOutput(); err != nil || !strings.Contains(string(out), "warning: "+file+":2:7: "+want) {
		t.Errorf("check: %v %s", err, out)
	}
	p := harness.Start(t, as(exec.Command(binary, "serve", "-c", file)))
	await(t, "the warning", func() bool {
		return strings.Contains(p.Out.String(), want) && strings.Contains(p.Out.String(), "serving")
	})
}

//go:build e2e

package e2e

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
	"github.com/fcgid/fcgid/fcgi"
)

// outsideTmp is a folder that a private /tmp does not hide.
func outsideTmp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/srv", "f")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// say is the body of a script's answer.
func say(t *testing.T, socket, script string, more ...string) string {
	t.Helper()
	_, text := ask(t, "unix", socket, &fcgi.Request{Params: params(script, more...)})
	_, body, _ := strings.Cut(text, "\r\n\r\n")
	return strings.TrimSpace(body)
}

const textHead = "Content-Type: text/plain\\n\\n"

// A playground is a folder with scripts, honest ones and hostile ones.
type playground struct {
	dir     string
	hostile []string // commands, of which each has its script
}

var honest = map[string]string{
	"sh.cgi":     "#!/bin/sh\nprintf 'HEAD'; cat /dev/stdin; echo $(echo hello | sed s/h/H/) >DIR/data/a$$ && cat DIR/data/a$$\n",
	"perl.cgi":   "#!/usr/bin/perl\nuse POSIX; use Socket; print \"HEAD\", ucfirst 'hello'\n",
	"python.cgi": "#!/usr/bin/python3\nimport json, ssl, random, os\nprint('HEAD', end='')\nopen('DIR/data/p' + str(os.getpid()), 'w')\nprint('Hello')\n",
	"git.cgi":    "#!/bin/sh\nexport HOME=/nonexistent; printf 'HEAD'; cd DIR/data && git init -q r$$ && cd r$$ && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m Hello && git log --format=%s\n",
}

func newPlayground(t *testing.T) *playground {
	t.Helper()
	p := &playground{dir: outsideTmp(t)}
	for _, name := range []string{"/data", "/run"} {
		if err := errors.Join(os.Mkdir(p.dir+name, 0o777), os.Chmod(p.dir+name, 0o777)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range honest {
		script(t, p.dir+"/www/"+name, strings.NewReplacer("HEAD", textHead, "DIR", p.dir).Replace(text))
	}
	secret := write(t, p.dir+"/other/secret", "secret")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	p.hostile = []string{
		"cat /etc/shadow", "cat " + secret, "ls /root", "cat /proc/$PPID/environ", "kill -0 $PPID", "ls " + p.dir, "echo >" + p.dir + "/www/x", "echo >/etc/x",
		"ls " + os.TempDir() + " | grep fcgid-e2e", "rm " + secret, "cp /bin/true " + p.dir + "/data/x && " + p.dir + "/data/x", "mount -t tmpfs none /mnt",
		"bash -c 'echo >/dev/tcp/127.0.0.1/" + port + "'", "perl -MSocket -e 'socket(S, AF_INET, SOCK_DGRAM, 0) or exit 1'", "ulimit -Hn 100000",
		"unshare -rn true && unshare -rn ip link set lo up",
	}
	if runtime.GOARCH == "amd64" {
		// The number of socket(2) for 32-bit programs, which any program can call.
		run(t, exec.Command(need(t, "gcc"), "-static", "-o", p.dir+"/www/int80", write(t, p.dir+"/other/int80.c",
			`int main(void) { long r; __asm__ volatile("int $0x80" : "=a"(r) : "a"(359), "b"(2), "c"(1), "d"(0) : "memory"); return (int)r < 0; }`)))
		run(t, exec.Command(p.dir+"/www/int80"))
		p.hostile = append(p.hostile, p.dir+"/www/int80")
	}
	for i, command := range p.hostile {
		script(t, p.script(i), "#!/bin/sh\nprintf '"+textHead+"'; ("+command+") >/dev/null 2>&1 && echo done || echo refused\n")
	}
	return p
}

func (p *playground) script(i int) string { return fmt.Sprintf("%s/www/hostile%d.cgi", p.dir, i) }

// play asks for all of them.
func (p *playground) play(t *testing.T, d *daemon) {
	t.Helper()
	for name := range honest {
		if got := say(t, p.dir+"/run/www.sock", p.dir+"/www/"+name); got != "Hello" {
			t.Errorf("%s says %q\n%s", name, got, d.out)
		}
	}
	for i, command := range p.hostile {
		if got := say(t, p.dir+"/run/www.sock", p.script(i)); got != "refused" {
			t.Errorf("%s: %s", command, got)
		}
	}
}

// pools is the configuration of the documents.
func (p *playground) pools(t *testing.T) string {
	t.Helper()
	text := strings.NewReplacer("/run/fcgid/", p.dir+"/run/", "/srv/", p.dir+"/").Replace(harness.Documented(t, "docs/sandbox.md", "sandbox-strict"))
	return strings.TrimPrefix(text, "pools:\n")
}

// The sandbox of the documents keeps honest programs running, and hostile ones from what
// is not theirs: root's, a user's of whom nothing else is, and those of a daemon that is
// no root itself.
func TestDocumentedSandbox(t *testing.T) {
	t.Parallel()
	t.Run("root", func(t *testing.T) {
		p := newPlayground(t)
		p.play(t, serve(t, folder(t), p.pools(t)))
	})
	t.Run("a user", func(t *testing.T) {
		p := newPlayground(t)
		p.play(t, serve(t, folder(t), p.pools(t)+"    user: nobody\n"))
	})
	t.Run("an ordinary daemon", func(t *testing.T) {
		p, dir := newPlayground(t), folder(t)
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		d := launch(t, dir, p.pools(t), asNobody)
		p.play(t, d)
		await(t, "a warning that /tmp is not private", func() bool { return strings.Contains(d.out.String(), `"key":"sandbox.private_tmp"`) })
	})
}

// PHP's workers run under strict too, also those of an ordinary user's daemon, which cannot
// give them a /tmp of their own.
func TestSandboxOfPHP(t *testing.T) {
	t.Parallel()
	for name, as := range map[string]func(*exec.Cmd){"root": func(*exec.Cmd) {}, "an ordinary daemon": asNobody} {
		t.Run(name, func(t *testing.T) {
			dir, home, session := outsideTmp(t), folder(t), strings.ToLower(rand.Text())
			if err := errors.Join(os.Chmod(dir, 0o777), os.Chmod(home, 0o777)); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.Remove("/var/lib/php/sessions/sess_" + session) }) // Debian's
			file := write(t, dir+"/app/public/a.php", `<?php session_start(); $_SESSION["n"] = ($_SESSION["n"] ?? 0) + 1;
		echo $_SESSION["n"], " ", @file_get_contents("/etc/shadow") === false ? "refused" : "read", " ", @fsockopen("127.0.0.1", 80) ? "open" : "closed", " ",
		($f = tempnam("/tmp", "x")) && unlink($f) ? "tmp" : "none", " ", @file_put_contents(__DIR__ . "/x", "x") === false ? "refused" : "written", " ",
		@file_put_contents(dirname(__DIR__) . "/var/x", "x") === false ? "refused" : "written";`)
			for _, name := range []string{"/app/public", "/app/var"} {
				if err := errors.Join(os.MkdirAll(dir+name, 0o777), os.Chmod(dir+name, 0o777)); err != nil {
					t.Fatal(err)
				}
			}
			pools := strings.NewReplacer("/run/fcgid/", dir+"/", "/srv/", dir+"/", "/usr/bin/php-cgi", need(t, "php-cgi")).Replace(harness.Documented(t, "docs/sandbox.md", "sandbox-php"))
			d := launch(t, home, strings.TrimPrefix(pools, "pools:\n"), as, func(cmd *exec.Cmd) { cmd.Env = append(os.Environ(), "TMPDIR="+home) })
			for n := range 4 {
				if got, want := say(t, dir+"/php.sock", file, "HTTP_COOKIE", "PHPSESSID="+session), fmt.Sprintf("%d refused closed tmp refused written", n+1); got != want {
					t.Fatalf("PHP says %q, want %q\n%s", got, want, d.out)
				}
			}
		})
	}
}

// Where a sandboxed program says that it was refused something, the log and the status say
// which keys to look at; where there is no sandbox they do not.
func TestSandboxHint(t *testing.T) {
	t.Parallel()
	dir := outsideTmp(t)
	secret := write(t, dir+"/other/secret", "secret")
	cgi := script(t, dir+"/www/a.cgi", "#!/bin/sh\ncat "+secret+" </dev/null\nprintf '"+textHead+"done'\n")
	php := write(t, dir+"/www/a.php", `<?php ini_set("log_errors", 1); ini_set("error_log", ""); file_get_contents("`+secret+`"); echo "done";`)
	strict := "sandbox: {preset: strict}"
	d := serve(t, folder(t), strings.NewReplacer("DIR", dir, "PHP", need(t, "php-cgi")).Replace(
		"- {name: cgi, listen: 'unix:DIR/cgi.sock', process: {root: [DIR/www]}, "+strict+"}\n"+
			"- {name: php, listen: 'unix:DIR/php.sock', worker: {command: [PHP], root: [DIR/www], scale: static, max: 1}, "+strict+"}\n"+
			"- {name: broken, listen: 'unix:DIR/broken.sock', worker: {command: [/bin/sh, -c, 'cat DIR/other/secret'], root: [DIR/www], scale: static, max: 1}, "+strict+"}\n"+
			"- {name: free, listen: 'unix:DIR/free.sock', process: {root: [DIR/www]}}\n"))
	const hint = "the sandbox may have refused that: see sandbox.read and sandbox.write"
	hinted := func(message, pool string) bool {
		for line := range strings.Lines(d.out.String()) {
			if strings.Contains(line, `"msg":"`+message+`"`) && strings.Contains(line, `"pool":"`+pool+`"`) && strings.Contains(line, "ermission denied") {
				return strings.Contains(line, `"hint":"`+hint+`"`)
			}
		}
		return false
	}
	for pool, path := range map[string]string{"cgi": cgi, "php": php, "free": cgi} {
		if got := say(t, dir+"/"+pool+".sock", path); !strings.Contains(got, "done") {
			t.Errorf("%s: %q", pool, got)
		}
	}
	for pool, message := range map[string]string{"cgi": "script stderr", "php": "request stderr", "broken": "worker stderr"} {
		await(t, "a hint of pool "+pool, func() bool { return hinted(message, pool) })
	}
	await(t, "the status to tell it too", func() bool {
		code, stdout, _ := fcgid(t, "/", nil, "status", "broken", "-c", d.file)
		return code == 0 && strings.Contains(stdout, "Permission denied ("+hint+")")
	})
	code, stdout, stderr := fcgid(t, "/", nil, "request", "unix:"+dir+"/cgi.sock", "--script", script(t, dir+"/www/c.cgi", "#!/bin/sh\nexec cat "+secret+"\n"))
	output{code, stdout, stderr}.is(t, "a program without an answer", 1, "502 Bad Gateway")
	await(t, "the reason to tell it too", func() bool {
		code, stdout, _ := fcgid(t, "/", nil, "status", "cgi", "-c", d.file)
		return code == 0 && strings.Contains(stdout, "error: response has no header: "+hint+" (exit status 1)")
	})
	// A program that is in no sandbox, as a user who may not.
	denied := script(t, dir+"/www/b.cgi", "#!/bin/sh\necho cat: x: Permission denied >&2\nprintf '"+textHead+"done'\n")
	say(t, dir+"/free.sock", denied)
	await(t, "the line of the pool without a sandbox", func() bool { return strings.Contains(d.out.String(), "cat: x: Permission denied") })
	if hinted("script stderr", "free") {
		t.Error("a pool without a sandbox has a hint")
	}
}

// A program in a chroot is told what its files are called in there.
func TestSandboxChroot(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	source := write(t, dir+"/a.c", `#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(void) {
	char cwd[100];
	printf("Content-Type: text/plain\r\n\r\n%s %s %s %s %d\n", getenv("SCRIPT_FILENAME"), getenv("DOCUMENT_ROOT"), getenv("PATH_INFO"), getcwd(cwd, sizeof cwd), access("/etc", F_OK));
	return 0;
}`)
	if err := os.MkdirAll(dir+"/jail/www", 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, exec.Command(need(t, "gcc"), "-static", "-o", dir+"/jail/www/a.cgi", source))
	serve(t, dir, fmt.Sprintf("- {name: a, listen: 'unix:%s/s', process: {root: [%s/jail/www]}, sandbox: {chroot: %s/jail, capabilities: none, read: [/www], no_new_privs: true}}\n", dir, dir, dir))
	got := say(t, dir+"/s", dir+"/jail/www/a.cgi/info", "DOCUMENT_ROOT", dir+"/jail/www")
	if got != "/www/a.cgi /www /info /www -1" {
		t.Errorf("the program says %q", got)
	}
}

// check tells what the machine can do, and refuses what the daemon would.
func TestCheckOfSandbox(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	code, table, _ := fcgid(t, dir, nil, "check", "--machine")
	for _, key := range []string{"umask, no_new_privs", "nice", "oom_score_adj", "capabilities", "rlimits", "chroot", "read, write", "network", "private_tmp", "cgroup, memory, memory_request, pids, cpu"} {
		if code != 0 || !strings.Contains(table, "\n"+key+" ") {
			t.Errorf("check --machine: exit status %d, and nothing of %s:\n%s", code, key, table)
		}
	}
	config := func(sandbox string) string {
		return write(t, filepath.Join(dir, "f.yaml"), "admin: {listen: ''}\npools:\n- {name: a, listen: 'unix:@"+dir+"/s', process: {root: [/usr]}, sandbox: "+sandbox+"}\n")
	}
	for _, test := range []struct {
		sandbox string
		code    int
		says    string
	}{
		{"{nice: -1}", 0, "warning: pool a: sandbox.nice: -1: only root may raise the priority"},
		{"{nice: -1, required: true}", 1, "pool a: sandbox.nice: -1: only root may raise the priority (sandbox.required)"},
		{"{read: [/usr]}", 1, "pool a: sandbox.read: an ordinary user needs no_new_privs: true beside it"},
		{"{chroot: /usr}", 1, "pool a: sandbox.chroot: needs root, or CAP_SYS_CHROOT"},
		{"{network: false, no_new_privs: true}", 0, ""},
		{"{private_tmp: true}", 0, "warning: pool a: sandbox.private_tmp: "},
	} {
		code, stdout, stderr := fcgid(t, dir, nil, "check", "-c", config(test.sandbox), "--user", "nobody")
		if code != test.code || !strings.Contains(stderr, test.says) || code == 0 && !strings.Contains(stdout, "\nread, write ") {
			t.Errorf("%s: exit status %d, want %d; %s\n%s", test.sandbox, code, test.code, stderr, stdout)
		}
	}
}

// The daemon says when it starts what its machine lacks, and goes on without.
func TestSandboxIsLacking(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	hello := script(t, dir+"/cgi/hello.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	d := launch(t, dir, fmt.Sprintf("- {name: a, listen: {address: 'unix:%s/s', mode: '0666'}, process: {root: [%s/cgi]}, sandbox: {nice: -1, network: false, no_new_privs: true}}\n", dir, dir), asNobody)
	if got := say(t, dir+"/s", hello); got != "hello" {
		t.Errorf("the script says %q", got)
	}
	await(t, "a warning of what is lacking", func() bool {
		return strings.Contains(d.out.String(), "the programs of a pool run without a part of their sandbox")
	})
	if log := d.out.String(); strings.Count(log, "sandbox.nice") != 1 {
		t.Errorf("the log does not say once what is lacking: %s", log)
	}
}

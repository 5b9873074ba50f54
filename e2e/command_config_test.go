//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fcgid runs a command of the daemon's binary to its end, in folder dir.
func fcgid(t testing.TB, dir string, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	cmd.Run()
	return cmd.ProcessState.ExitCode(), out.String(), err.String()
}

const faulty = `log: {levle: info, format: xml}
admin: {listen: "http:9253"}
shutdown_timeout: 30
include: [more/*.yaml]
pools:
- name: a b
  listen: unix:relative
  limits: {max_conns: -1, body: 3 furlongs, que: 7}
  procss: {root: [/srv]}
- name: two
  listen: tcp:0.0.0.0:9000
  env: [A-B=c]
  process: {root: [srv], stderr: teh}
`

const faults = `bad.yaml:1:7: log.levle: unknown key (did you mean level?)
bad.yaml:1:28: log.format: "xml" is not one of auto, console, json
bad.yaml:2:17: admin.listen: "http:9253" is not unix:/path, unix:@name, tcp:host:port or systemd:NAME (did you mean tcp:127.0.0.1:9253?)
bad.yaml:3:19: shutdown_timeout: "30" needs a unit, for example 30s
bad.yaml:6:9: pools[0].name: "a b" may hold letters, digits, '_', '.' and '-' only
bad.yaml:7:11: pools[0].listen: "unix:relative" needs an absolute path of a socket, or @name
bad.yaml:8:23: pools[0].limits.max_conns: must be from 0 to 1048576, not -1
bad.yaml:8:33: pools[0].limits.body: "3 furlongs" is not a size, for example 65536, 64KiB or 1MiB
bad.yaml:8:45: pools[0].limits.que: unknown key (did you mean queue?)
bad.yaml:9:3: pools[0].procss: unknown key (did you mean process?)
bad.yaml:11:11: pools[1].listen.allow: "tcp:0.0.0.0:9000" is open to other machines: name the networks that may connect
bad.yaml:12:9: pools[1].env[0]: "A-B=c" is not NAME=value
bad.yaml:13:20: pools[1].process.root[0]: "srv" is not an absolute path
bad.yaml:13:34: pools[1].process.stderr: "teh" is not one of log, client, both
more/x.yaml:2:10: pools[0].name: already used at bad.yaml:10:9 (pools[1].name)
more/x.yaml:3:1: log: unknown key: an included file holds pools only
`

const absent = `pools:
- name: cgi
  listen: {address: "unix:/run/fcgid-e2e/s", owner: nobody-such, group: nogroup-such}
  process:
    root: [/nowhere-e2e]
    scripts: [/etc/none.sh]
    interpreters: [.x=/usr/bin/none]
    dir: /etc/passwd
`

const absentFaults = `absent.yaml:3:53: pools[0].listen.owner: unknown user nobody-such
absent.yaml:3:73: pools[0].listen.group: unknown group nogroup-such
absent.yaml:5:12: pools[0].process.root[0]: "/nowhere-e2e": no such file or directory
absent.yaml:6:15: pools[0].process.scripts[0]: "/etc/none.sh": no such file or directory
absent.yaml:7:20: pools[0].process.interpreters[0]: "/usr/bin/none" cannot be run: no such file or directory
absent.yaml:8:10: pools[0].process.dir: "/etc/passwd" is not a folder
`

// A file with faults: each is told with its place, and the exit status is 78.
func TestCheckFaults(t *testing.T) {
	dir := folder(t)
	write(t, dir+"/bad.yaml", faulty)
	write(t, dir+"/absent.yaml", absent)
	write(t, dir+"/broken.yaml", "pools:\n- name: \"cgi\n")
	write(t, dir+"/empty.yaml", "")
	script(t, dir+"/more/x.yaml", "pools:\n- {name: two, listen: \"unix:/run/x\", process: {root: [/srv]}}\nlog: {}\n")
	for file, want := range map[string]string{
		"bad.yaml":    faults,
		"absent.yaml": absentFaults,
		"empty.yaml":  "empty.yaml:1:1: pools: no pools\n",
		"none.yaml":   "none.yaml: open: no such file or directory\n",
		"more":        "more: read: is a directory\n",
	} {
		for _, command := range []string{"check", "serve"} {
			code, stdout, stderr := fcgid(t, dir, nil, command, "-c", file)
			if code != 78 || stdout != "" || stderr != want {
				t.Errorf("%s %s: exit status %d, stdout %q, stderr:\n%s\nwant 78 and:\n%s", command, file, code, stdout, stderr, want)
			}
		}
	}
	if code, _, stderr := fcgid(t, dir, nil, "check", "-c", "broken.yaml"); code != 78 || !strings.HasPrefix(stderr, "broken.yaml:") {
		t.Errorf("broken.yaml: exit status %d, stderr %q", code, stderr)
	}
}

// What --dump prints is a configuration with the same meaning, defaults filled in
// and overridden by variables, and these by flags.
func TestCheckDump(t *testing.T) {
	dir := folder(t)
	one := write(t, dir+"/one.yaml", "log: {level: error}\npools:\n- {name: cgi, listen: \"unix:/run/x\", process: {root: [\""+dir+"\"]}}\n")
	code, first, stderr := fcgid(t, dir, nil, "check", "-c", one, "--dump")
	if code != 0 || stderr != "" {
		t.Fatalf("exit status %d, %s", code, stderr)
	}
	for _, want := range []string{"level: error", "queue_timeout: 10s", "body: 1GiB", "kill_grace: 5s", "shutdown_timeout: 30s", "listen: tcp:127.0.0.1:9253"} {
		if !strings.Contains(first, want) {
			t.Errorf("--dump lacks %q:\n%s", want, first)
		}
	}
	write(t, dir+"/two.yaml", first)
	if _, second, stderr := fcgid(t, dir, nil, "check", "-c", "two.yaml", "--dump"); first != second {
		t.Errorf("loaded again:\n%s%s", second, stderr)
	}
	env := []string{"FCGID_LOG_LEVEL=warn", "FCGID_SHUTDOWN_TIMEOUT=7s", "FCGID_ADMIN_LISTEN=", "FCGID_ACCESS_LOG_OUTPUT=stdout"}
	_, dump, stderr := fcgid(t, dir, env, "check", "-c", one, "--dump", "--shutdown_timeout", "8s")
	for _, want := range []string{"level: warn", "shutdown_timeout: 8s", "listen: \"\"", "output: stdout"} {
		if !strings.Contains(dump, want) {
			t.Errorf("overridden: --dump lacks %q:\n%s%s", want, dump, stderr)
		}
	}
	code, _, stderr = fcgid(t, dir, []string{"FCGID_LOG_LEVEL=loud"}, "check", "-c", one, "--shutdown_timeout", "soon")
	if code != 78 || !strings.Contains(stderr, "FCGID_LOG_LEVEL: log.level: ") || !strings.Contains(stderr, "--shutdown_timeout: shutdown_timeout: ") {
		t.Errorf("bad overrides: exit status %d, stderr:\n%s", code, stderr)
	}
	if code, stdout, stderr := fcgid(t, dir, nil, "check", "-c", one, "--admin.listen="); code != 0 || stdout != one+": ok (pools: 1)\n" {
		t.Errorf("check: exit status %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	packaged := []string{"check", "--admin.listen=", "-c", filepath.Join(mainFolder(t), "configs/fcgid.yaml")}
	if os.Geteuid() == 0 { // who could be fcgid, whom this machine has not
		packaged = append(packaged, "--user", "www-data")
	}
	code, _, stderr = fcgid(t, dir, nil, packaged...)
	if code != 0 && !strings.Contains(stderr, "/usr/lib/cgi-bin") {
		t.Errorf("configs/fcgid.yaml: exit status %d, stderr %q", code, stderr)
	}
}

func mainFolder(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// A command line that makes no sense: 2 and a word about help.
func TestUsage(t *testing.T) {
	dir := folder(t)
	for _, line := range []string{
		"frob", "serv", "--nope", "serve x", "serve --nope", "check -c", "check x y", "check -c x y", "version x", "dev a b", "request",
		"request a b", "request foo", "request /run/s", "request 127.0.0.1:9000", "request tcp:127.0.0.1", "request unix:s",
		"request unix:/s --values -d x", "request unix:/s --script relative/path", "request unix:/s -p noequals", "request unix:/s -X A:B",
		"request unix:/s --timeout -1s", "request unix:/s -d @/nowhere-e2e", "request unix:/s --role king", "help frob", "completion klingon",
	} {
		code, stdout, stderr := fcgid(t, dir, nil, strings.Fields(line)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, "--help' for usage") {
			t.Errorf("fcgid %s: exit status %d, stdout %q, stderr %q; want 2", line, code, tail(stdout, 100), stderr)
		}
	}
	if _, _, stderr := fcgid(t, dir, nil, "chek"); !strings.HasPrefix(stderr, `fcgid: unknown command "chek" for "fcgid" (did you mean check?)`+"\n") {
		t.Errorf("fcgid chek: %q", stderr)
	}
	for _, line := range []string{"", "help", "--help", "serve --help", "help request"} {
		if code, stdout, stderr := fcgid(t, dir, nil, strings.Fields(line)...); code != 0 || !strings.Contains(stdout, "Usage:") || stderr != "" {
			t.Errorf("fcgid %s: exit status %d, stdout %q, stderr %q; want help", line, code, tail(stdout, 100), stderr)
		}
	}
	if code, stdout, _ := fcgid(t, dir, nil, "version"); code != 0 || !strings.HasPrefix(stdout, "fcgid ") || !strings.Contains(stdout, "go1.") {
		t.Errorf("version: exit status %d, %q", code, stdout)
	}
	_, stdout, _ := fcgid(t, dir, nil, "completion", "bash")
	completion := write(t, dir+"/completion", stdout)
	out := run(t, exec.Command("bash", "-c", ". "+completion+" && complete -p fcgid"))
	if !strings.Contains(out, "fcgid") {
		t.Errorf("completion bash: %q", out)
	}
}

// Root reads what the daemon's user may not: check looks with that user's eyes where it
// is told to, and says when it was not.
func TestCheckAsUser(t *testing.T) {
	needRoot(t)
	dir := folder(t)
	if err := os.Mkdir(dir+"/private", 0o700); err != nil {
		t.Fatal(err)
	}
	inside := dir + "/private/cgi"
	if err := os.Mkdir(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	program := script(t, dir+"/interpreter", "#!/bin/sh\n")
	if err := os.Chmod(program, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/f.yaml", "admin: {listen: ''}\npools: [{name: a, listen: unix:/run/x, process: {root: ["+inside+", "+dir+"/private], interpreters: [.x="+program+"]}}]\n")
	code, _, stderr := fcgid(t, dir, nil, "check", "-c", "f.yaml")
	if code != 0 || !strings.Contains(stderr, "warning: checked as root") {
		t.Errorf("as root: %d, %s", code, stderr)
	}
	code, _, stderr = fcgid(t, dir, nil, "check", "-c", "f.yaml", "--user", "nobody")
	if code != 78 || strings.Count(stderr, "permission denied") != 3 || strings.Contains(stderr, "warning") {
		t.Errorf("as nobody: %d, %s", code, stderr)
	}
	if code, _, stderr := fcgid(t, dir, nil, "check", "-c", "f.yaml", "--user", "nobody-such"); code != 1 || !strings.Contains(stderr, "unknown user") {
		t.Errorf("as somebody who does not exist: %d, %s", code, stderr)
	}
}

// Who the file says the daemon is to be does not start it: what is of another pool's user is looked at
// as that one.
func TestCheckAsDaemon(t *testing.T) {
	needRoot(t)
	dir := folder(t)
	if err := errors.Join(os.Mkdir(dir+"/cgi", 0o700), os.Chown(dir+"/cgi", 1, 1)); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/f.yaml", "user: nobody\nadmin: {listen: ''}\npools: [{name: a, listen: 'unix:"+dir+"/s', user: daemon, timeout: 5s, process: {root: ["+dir+"/cgi]}}]\n")
	code, stdout, stderr := fcgid(t, dir, nil, "check", "f.yaml", "--user", "nobody")
	const note = "note: f.yaml says that root starts the daemon and it becomes nobody (user)"
	if code != 0 || stdout != "f.yaml: ok (pools: 1)\n" || !strings.HasPrefix(stderr, note) || strings.Count(stderr, "\n") != 1 {
		t.Errorf("as the daemon: %d, %s%s", code, stdout, stderr)
	}
	code, _, stderr = fcgid(t, dir, nil, "check", "f.yaml", "--user", "bin")
	if code != 78 || !strings.Contains(stderr, "only root can start programs as somebody else, and this is user bin") {
		t.Errorf("as an ordinary user: %d, %s", code, stderr)
	}
}

// Limits that the process cannot keep are told, by check and when the daemon starts.
func TestTooFewDescriptors(t *testing.T) {
	dir := folder(t)
	write(t, dir+"/f.yaml", "admin: {listen: ''}\npools: [{name: a, listen: unix:"+dir+"/s, function: {}, limits: {max_conns: 2000}}]\n")
	limited := exec.CommandContext(t.Context(), "/bin/sh", "-c", `ulimit -n 1500 && exec "$0" check -c f.yaml`, binary)
	limited.Dir = dir
	out, err := limited.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "and ulimit -n is 1500") {
		t.Errorf("%v\n%s", err, out)
	}
	code, _, stderr := fcgid(t, dir, nil, "check", "-c", "f.yaml")
	if code != 0 || strings.Contains(stderr, "descriptors") {
		t.Errorf("without a limit: %d, %s", code, stderr)
	}
	d := launch(t, dir, "- {name: a, listen: 'unix:"+dir+"/s', function: {}, limits: {max_conns: 2000}}\n", func(cmd *exec.Cmd) {
		cmd.Args = append([]string{"/bin/sh", "-c", `ulimit -n 1500 && exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/bin/sh"
	})
	if !strings.Contains(d.out.String(), "may hold more descriptors") {
		t.Errorf("the daemon says nothing:\n%s", d.out)
	}
}

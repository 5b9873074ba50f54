//go:build e2e

package e2e

import (
	little "encoding/binary"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/fcgi"
)

// steered are programs that scripts start, each with variables that have it do what it
// was not started for: make the file DIR/hit, or say EVIL.
var steered = map[string]struct {
	command string
	env     []string // NAME=value
}{
	"zip":                {"zip -qT DIR/x.zip DIR/hello.txt", []string{"ZIPOPT=-TT DIR/cmd"}},
	"zip's other name":   {"zip -qT DIR/x.zip DIR/hello.txt", []string{"ZIP=-TT DIR/cmd"}},
	"tar":                {"tar -cPf DIR/x.tar DIR/hello.txt", []string{"TAR_OPTIONS=--checkpoint=1 --checkpoint-action=exec=DIR/cmd"}},
	"bash":               {"bash -c :", []string{"BASH_ENV=DIR/cmd"}},
	"perl":               {"perl -e 1", []string{"PERL5OPT=-MEvil", "PERL5LIB=DIR"}},
	"python":             {"/usr/bin/python3 -c 1", []string{"PYTHONPATH=DIR"}},
	"php":                {"php-cgi -v", []string{"PHPRC=DIR"}},
	"git":                {"git ls-remote ssh://nowhere/x", []string{"GIT_SSH_COMMAND=DIR/cmd"}},
	"git, configuration": {"git ls-remote ssh://nowhere/x", []string{"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=core.sshCommand", "GIT_CONFIG_VALUE_0=DIR/cmd"}},
	"gcc":                {"gcc -c -x c /dev/null -o DIR/x.o", []string{"DEPENDENCIES_OUTPUT=DIR/hit"}},
	"gcc's headers":      {"gcc -E DIR/include.c", []string{"CPATH=DIR"}},
	"make":               {"make -f DIR/Makefile", []string{"MAKEFILES=DIR/evil.mk"}},
	"curl":               {"curl -s file://DIR/hello.txt", []string{"CURL_HOME=DIR"}},
	"the C library":      {"ls DIR/nothing", []string{"LC_ALL=C.UTF-8", "LANGUAGE=../../../..DIR"}},
	"the loader":         {"ls DIR", []string{"LD_PRELOAD=DIR/evil.so"}},
}

// writeSteering writes what the variables name.
func writeSteering(t *testing.T, dir string) {
	t.Helper()
	for name, text := range map[string]string{
		"hello.txt": "hello\n", "Makefile": "all:\n", "evil.mk": "$(shell DIR/cmd)\n", "include.c": "#include <evil.h>\n", "evil.h": "EVIL\n",
		"Evil.pm": "system 'DIR/cmd'; 1;", "sitecustomize.py": "import os; os.system('DIR/cmd')", "php.ini": "error_log = DIR/hit\nlog_errors = 1\nextension = nothing\n",
		".curlrc": "output = DIR/hit\n", "evil.c": "int creat(const char *, unsigned); __attribute__((constructor)) static void evil(void) { creat(\"DIR/hit\", 0666); }\n",
	} {
		write(t, dir+"/"+name, strings.ReplaceAll(text, "DIR", dir))
	}
	script(t, dir+"/cmd", "#!/bin/sh\ntouch "+dir+"/hit\n")
	run(t, exec.Command("gcc", "-w", "-shared", "-fPIC", "-o", dir+"/evil.so", dir+"/evil.c"))
	for _, name := range []string{"/LC_MESSAGES", "/cgi"} {
		if err := os.Mkdir(dir+name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir+"/LC_MESSAGES/coreutils.mo", catalogue("", "Content-Type: text/plain; charset=UTF-8\n", "cannot access %s", "EVIL %s"))
}

// catalogue is a compiled file of messages for gettext: message, translation, in order.
func catalogue(texts ...string) string {
	const head = 7 * 4
	n := len(texts) / 2
	numbers := []uint32{0x950412de, 0, uint32(n), head, uint32(head + 8*n), 0, 0}
	var strs string
	for _, of := range []int{0, 1} {
		for i := of; i < len(texts); i += 2 {
			numbers = append(numbers, uint32(len(texts[i])), uint32(head+16*n+len(strs)))
			strs += texts[i] + "\x00"
		}
	}
	var b []byte
	for _, number := range numbers {
		b = little.LittleEndian.AppendUint32(b, number)
	}
	return string(b) + strs
}

// Params do not steer the programs that a script starts. That the variables would do so
// is tried first, without the daemon.
func TestProgramsAreNotSteered(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	writeSteering(t, dir)
	serve(t, dir, "- {name: cgi, listen: 'unix:"+dir+"/s', process: {root: ["+dir+"/cgi]}}\n")
	for name, c := range steered {
		here := strings.NewReplacer("DIR", dir)
		command := strings.Fields(here.Replace(c.command))
		need(t, command[0])
		path := script(t, dir+"/cgi/"+strings.ReplaceAll(name, " ", "-"), "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\n"+here.Replace(c.command)+" 2>&1 </dev/null\n")
		var env, more []string
		for _, pair := range c.env {
			n, value, _ := strings.Cut(here.Replace(pair), "=")
			env, more = append(env, n+"="+value), append(more, n, value)
		}
		does := func(out string) bool {
			_, err := os.Stat(dir + "/hit")
			os.Remove(dir + "/hit")
			os.Remove(dir + "/x.zip")
			return err == nil || strings.Contains(out, "EVIL")
		}
		alone := exec.Command(path)
		alone.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=/nothing"}, env...)
		if out, _ := alone.CombinedOutput(); !does(string(out)) {
			t.Errorf("%s is not steered by %q, which should have shown something: %q", name, env, out)
		}
		_, out := ask(t, "unix", dir+"/s", &fcgi.Request{Params: params(path, more...)})
		if does(out) {
			t.Errorf("%s is steered by %q: %q", name, env, out)
		}
	}
}

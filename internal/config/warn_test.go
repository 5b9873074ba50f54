package config

import (
	"errors"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const limited = "pools:\n- name: a\n  listen: unix:/run/a\n  timeout: 60s\n"

func TestWarnings(t *testing.T) {
	const forever = "f:2:3: pools[0]: no timeout: what hangs holds its place for ever (timeout: 45s, or silence: 45s; 0 says that you mean it)"
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"none", limited + "  process: {root: [/srv]}\n", nil},
		{"no timeout", one, []string{forever}},
		{"no timeout of functions", "pools:\n- {name: a, listen: unix:/a, function: {}}\n", []string{forever}},
		{"silence", one + "  silence: 1m\n", nil},
		{"meant", one + "  timeout: 0\n", nil},
		{"root", limited + "  process: {root: [/srv, //]}\n", []string{"f:5:26: pools[0].process.root[1]: every file of this machine is in it: name the folder of the scripts"}},
		{"root of workers", limited + "  worker: {command: [/x], root: /}\n", []string{"f:5:33: pools[0].worker.root: every file of this machine is in it: name the folder of the scripts"}},
		{"children", limited + "  worker: {command: [/x], concurrency: 4}\n  env: [PHP_FCGI_CHILDREN=2]\n", []string{
			"f:5:40: pools[0].worker.concurrency: 4 is more than PHP_FCGI_CHILDREN, which is 2: the rest waits in a worker though others may be idle",
		}},
		{"children enough", limited + "  worker: {command: [/x], concurrency: 4}\n  env: {PHP_FCGI_CHILDREN: 4}\n", nil},
		{"children of php-cgi, untold", limited + "  worker: {command: [/usr/bin/php-cgi8.2], concurrency: 4}\n", []string{
			"f:5:57: pools[0].worker.concurrency: 4, and php-cgi takes one request at a time without PHP_FCGI_CHILDREN: the rest waits in a worker (env: [PHP_FCGI_CHILDREN=4])",
		}},
		{"children of php-cgi, from outside", limited + "  worker: {command: [/usr/bin/php-cgi], concurrency: 4}\n  pass_env: PHP_FCGI_CHILDREN\n", nil},
		{"children of php-cgi, one request", limited + "  worker: {command: [/usr/bin/php-cgi]}\n", nil},
		{"requests of another program", limited + "  worker: {command: [/x], concurrency: 4}\n", nil},
		{"children that are none", limited + "  worker: {command: [/x], concurrency: 4}\n  env: [PHP_FCGI_CHILDREN=x]\n", nil},
		{"include", "include: ['none.d/*.yaml']\n" + limited + "  function: {}\n", []string{`f:1:11: include[0]: no file matches "none.d/*.yaml"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := load(t, tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, warningLines(c)); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWarningsOfVariables(t *testing.T) {
	t.Setenv("FCGID_LOG_LEVL", "debug")
	t.Setenv("FCGID_LOG_LEVEL", "debug")
	t.Setenv("FCGID_FROBNICATE", "")
	c, err := load(t, limited+"  function: {}\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"FCGID_FROBNICATE: no key is overridden by this variable",
		"FCGID_LOG_LEVL: no key is overridden by this variable (did you mean FCGID_LOG_LEVEL?)",
	}
	if diff := cmp.Diff(want, warningLines(c)); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// Of an entry of scripts by which nothing can run, check tells.
func TestWarningsOfScripts(t *testing.T) {
	write(t, map[string]string{"a.cgi": "", "run": "", "b.pl": "", "c.d/x": ""})
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod("run", 0o755); err != nil {
		t.Fatal(err)
	}
	for scripts, want := range map[string][]string{
		"DIR/run, DIR/b.pl, DIR/*.d/x": nil,
		"DIR/a.cgi":                    {`f:5:34: pools[0].process.scripts[0]: "DIR/a.cgi" is not executable, and interpreters has none for it: it is answered with 403`},
		"DIR/*.rb":                     {`f:5:34: pools[0].process.scripts[0]: no file matches "DIR/*.rb"`},
		"'DIR/none/[ab]/c'":            {`f:5:34: pools[0].process.scripts[0]: no file matches "DIR/none/[ab]/c"`},
	} {
		text := expand(limited+"  process: {root: [/], scripts: ["+scripts+"], interpreters: [.pl=/bin/sh]}\n", dir)
		if err := os.WriteFile("f", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		c, err := LoadAndCheck("f", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := slices.DeleteFunc(warningLines(c), func(w string) bool { return !strings.Contains(w, "process.scripts") })
		for i, w := range got {
			got[i] = strings.ReplaceAll(w, dir, "DIR")
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", scripts, diff)
		}
	}
}

func TestWarningsOfTheMachine(t *testing.T) {
	write(t, map[string]string{"open/x": "", "sticky/x": "", "php": "#!/bin/sh\n", "php-cgi": "#!/bin/sh\n", "php-fpm8.2": "#!/bin/sh\n"})
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"open": 0o777, "sticky": 0o777 | os.ModeSticky, "php": 0o755, "php-cgi": 0o755, "php-fpm8.2": 0o755} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("php-fpm8.2", "fpm"); err != nil {
		t.Fatal(err)
	}
	text := expand(`log: {output: DIR/none/log}
access_log: {output: DIR/log}
admin: {listen: unix:DIR/none/admin}
pools:
- name: a
  timeout: 60s
  listen: [unix:/proc/a, unix:DIR/none/a]
  slow: {after: 1s, log: DIR/none/slow}
  worker:
    command: [DIR/php, -b]
- {name: b, timeout: 60s, listen: unix:DIR/open/b, worker: {command: [DIR/php-cgi]}}
- {name: d, timeout: 60s, listen: unix:@d, process: {root: DIR, interpreters: [.x=DIR/php]}}
- {name: c, timeout: 60s, listen: [unix:@c, unix:DIR/sticky/c], worker: {command: [DIR/fpm]}}
`, dir)
	if err := os.WriteFile("f", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := LoadAndCheck("f", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	takesNone := " takes no FastCGI requests on descriptor 0: "
	want := []string{
		"f:10:15: pools[0].worker.command[0]: " + dir + "/php" + takesNone + "php-cgi does",
		`f:11:35: pools[1].listen: everybody may write to "` + dir + `/open", and put another socket in the place of this one`,
		at(12, len(expand("- {name: d, timeout: 60s, listen: unix:@d, process: {root: DIR, interpreters: [", dir))+1) +
			"pools[2].process.interpreters[0]: " + dir + "/php answers no CGI requests: php-cgi does",
		at(13, len(expand("- {name: c, timeout: 60s, listen: [unix:@c, unix:DIR/sticky/c], worker: {command: [", dir))+1) +
			"pools[3].worker.command[0]: " + dir + "/php-fpm8.2" + takesNone + "php-cgi does: fcgid is in its place",
	}
	if diff := cmp.Diff(want, warningLines(c)); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

// A pool whose user or groups are a socket's owner or group has the web server's way to another pool.
func TestWarningsOfReach(t *testing.T) {
	needRoot(t)
	const (
		run  = `, timeout: 60s, process: {root: [/usr/bin]}`
		pool = "- {name: %, user: "
		web  = ", listen: {address: 'unix:/run/%', group: www-data"
	)
	www := strings.ReplaceAll(pool+"www-data"+run+web+"}}\n", "%", "www")
	of := func(name, user, more string) string {
		return strings.ReplaceAll(pool+user+run+web+more+"}}\n", "%", name)
	}
	told := func(at, pools string) []string {
		return []string{at + ": its programs may connect to the sockets of other pools (" + pools + "), as the owner or group of these lets them: a user of its own, in no group of the web server's, keeps pools apart"}
	}
	for name, tt := range map[string]struct {
		pools string
		want  []string
	}{
		"one":                    {www, nil},
		"the same user":          {www + of("b", "www-data", ""), nil},
		"another":                {www + of("b", "daemon", ""), told("f:3:21: pools[0].user", "b")},
		"several":                {of("b", "daemon", "") + of("c", "bin", ", mode: '0020'") + www, told("f:5:21: pools[2].user", "b, c")},
		"apart":                  {of("b", "daemon", "") + of("c", "bin", ""), nil},
		"a mode that lets not":   {www + of("b", "daemon", ", mode: '0600'"), nil},
		"users who are let in":   {www + of("b", "daemon", ", allow_uids: [0]"), nil},
		"the owner":              {of("b", "daemon", "") + of("c", "bin", ", owner: daemon"), told("f:3:19: pools[0].user", "c")},
		"the owner, by number":   {of("b", "daemon", "") + of("c", "bin", ", owner: '1'"), told("f:3:19: pools[0].user", "c")},
		"the owner has no right": {www + of("c", "bin", ", owner: www-data, mode: '0060'"), nil},
		"groups":                 {of("b", "daemon, groups: [www-data]", "") + of("c", "bin", ", owner: '7'"), told("f:3:35: pools[0].groups", "c")},
		"group":                  {of("b", "daemon, group: www-data", "") + of("c", "bin", ""), told("f:3:34: pools[0].group", "c")},
		"a function":             {www + "- {name: f, listen: {address: 'unix:/run/f', group: www-data}, timeout: 60s, function: {}}\n", told("f:3:21: pools[0].user", "f")},
		"no group given":         {www + "- {name: f, listen: 'unix:/run/f', timeout: 60s, function: {}}\n", nil},
		"another root":           {strings.Replace(www, "timeout", "sandbox: {chroot: /usr}, timeout", 1) + of("b", "daemon", ""), nil},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, map[string]string{"f": "user: nobody\npools:\n" + tt.pools})
			c, err := LoadAndCheck("f", nil, []string{"f"})
			if err != nil {
				t.Fatal(err)
			}
			got := slices.DeleteFunc(warningLines(c), func(w string) bool { return !strings.Contains(w, "may connect") })
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

// warningLines are the warnings as people see them.
func warningLines(c *Config) (lines []string) {
	for _, w := range c.Warnings() {
		lines = append(lines, w.String())
	}
	return lines
}

// What people write who come from elsewhere, or in a hurry: where, what is wrong and what
// to write.
func TestSlips(t *testing.T) {
	for text, want := range map[string]string{
		"pools:\n- name: a\n\tlisten: unix:/a\n":                      "f:3:1: a tab: YAML is indented with spaces only\n    →   listen: unix:/a\n    ^\n",
		"pools:\n- name: a\n  \tlisten: unix:/a\n":                    "f:3:3: a tab: YAML is indented with spaces only\n      →   listen: unix:/a\n      ^\n",
		"log:\n  level:info\npools: []\n":                             `f:2:3: log: must be a mapping: no space after the colon: write "level: info"` + "\nf:3:8: pools: no pools\n",
		"pools:\n- name:a\n  listen: unix:/a\n":                       `f:2:8: no space after the colon: write "name: a"` + "\n    - name:a\n           ^\n",
		"pools:\n- name: a\n  listen:unix:/a\n  function: {}\n":       `f:3:10: no space after the colon: write "listen: unix:/a"` + "\n      listen:unix:/a\n             ^\n",
		"pools:\n- name: a\n   listen: unix:/a\n":                     "f:3:4: wrong indentation: this line begins in column 4, and what is above it in column 1 or 3\n       listen: unix:/a\n       ^\n",
		"pools:\n- name: a\n listen: unix:/a\n":                       "f:3:2: wrong indentation: this line begins in column 2, and what is above it in column 1 or 3\n     listen: unix:/a\n     ^\n",
		"pools:\n  - name: a\n    listen: unix:/a\n   process: {}\n":  "f:4:4: wrong indentation: this line begins in column 4, and what is above it in column 1 or 3 or 5\n       process: {}\n       ^\n",
		"pools:\n- name: a\n  process:\n    root: [/a]\n   dir: /a\n": "f:5:4: wrong indentation: this line begins in column 4, and what is above it in column 1 or 3 or 5\n       dir: /a\n       ^\n",
		"pools:\n- name: 'a\n  listen: unix:/a\n":                     "f:2: a quote that opens here is not closed\n    - name: 'a\n",
		"a: 1\nb: \x01\n": "f:2: control characters are not allowed\n    b: ?\n",
		"pools:\n- name: a\n  listen: unix:/a\n  process: {root: [/a]\n": "f:4: a { that opens here is not closed, or a comma is missing before this line\n      process: {root: [/a]\n",

		"pools:\n- name: a\n  listen: unix:/a\n  process: {root:[/x]}\n":                   `f:4:18: no space after the colon: write "root: [/x]"` + "\n      process: {root:[/x]}\n                     ^\n",
		"pools:\n- name: a\n  listen: unix:/a\n  process: {dir: /, extensions:[.a, .b]}\n": `f:4:32: no space after the colon: write "extensions: [.a, .b]"` + "\n      process: {dir: /, extensions:[.a, .b]}\n                                   ^\n",
		"pools:\n- name: a\n  listen: unix:/a\n  process: {root:/x}\n":                     `f:4:13: pools[0].process."root:/x": no space after the colon: write "root: /x"` + "\n",
		pool("limits:{max_reqs: 4}"):                                                       `f:5:3: pools[0]."limits:{max_reqs": no space after the colon: write "limits: {max_reqs: 4}"` + "\n",
		"pools:\n- name: a\n  listen: unix:/a\n  process:{root:[/x]}\n":                    `f:4:11: no space after the colon: write "process: {root: [/x]}"` + "\n      process:{root:[/x]}\n              ^\n",
		"pools:\n- name: a\n  listen: unix:/a\n-name: b\n  listen: unix:/b\n":              `f:4:2: no space after the dash: write "- name: b"` + "\n    -name: b\n     ^\n",
		"pools:\n  - name: a\n    listen: unix:/a\n  -name: b\n    listen: unix:/b\n":      `f:4:4: no space after the dash: write "- name: b"` + "\n      -name: b\n       ^\n",
		"pools:\n  -name: a\n  listen: unix:/a\n":                                          `f:2:3: pools: must be a list: no space after the dash: write "- name: a"` + "\n",
		"pools:\n- name: a\n  listen: unix:/a\n  process:\n    root:\n    - /x\n    -/y\n": `f:7:6: no space after the dash: write "- /y"` + "\n        -/y\n         ^\n",
		"pools:\n- name: a\n  listen: unix:/a\n  process:\n    root:\n      -/y\n":         `f:6:7: pools[0].process.root: no space after the dash: write "- /y"` + "\n",
		pool("listen: [-unix:/a]"):                                                         `f:3:12: pools[0].listen[0]: no space after the dash: write "- unix:/a"` + "\n",

		pool("allow: [10.0.0.0/8]"):               "f:5:3: pools[0].allow: unknown key: it is one of listen, beside its address\n",
		pool("mode: 0660"):                        "f:5:3: pools[0].mode: unknown key: it is one of listen, beside its address\n",
		pool("owner: www-data"):                   "f:5:3: pools[0].owner: unknown key: it is one of listen, beside its address\n",
		pool("owner: true"):                       "f:5:3: pools[0].owner: unknown key (did you mean sandbox.owner?)\n",
		pool("backlog: 5"):                        "f:5:3: pools[0].backlog: unknown key: it is one of listen, beside its address\n",
		pool("sandbox: {nofile: 10, as: 1GiB}"):   "f:5:13: pools[0].sandbox.nofile: unknown key: here that is rlimits: [nofile=10]\nf:5:25: pools[0].sandbox.as: unknown key: here that is rlimits: [as=1GiB]\n",
		"listen: unix:/a\nprocess: {root: /x}\n":  "f:1:1: listen: unknown key: it belongs to a pool, below pools:\nf:2:1: process: unknown key: it belongs to a pool, below pools:\n",
		"name: a\nworker: {command: [/x]}\n":      "f:1:1: name: unknown key: it belongs to a pool, below pools:\nf:2:1: worker: unknown key: it belongs to a pool, below pools:\n",
		pool("access_log: /x"):                    "f:5:3: pools[0].access_log: unknown key: it is one of the whole daemon, beside pools:\n",
		pool("log: {level: debug}"):               "f:5:3: pools[0].log: unknown key: it is one of the whole daemon, beside pools:\n",
		pool("admin: {}"):                         "f:5:3: pools[0].admin: unknown key: it is one of the whole daemon, beside pools:\n",
		pool("process: {root: /x, max: 4}"):       "f:4:23: pools[0].process.max: unknown key: it is one of worker, not of process\n",
		pool("process: {root: /x, command: /y}"):  "f:4:23: pools[0].process.command: unknown key: it is one of worker, not of process\n",
		worker("{command: [/x], kill_grace: 1s}"): "f:4:27: pools[0].worker.kill_grace: unknown key: it is one of process, not of worker\n",
		pool("listen: {unix: /x}"):                "f:3:12: pools[0].listen.unix: unknown key: write address: unix:/x\n",
		pool("listen: [{tcp: '127.0.0.1:9000'}]"): "f:3:13: pools[0].listen[0].tcp: unknown key: write address: tcp:127.0.0.1:9000\n",
		pool("sandbox: {no_new_privileges: on}"):  "f:5:13: pools[0].sandbox.no_new_privileges: unknown key: here that is sandbox.no_new_privs\n",
		pool("sandbox: {NoNewPrivileges: true}"):  "f:5:13: pools[0].sandbox.NoNewPrivileges: unknown key: here that is sandbox.no_new_privs\n",
		pool("sandbox: {private_network: true}"):  "f:5:13: pools[0].sandbox.private_network: unknown key: here that is sandbox.network: false\n",
		pool("sandbox: {seccomp: true}"):          "f:5:13: pools[0].sandbox.seccomp: unknown key: here that is sandbox.preset: strict, which is the nearest: nobody writes a filter of system calls here\n",

		pool("sandbox: strict"):                      "f:5:12: pools[0].sandbox: must be a mapping, not a string (did you mean sandbox: {preset: strict}?)\n",
		"log: debug\n" + one:                         "f:1:6: log: must be a mapping, not a string (did you mean log: {level: debug}?)\n",
		"log: stdout\n" + one:                        "f:1:6: log: must be a mapping, not a string (did you mean log: {output: stdout}?)\n",
		"access_log: /x\n" + one:                     "f:1:13: access_log: must be a mapping, not a string (did you mean access_log: {output: /x}?)\n",
		"admin: 127.0.0.1:9253\n" + one:              "f:1:8: admin: must be a mapping, not a string (did you mean admin: {listen: tcp:127.0.0.1:9253}?)\n",
		"admin: 9253\n" + one:                        "f:1:8: admin: must be a mapping, not a number (did you mean admin: {listen: tcp:127.0.0.1:9253}?)\n",
		"admin: unix:/x\n" + one:                     "f:1:8: admin: must be a mapping, not a string (did you mean admin: {listen: unix:/x}?)\n",
		pool("process: /srv"):                        "f:4:12: pools[0].process: must be a mapping, not a string (did you mean process: {root: /srv}?)\n",
		"pools: {cgi: {listen: unix:/a}}\n":          `f:1:8: pools: must be a list: write "- name: cgi"` + "\n",
		"pools:\n  name: cgi\n  listen: unix:/a\n":   `f:2:3: pools: must be a list: write "- name: cgi"` + "\n",
		pool("env: [A: b]"):                          "f:5:9: pools[0].env[0]: must be a string, not a mapping: write A=b\n",
		pool("sandbox: {rlimits: [nofile: 10]}"):     "f:5:23: pools[0].sandbox.rlimits[0]: must be a string, not a mapping: write nofile=10\n",
		pool("process: {root: /x, extensions: php}"): `f:4:35: pools[0].process.extensions: "php" is not an extension, for example .cgi (did you mean .php?)` + "\n",
		pool("sandbox: {capabilities: [NET_BIND]}"):  `f:5:28: pools[0].sandbox.capabilities[0]: "NET_BIND" is no capability, for example CAP_NET_BIND_SERVICE, and not none (did you mean CAP_NET_BIND_SERVICE?)` + "\n",

		pool("pm: dynamic"):                         "f:5:3: pools[0].pm: unknown key: here that is worker.scale, and what is below pm. is worker's\n",
		pool("pm.max_children: 5"):                  "f:5:3: pools[0].\"pm.max_children\": unknown key: here that is worker.max\n",
		pool("-S: true"):                            "f:5:3: pools[0].-S: unknown key: there is none like it, and no need for one\n",
		pool("max_children: 5"):                     "f:5:3: pools[0].max_children: unknown key: here that is worker.max\n",
		worker("{command: [/x], start_servers: 1}"): "f:4:27: pools[0].worker.start_servers: unknown key: here that is worker.min\n",
		pool("request_terminate_timeout: 30s"):      "f:5:3: pools[0].request_terminate_timeout: unknown key: here that is timeout\n",
		pool("security.limit_extensions: .php"):     "f:5:3: pools[0].\"security.limit_extensions\": unknown key: here that is worker.extensions\n",
		pool("listen.owner: www-data"):              "f:5:3: pools[0].\"listen.owner\": unknown key: here that is listen.owner, below listen and beside its address\n",
		pool("clear_env: no"):                       "f:5:3: pools[0].clear_env: unknown key: here that is pass_env: what is not named there is cleared\n",
		pool("'php_admin_value[memory_limit]': 1M"): "f:5:3: pools[0].\"php_admin_value[memory_limit]\": unknown key: here that is an argument of worker.command: [/usr/bin/php-cgi, -d, NAME=value]\n",
		"daemonize: no\n" + one:                     "f:1:1: daemonize: unknown key: there is none like it, and no need for one\n",
		"error_log: /x\n" + one:                     "f:1:1: error_log: unknown key: here that is log.output, of the whole daemon\n",
		pool("FcgidMaxRequestLen: 1"):               "f:5:3: pools[0].FcgidMaxRequestLen: unknown key: here that is limits.body\n",
		pool("-c: 4"):                               "f:5:3: pools[0].-c: unknown key: here that is limits.max_reqs, as fcgiwrap's -c\n",
		pool("-F: 4"):                               "f:5:3: pools[0].-F: unknown key: here that is worker.max\n",
		pool("-f: true"):                            "f:5:3: pools[0].-f: unknown key: here that is process.stderr: client, as fcgiwrap's -f\n",
		pool("fastcgi_read_timeout: 60"):            "f:5:3: pools[0].fastcgi_read_timeout: unknown key: here that is silence\n",
		pool("workers: 4"):                          "f:5:3: pools[0].workers: unknown key: here that is worker.max\n",

		pool("listen: /run/x.sock"):         `f:3:11: pools[0].listen: "/run/x.sock" is not unix:/path, unix:@name, tcp:host:port or systemd:NAME (did you mean unix:/run/x.sock?)` + "\n",
		pool("listen: 9000"):                `f:3:11: pools[0].listen: "9000" is not unix:/path, unix:@name, tcp:host:port or systemd:NAME (did you mean tcp:127.0.0.1:9000?)` + "\n",
		pool("listen: 127.0.0.1:9000"):      `f:3:11: pools[0].listen: "127.0.0.1:9000" is not unix:/path, unix:@name, tcp:host:port or systemd:NAME (did you mean tcp:127.0.0.1:9000?)` + "\n",
		pool("listen: {path: /run/x}"):      "f:3:12: pools[0].listen.path: unknown key (did you mean address: unix:/run/x?)\n",
		pool("listen: {path: unix:/run/x}"): "f:3:12: pools[0].listen.path: unknown key (did you mean address: unix:/run/x?)\n",
		pool("listen: {socket: unix:/a}"):   "f:3:11: pools[0].listen.address: needs an address\nf:3:12: pools[0].listen.socket: unknown key: here that is listen\n",

		worker("{command: /usr/bin/php-cgi -b}"): "f:4:21: pools[0].worker.command: must be a list of words: write [/usr/bin/php-cgi, -b]\n",
		worker("{command: php-cgi}"):             `f:4:21: pools[0].worker.command: "php-cgi" is not an absolute path` + "\n",
		pool("timeout: 60"):                      `f:5:12: pools[0].timeout: "60" needs a unit, for example 30s` + "\n",
		pool("timout: 60s"):                      "f:5:3: pools[0].timout: unknown key (did you mean timeout?)\n",
		pool("limits: {body: 8M}"):               `f:5:18: pools[0].limits.body: "8M" could be either of two sizes: write 8MiB or 8MB` + "\n",
		pool("env: {A: {B: c}}"):                 "f:5:12: pools[0].env.A: needs a value, as text\n",
		pool("env: PATH"):                        `f:5:8: pools[0].env: "PATH" is not NAME=value` + "\n",
		"pools:\n- name: a\n  listen: unix:/a\n  process:\n  root: [/srv]\n": "f:5:3: pools[0].root: unknown key (did you mean process.root?)\n",
	} {
		_, err := load(t, text)
		faults, ok := errors.AsType[Faults](err)
		if !ok {
			t.Errorf("no faults: %v\n%s", err, text)
			continue
		}
		got := ""
		for _, f := range faults {
			got += f.String() + "\n" + f.Excerpt()
		}
		if got != want {
			t.Errorf("%sgot:\n%swant:\n%s", text, got, want)
		}
	}
}

// What may be written in two ways means the same.
func TestLenientLists(t *testing.T) {
	strict := mustLoad(t, "pools:\n- name: a\n  listen: [unix:/a]\n  env: [A=b, C=1, D=yes]\n  pass_env: [PATH]\n  process: {root: [/srv], extensions: [.cgi], interpreters: [.php=/p, .py=/q]}\n  user: '33'\n  group: '34'\n  groups: ['35']\n  sandbox: {rlimits: [nofile=10, cpu=2s]}\n")
	lenient := mustLoad(t, "pools:\n- name: a\n  listen: unix:/a\n  env: {A: b, C: 1, D: yes}\n  pass_env: PATH\n  process: {root: /srv, extensions: .cgi, interpreters: {.php: /p, .py: /q}}\n  user: 33\n  group: 34\n  groups: 35\n  sandbox: {rlimits: {nofile: 10, cpu: 2s}}\n")
	if diff := cmp.Diff(strict, lenient, ignorePlaces); diff != "" {
		t.Errorf("(-list +other):\n%s", diff)
	}
}

// What is said to be ours is a key.
func TestForeignKeys(t *testing.T) {
	known := append(names(reflect.TypeFor[Config]()), names(poolType)...)
	for _, name := range names(listenType) {
		known = append(known, "listen."+name)
	}
	first := regexp.MustCompile(`[a-z_]+(\.[a-z_]+)?`)
	for theirs, ours := range foreign {
		if name := first.FindString(strings.TrimPrefix(ours, "an argument of ")); ours != none && !slices.Contains(known, name) {
			t.Errorf("%s: %q is no key", theirs, name)
		}
	}
}

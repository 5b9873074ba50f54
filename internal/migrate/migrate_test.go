package migrate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/config"
)

// load is the configuration that was written, which must be one.
func load(t *testing.T, text string) *config.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "fcgid.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(file, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return c
}

func wants(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("lacks %q:\n%s", line, text)
		}
	}
}

// phpfpm is what is written for a file of php-fpm's.
func phpfpm(t *testing.T, conf string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "www.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	return PHPFPM(PHPOptions{Program: "/usr/bin/php-cgi"}, file)
}

// Files as documentation of hosters, containers and frameworks has them.
func TestPHPFPM(t *testing.T) {
	for name, tt := range map[string]struct {
		conf string
		want []string
	}{
		"socket": {"; a comment\n[www]\nuser = www-data\ngroup = www-data\nlisten = /run/php/php.sock\nlisten.owner = www-data\nlisten.mode = 0660\nlisten.backlog = 511\npm = dynamic\npm.max_children = 5\npm.start_servers = 2\npm.min_spare_servers = 1\npm.max_spare_servers = 3\n;pm.max_requests = 500\n", []string{
			`    listen: {address: "unix:/run/php/php.sock", owner: www-data, mode: "0660", backlog: 511}`, "    user: www-data", "      min: 2", "      max_spare: 3", "    silence: 45s",
		}},
		"container": {"[global]\nerror_log = /proc/self/fd/2\ndaemonize = no\nlog_limit = 8192\n[www]\naccess.log = /proc/self/fd/2\naccess.format = \"%R - %u %t \\\"%m %r\\\" %s\"\naccess.suppress_path[] = /ping\naccess.suppress_path[] = /health\nclear_env = no\ncatch_workers_output = yes\ndecorate_workers_output = no\nlisten = 9000\npm = static\npm.max_children = 10\n", []string{
			"# daemonize = no: fcgid stays in the foreground", `access_log: {output: stderr, format: "%R - %u %t \"%m %r\" %s", suppress: [/ping, /health]}`, "    listen: {address: \"tcp:[::]:9000\", allow: [127.0.0.1, \"::1\"]}", "      scale: static",
			"    # clear_env = no: nothing of the daemon's environment arrives but pass_env: name there what the program needs",
		}},
		"ondemand": {"[shop]\nuser=shop\nlisten = 127.0.0.1:9001\npm = ondemand\npm.max_children = 20\npm.process_idle_timeout = 10s;\npm.max_requests = 200\npm.min_spare_servers = 2\nrequest_terminate_timeout = 2m\nrlimit_files = 4096\nrlimit_core = 0\nprocess.priority = 5\nchdir = /srv/shop\n", []string{
			`    listen: {address: "tcp:127.0.0.1:9001"}`, "      idle_timeout: 10s", "      max_requests: 200", "    timeout: 2m0s", "    # timeout: with queue_timeout's 10s it reaches nginx's fastcgi_read_timeout (60s): raise that, or have less here", "      # min_spare: 2: is for scale: dynamic",
			`    sandbox: {nice: 5, rlimits: ["nofile=4096", "core=0"]}`, "      dir: /srv/shop",
		}},
		"two pools": {"[a]\nlisten = /run/php-$pool.sock\npm = dynamic\npm.max_children = 3\nslowlog = /var/log/$pool.slow\nrequest_slowlog_timeout = 5\nenv[HOSTNAME] = $HOSTNAME\nenv[PATH] = $PATH\nenv[TMP] = /tmp\nphp_admin_value[memory_limit] = 128M\nphp_admin_value[disable_functions] = exec\nphp_admin_value[open_basedir] = /srv\nphp_flag[display_errors] = off\n[b]\nlisten = 10.0.0.1:9000\nlisten.allowed_clients = 10.0.0.2,10.0.0.3\npm = dynamic\npm.max_children = 3\nsecurity.limit_extensions = .php .php8\n", []string{
			`    listen: {address: "unix:/run/php-a.sock"}`, "    slow: {log: /var/log/a.slow, after: 5s}", "    pass_env: [PATH, LANG, TZ, HOSTNAME]", "      # root: php-fpm runs a script wherever it lies: name the folders of yours (--root)",
			"    # php_admin_value[memory_limit]: a script can change it with ini_set, which php-fpm forbids; disable_functions it cannot",
			"    # php_admin_value[open_basedir]: a script can make it narrower with ini_set, not wider", `    env: ["TMP=/tmp"]`,
			`      command: [/usr/bin/php-cgi, "-d", "memory_limit=128M", "-d", "disable_functions=exec", "-d", "open_basedir=/srv", "-d", "display_errors=off"]`,
			`    listen: {address: "tcp:10.0.0.1:9000", allow: ["10.0.0.2", "10.0.0.3"]}`, `      extensions: [".php", ".php8"]`,
		}},
		"no counterparts": {"[x]\nlisten = \"/run/x\" ; here\nlisten.acl_users = a,b\nlisten.setfib = 1\napparmor_hat = h\nprocess.dumpable = yes\npm.status_listen = /run/s\naccess.format = %R\nmade_up = 1\n", []string{
			"    # listen.setfib = 1: is for FreeBSD", "    # made_up = 1: is no directive of php-fpm that is known here",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := phpfpm(t, tt.conf)
			if err != nil {
				t.Fatal(err)
			}
			load(t, text)
			wants(t, text, tt.want...)
		})
	}
}

func TestPHPFPMFaults(t *testing.T) {
	for conf, want := range map[string]string{
		"":                    "there is no pool",
		"[global]\npid = x\n": "there is no pool",
		"[a]\npm = static\n":  "[a]: there is no listen",
		"[a]\nlisten = /a\nrequest_terminate_timeout = soon\n": "[a] request_terminate_timeout = soon: is no time, such as 30 or 30s",
		"[a\nlisten = /a\n": "unclosed section",
	} {
		if text, err := phpfpm(t, conf); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v\n%s", conf, err, text)
		}
	}
	if _, err := PHPFPM(PHPOptions{}, "/none/www.conf"); err == nil || !strings.Contains(err.Error(), "/none/www.conf") {
		t.Errorf("no file: %v", err)
	}
}

// A file includes others once, relative to itself.
func TestPHPFPMInclude(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"php-fpm.conf":  "[global]\nlog_level = warning\nprocess_control_timeout = 10\ninclude = pool.d/*.conf\n",
		"pool.d/a.conf": "[a]\nlisten = /run/a\ninclude = ../php-fpm.conf\n", "pool.d/b.conf": "[b]\nlisten = /run/b\n",
	} {
		os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := PHPFPM(PHPOptions{Program: "/usr/bin/php-cgi", Root: []string{"/srv/www"}}, filepath.Join(dir, "php-fpm.conf"))
	if err != nil {
		t.Fatal(err)
	}
	c := load(t, text)
	if len(c.Pools) != 2 || c.Log.Level != "warn" || c.ShutdownTimeout.Seconds() != 10 || c.Pools[1].Worker.Root[0] != "/srv/www" {
		t.Errorf("%s", text)
	}
}

func TestFCGIWrap(t *testing.T) {
	for want, w := range map[string]Wrap{
		`listen: "unix:/run/f.sock"`:                                       {Socket: "unix:/run/f.sock", Children: 1},
		`listen: {address: "unix:/run/f.sock", mode: "0755"}`:              {Socket: "unix:/run/f.sock", Children: 1, Mode: "0755"},
		`listen: "tcp:127.0.0.1:9001"`:                                     {Socket: "tcp:127.0.0.1:9001", Children: 1, Mode: "0755"},
		"silence: 45s":                                                     {Socket: "unix:/a", Children: 1},
		`listen: "tcp:127.0.0.1:9000"`:                                     {Socket: "tcp:127.0.0.1:9000", Children: 1},
		`listen: "tcp:[::1]:9000"`:                                         {Socket: "tcp6:[::1]:9000", Children: 1},
		`listen: {address: "tcp:0.0.0.0:9000", allow: [127.0.0.1, "::1"]}`: {Socket: "tcp:0.0.0.0:9000", Children: 1},
		`listen: "systemd:fcgiwrap.socket"`:                                {Children: 1},
		"limits: {max_reqs: 4}":                                            {Socket: "unix:/a", Children: 4},
		"  stderr: client":                                                 {Socket: "unix:/a", Children: 4, Forward: true},
		`  scripts: [/usr/lib/a.cgi, "/srv/b c"]`:                          {Socket: "unix:/a", Children: 4, Scripts: []string{"/usr/lib/a.cgi", "/srv/b c"}},
	} {
		text, err := FCGIWrap(&w)
		if err != nil {
			t.Fatal(err)
		}
		load(t, text)
		wants(t, text, "    "+want)
	}
	if _, err := FCGIWrap(&Wrap{Socket: "unix:/a"}); err == nil {
		t.Error("no children")
	}
}

func TestSpawnFCGI(t *testing.T) {
	for args, want := range map[string][]string{
		"-s /run/a.sock -M 0660 -U www-data -G adm -b 128 -F 2 -d /srv -P /run/pid -- /srv/app --flag": {
			`    listen: {address: "unix:/run/a.sock", mode: "0660", owner: www-data, group: adm, backlog: 128}`, `      command: [/srv/app, "--flag"]`, "      max: 2", "      dir: /srv", "    silence: 45s",
		},
		"-a 127.0.0.1 -p 9000 -n -S -C 4 -u nobody -g nogroup -f /usr/bin/php-cgi": {`    listen: "tcp:127.0.0.1:9000"`, "    user: nobody", "    group: nogroup", "    env: [\"PHP_FCGI_CHILDREN=4\"]", "      concurrency: 4"},
		"-p 9000 /srv/app": {`    listen: {address: "tcp:0.0.0.0:9000", allow: [127.0.0.1, "::1"]}`},
		"-s /a -- /srv/.x": {"  - name: x"},
	} {
		text, err := SpawnFCGI(strings.Fields(args))
		if err != nil {
			t.Errorf("%s: %v", args, err)
			continue
		}
		load(t, text)
		wants(t, text, want...)
	}
	for args, want := range map[string]string{"-s /a": "no program", "-s /a app": "absolute path", "-z": "unknown shorthand", "-s /a -F x /b": "-F", "-s /a -C 0 /b": "-C"} {
		if text, err := SpawnFCGI(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\n%s", args, err, text)
		}
	}
}

// What php-cgi reads after -d is what php-fpm has read: in quotes it is text, and without
// them PHP reads it in one as in the other.
func TestPHPFPMSettings(t *testing.T) {
	for value, want := range map[string]string{
		`"5;/x"`: `s="5;/x"`, `"a|b" ; comment`: `s="a|b"`, `"on"`: `s="on"`, `"a\"b\\c"`: `s="a\"b\\c"`, `"C:\dir"`: `s="C:\\dir"`, `""`: `s=""`,
		`'5;/x'`: `s="5;/x"`, `'a"b'`: `s="a\"b"`, `128M ; comment`: "s=128M", "E_ALL & ~E_NOTICE": "s=E_ALL & ~E_NOTICE", "on": "s=on", "5;/x": "s=5", "it's": "s=it's",
	} {
		text, err := phpfpm(t, "[a]\nlisten = /run/a\npm = static\npm.max_children = 1\nphp_admin_value[s] = "+value+"\n")
		if err != nil {
			t.Errorf("%s: %v", value, err)
			continue
		}
		if got := load(t, text).Pools[0].Worker.Command; len(got) != 3 || got[2] != want {
			t.Errorf("%s: %q, want %q", value, got, want)
		}
	}
}

// Of a directive that is given twice the last counts, as with php-fpm.
func TestPHPFPMTwice(t *testing.T) {
	text, err := phpfpm(t, "[global]\nprocess_control_timeout = 5\nprocess_control_timeout = 6\nlog_level = error\nlog_level = debug\n"+
		"[a]\nlisten = /run/a\nlisten.mode = 0600\nuser = root\npm = static\npm.max_children = 1\nrequest_terminate_timeout = 1\nprocess.priority = 1\nrlimit_files = 100\n"+
		"listen.mode = 0660\nuser = nobody\npm.max_children = 7\nrequest_terminate_timeout = 2\nprocess.priority = 2\nrlimit_files = 200\nenv[A] = 1\nenv[A] = 2\naccess.log = /a\naccess.log = /b\n")
	if err != nil {
		t.Fatal(err)
	}
	c := load(t, text)
	p := &c.Pools[0]
	if c.ShutdownTimeout.Seconds() != 6 || c.Log.Level != "debug" || c.AccessLog.Output != "/b" || p.Listen[0].Mode != 0o660 || p.User != "nobody" ||
		p.Worker.Max != 7 || p.Timeout.Seconds() != 2 || len(p.Sandbox.Rlimits) != 1 || len(p.Env) != 1 {
		t.Error(text)
	}
}

// What should be a number and is none is refused as that, and is no YAML of its own.
func TestHostileNumbers(t *testing.T) {
	for _, value := range []string{"[", "1}", "1, max: 2", "a: b", "# x", "&a", "yes"} {
		text, err := phpfpm(t, "[a]\nlisten = /run/a\npm = static\npm.max_children = "+value+"\nprocess.priority = "+value+"\n")
		if err == nil {
			refusesNumbers(t, text)
		}
		if text, err = SpawnFCGI([]string{"-s", "/run/a", "-b", value, "/srv/app"}); err == nil {
			refusesNumbers(t, text)
		}
	}
}

func refusesNumbers(t *testing.T, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "fcgid.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := config.Load(file, nil)
	faults, ok := err.(config.Faults)
	if !ok {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, f := range faults {
		if !strings.Contains(f.Text, "must be an integer") {
			t.Errorf("%v\n%s", f, text)
		}
	}
}

// Whatever the values are, they are values.
func TestHostileValues(t *testing.T) {
	for _, value := range []string{`a"b`, `a\b`, "a: b", "#x", "{x}", "[x]", "&a", "*a", "!x", "%x", "@x", "`x`", "'x'", "yes", "null", "0x1", "\x7f\u0085", "é"} {
		text, err := phpfpm(t, "[a]\nlisten = /run/a\npm = static\nenv[A] = "+value+"\nmade_up = "+value+"\n")
		if err != nil {
			t.Errorf("%q: %v", value, err)
			continue
		}
		if c := load(t, text); len(c.Pools[0].Env) != 1 || !strings.HasPrefix(c.Pools[0].Env[0], "A=") {
			t.Errorf("%q: %q", value, c.Pools[0].Env)
		}
	}
}

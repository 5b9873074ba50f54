package config

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// one is a pool that lacks nothing; tests append keys of the pool to it.
const one = "pools:\n- name: a\n  listen: unix:/run/a\n  process: {root: [/srv]}\n"

// write makes files below a new folder that becomes the working directory, so
// that faults name them without it.
func write(t testing.TB, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func load(t testing.TB, text string) (*Config, error) {
	t.Helper()
	write(t, map[string]string{"f": text})
	return Load("f", nil)
}

func mustLoad(t testing.TB, text string) *Config {
	t.Helper()
	c, err := load(t, text)
	if err != nil {
		t.Fatalf("load:\n%s\n%v", text, err)
	}
	return c
}

// wantFaults compares err, line by line, with what is wanted.
func wantFaults(t *testing.T, err error, want ...string) {
	t.Helper()
	var faults Faults
	if err != nil && !errors.As(err, &faults) {
		t.Fatalf("%T is not Faults: %v", err, err)
	}
	got := strings.Split(faults.Error(), "\n")
	if len(faults) == 0 {
		got = nil
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

var ignorePlaces = cmp.Options{cmpopts.IgnoreUnexported(Config{}), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}

// defaultPool is what one gives.
func defaultSandbox() Sandbox {
	return Sandbox{
		MinUID: 1000, Umask: 0o022, Capabilities: []Capability{}, Rlimits: []Rlimit{}, Read: []string{}, Write: []string{}, Network: true, Cgroup: "auto",
	}
}

func defaultPool() Pool {
	return Pool{
		Name:   "a",
		Listen: []Listen{{Address: "unix:/run/a", Mode: 0o660, Allow: []netip.Prefix{}, AllowUIDs: []uint32{}}},
		Limits: Limits{
			MaxConns: 1024, Multiplex: true, RequestBuffering: true, Queue: 1024, QueueTimeout: 10 * time.Second,
			Params: 256 << 10, Body: 1 << 30, BodyMemory: 64 << 10, AnswerSpool: 1 << 30, Spool: 8 << 30,
			StderrRate:   64 << 10,
			SingleFields: []string{"*_USER", "*_EMAIL", "*_GROUPS"},
			ReadTimeout:  30 * time.Second, WriteTimeout: time.Minute,
		},
		OnClientAbort: "",
		Env:           []string{},
		PassEnv:       []string{"PATH", "LANG", "TZ"},
		Sandbox:       defaultSandbox(),
		PassParams:    []string{},
		PingResponse:  "pong",
		Groups:        []string{},
		Process: &Process{
			Root: []string{"/srv"}, Scripts: []string{}, Extensions: []string{}, Interpreters: []Interpreter{},
			KillGrace: 5 * time.Second, Linger: 2 * time.Second, Stderr: "log",
		},
		Slow: Slow{Command: []string{}},
	}
}

// defaultWorker is what a worker pool has that gives its command alone.
func defaultWorker(command ...string) *Worker {
	return &Worker{
		Command: command, Connections: "managed", Scale: "dynamic", Max: 8, Min: 1, MinSpare: 1, MaxSpare: 4, Concurrency: 1, SpawnRate: 32,
		IdleTimeout: time.Minute, StartTimeout: 10 * time.Second, StopSignal: syscall.SIGTERM, StopGrace: 10 * time.Second,
		WarmUp: []string{}, Reload: "changed", Dispatch: "lifo", Stderr: "log", Root: []string{}, Extensions: []string{},
	}
}

func defaultConfig() *Config {
	return &Config{
		Log:             Log{Level: "info", Format: "auto", Output: "stderr"},
		AccessLog:       AccessLog{Format: "json", Suppress: []string{}},
		Admin:           Admin{Listen: "tcp:127.0.0.1:9253", Allow: []netip.Prefix{}, Hosts: []string{}, URIs: "hidden", Control: "auto"},
		ShutdownTimeout: 30 * time.Second,
		UpgradeTimeout:  time.Hour,
		Include:         []string{},
		Pools:           []Pool{defaultPool()},
	}
}

func TestDefaults(t *testing.T) {
	if diff := cmp.Diff(defaultConfig(), mustLoad(t, one), ignorePlaces); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestValues(t *testing.T) {
	got := mustLoad(t, `
log: {level: debug, format: json, output: /var/log/fcgid.log}
access_log: {output: stdout, format: "%m %r", suppress: [/ping]}
admin: {listen: "unix:/run/admin", hosts: [fcgid.example, x], uris: full, control: "unix:/run/control"}
memory: 64MiB
shutdown_timeout: 0
upgrade_timeout: 0
pools:
- name: A.b-c_1
  listen:
  - {address: "tcp:10.0.0.1:9000", allow: [10.0.0.0/8, 192.168.1.7, "::1", "::ffff:1.2.3.4"]}
  - {address: "unix:@abstract", backlog: 0x10, allow_uids: [0, 4294967295]}
  limits: {max_conns: 0, max_reqs: 7, multiplex: false, queue: 0, queue_timeout: 1m30s, params: 0,
    body: 1.5MB, body_memory: 4KiB, request_buffering: false, answer_spool: 0, spool: 1GiB, single_fields: ["X_*"], stderr_rate: 2KiB, read_timeout: 0s, write_timeout: 250ms, idle_timeout: 1h}
  timeout: 5m
  on_client_abort: ignore
  env: [A=, b_1=x=y]
  pass_env: []
  pass_params: [HOME, PHPRC]
  sandbox:
    {cgroup: required, memory: 1GiB, memory_request: 64MiB, pids: 20, cpu: 1.5,
     required: true, umask: 0o027, nice: -5, oom_score_adj: 500, no_new_privs: true, capabilities: [cap_chown, NET_ADMIN],
     rlimits: [nofile=1024, cpu=90s, as=512MiB], read: [/srv, -/opt], write: [/var/lib/x], network: false, private_tmp: true}
  status_path: /status
  ping_path: /ping
  ping_response: ok
  slow: {after: 90s, log: /slow.log, command: [/usr/bin/py-spy, dump, "{pid}"]}
  process:
    scripts: [/srv/*.cgi, /srv/x]
    extensions: [.cgi, .tar.gz]
    interpreters: [.php=/usr/bin/php-cgi, .pl=/a=b]
    dir: /tmp
    kill_grace: 0
    linger: 90ms
    stderr: both
`)
	networks := []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.168.1.7/32"),
		netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("1.2.3.4/32"),
	}
	want := &Config{
		Memory:    64 << 20,
		Log:       Log{"debug", "json", "/var/log/fcgid.log"},
		AccessLog: AccessLog{"stdout", "%m %r", []string{"/ping"}},
		Admin:     Admin{Listen: "unix:/run/admin", Allow: []netip.Prefix{}, Hosts: []string{"fcgid.example", "x"}, URIs: "full", Control: "unix:/run/control"},
		Include:   []string{},
		Pools: []Pool{{
			Name: "A.b-c_1",
			Listen: []Listen{
				{Address: "tcp:10.0.0.1:9000", Mode: 0o660, Allow: networks, AllowUIDs: []uint32{}},
				{Address: "unix:@abstract", Mode: 0o660, Backlog: 16, Allow: []netip.Prefix{}, AllowUIDs: []uint32{0, 1<<32 - 1}},
			},
			Limits: Limits{
				MaxReqs: 7, QueueTimeout: 90 * time.Second, Body: 1500000, BodyMemory: 4096, Spool: 1 << 30, StderrRate: 2 << 10,
				SingleFields: []string{"X_*"}, WriteTimeout: 250 * time.Millisecond, IdleTimeout: time.Hour,
			},
			Timeout: 5 * time.Minute, OnClientAbort: "ignore",
			Env: []string{"A=", "b_1=x=y"}, PassEnv: []string{}, PassParams: []string{"HOME", "PHPRC"}, Groups: []string{},
			Sandbox: Sandbox{
				MinUID: 1000,
				Cgroup: "required", Memory: 1 << 30, MemoryRequest: 64 << 20, Pids: 20, CPU: 1.5,
				Required: true, Umask: 0o027, Nice: -5, OOMScoreAdj: 500, NoNewPrivs: true,
				Capabilities: []Capability{{"CAP_CHOWN", 0}, {"CAP_NET_ADMIN", 12}},
				Rlimits:      []Rlimit{{"nofile", unix.RLIMIT_NOFILE, 1024}, {"cpu", unix.RLIMIT_CPU, 90}, {"as", unix.RLIMIT_AS, 512 << 20}},
				Read:         []string{"/srv", "-/opt"}, Write: []string{"/var/lib/x"}, PrivateTmp: true,
			},
			StatusPath: "/status", PingPath: "/ping", PingResponse: "ok",
			Process: &Process{
				Root: []string{}, Scripts: []string{"/srv/*.cgi", "/srv/x"}, Extensions: []string{".cgi", ".tar.gz"},
				Interpreters: []Interpreter{{".php", "/usr/bin/php-cgi"}, {".pl", "/a=b"}},
				Dir:          "/tmp", Linger: 90 * time.Millisecond, Stderr: "both",
			},
			Slow: Slow{After: 90 * time.Second, Log: "/slow.log", Command: []string{"/usr/bin/py-spy", "dump", "{pid}"}},
		}},
	}
	if diff := cmp.Diff(want, got, ignorePlaces); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestListenForms(t *testing.T) {
	tests := []struct {
		listen string
		want   []string
	}{
		{"unix:/run/x", []string{"unix:/run/x"}},
		{"{address: systemd:web}", []string{"systemd:web"}},
		{"[unix:/a, {address: 'unix:@b'}]", []string{"unix:/a", "unix:@b"}},
		{"tcp:127.9.9.9:0", []string{"tcp:127.9.9.9:0"}},
		{"tcp:LocalHost:65535", []string{"tcp:LocalHost:65535"}},
		{"'tcp:[::1]:80'", []string{"tcp:[::1]:80"}},
		{"[tcp:localhost:0, tcp:localhost:0]", []string{"tcp:localhost:0", "tcp:localhost:0"}},
		{"{address: 'tcp::80', allow: [10.0.0.0/8]}", []string{"tcp::80"}},
		{"{address: systemd:web, allow: [10.0.0.0/8], allow_uids: [7]}", []string{"systemd:web"}},
		{"unix:/" + strings.Repeat("x", 106), []string{"unix:/" + strings.Repeat("x", 106)}},
	}
	for _, tt := range tests {
		c := mustLoad(t, strings.Replace(one, "unix:/run/a", tt.listen, 1))
		var got []string
		for _, l := range c.Pools[0].Listen {
			got = append(got, l.Address)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("listen: %s (-want +got):\n%s", tt.listen, diff)
		}
	}
}

func TestMode(t *testing.T) {
	for text, want := range map[string]fs.FileMode{
		`"0660"`: 0o660, "0660": 0o660, "660": 0o660, "0o600": 0o600, `"777"`: 0o777, `"0000"`: 0,
	} {
		c := mustLoad(t, strings.Replace(one, "unix:/run/a", "{address: unix:/a, mode: "+text+"}", 1))
		if got := c.Pools[0].Listen[0].Mode; got != want {
			t.Errorf("mode: %s is %o, want %o", text, got, want)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "64KiB": 64 << 10, "1MiB": 1 << 20, "1GB": 1e9, "1 gib": 1 << 30,
		"1125899906842624": 1 << 50, "0x10": 16,
	} {
		c := mustLoad(t, one+"  limits: {body: "+text+"}\n")
		if got := c.Pools[0].Limits.Body; got != want {
			t.Errorf("body: %s is %d, want %d", text, got, want)
		}
	}
}

func TestAliases(t *testing.T) {
	c := mustLoad(t, `
pools:
- &a
  name: a
  listen: unix:/a
  limits: &l {queue: 1, max_reqs: 2}
  process: &p {root: &r [/srv]}
- <<: *a
  name: b
  listen: unix:/b
  limits: {<<: [{queue: 3}, *l], max_conns: 4}
- name: c
  listen: unix:/c
  process: {root: *r}
`)
	a, b := c.Pools[0], c.Pools[1]
	b.Name, b.Listen = a.Name, a.Listen
	if want := (Limits{Queue: 3, MaxReqs: 2, MaxConns: 4}); b.Limits.Queue != want.Queue ||
		b.Limits.MaxReqs != want.MaxReqs || b.Limits.MaxConns != want.MaxConns {
		t.Errorf("merged limits: %+v", b.Limits)
	}
	b.Limits = a.Limits
	if diff := cmp.Diff(a, b, ignorePlaces); diff != "" {
		t.Errorf("merged pool (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/srv"}, c.Pools[2].Process.Root); diff != "" {
		t.Errorf("alias (-want +got):\n%s", diff)
	}
}

func flags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("fcgid", pflag.ContinueOnError)
	AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return fs
}

func TestOverrides(t *testing.T) {
	write(t, map[string]string{"f": "log: {level: warn, format: json}\n" + one})
	t.Setenv("FCGID_LOG_FORMAT", "console")
	t.Setenv("FCGID_LOG_OUTPUT", "stdout")
	t.Setenv("FCGID_ADMIN_LISTEN", "")
	t.Setenv("FCGID_SHUTDOWN_TIMEOUT", "1s")
	c, err := Load("f", flags(t, "--log.output=/x.log", "--shutdown_timeout", "2s", "--access_log.output=stderr"))
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.Log = Log{Level: "warn", Format: "console", Output: "/x.log"}
	want.AccessLog.Output = "stderr"
	want.Admin.Listen = ""
	want.ShutdownTimeout = 2 * time.Second
	if diff := cmp.Diff(want, c, ignorePlaces); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A variable and a flag give a list with commas, as a container must that listens for
// others.
func TestOverriddenLists(t *testing.T) {
	write(t, map[string]string{"f": "admin: {hosts: [x]}\n" + one})
	t.Setenv("FCGID_ADMIN_LISTEN", "tcp:0.0.0.0:9253")
	t.Setenv("FCGID_ADMIN_ALLOW", "10.0.0.0/8, 192.168.1.7")
	c, err := Load("f", flags(t, "--admin.hosts=a.example,b"))
	if err != nil {
		t.Fatal(err)
	}
	want := Admin{
		Listen: "tcp:0.0.0.0:9253", Hosts: []string{"a.example", "b"}, URIs: "hidden", Control: "auto",
		Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.168.1.7/32")},
	}
	if diff := cmp.Diff(want, c.Admin, ignorePlaces); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	t.Setenv("FCGID_ADMIN_ALLOW", "10.0.0.0/8,lan")
	_, err = Load("f", nil)
	wantFaults(t, err, `FCGID_ADMIN_ALLOW: admin.allow[1]: "lan" is not a network, for example 10.0.0.0/8 or 2001:db8::1`)
}

func TestOverrideFaults(t *testing.T) {
	write(t, map[string]string{"f": "log: {level: [x], format: y}\nshutdown_timeout: 5\n" + one})
	t.Setenv("FCGID_LOG_LEVEL", "inof")
	t.Setenv("FCGID_LOG_FORMAT", "y")
	t.Setenv("FCGID_LOG_OUTPUT", "")
	_, err := Load("f", flags(t, "--log.format=jsn", "--shutdown_timeout", "-1s", "--admin.listen=systemd:x"))
	wantFaults(t, err,
		`--admin.listen: admin.listen: "systemd:x" is not tcp:host:port or unix:/path`,
		`--log.format: log.format: "jsn" is not one of auto, console, json (did you mean json?)`,
		`--shutdown_timeout: shutdown_timeout: "-1s" is negative`,
		`FCGID_LOG_LEVEL: log.level: "inof" is not one of debug, info, warn, error (did you mean info?)`,
		`FCGID_LOG_OUTPUT: log.output: is empty: write stderr, stdout or a file`,
		`f:1:14: log.level: must be a string, not a list`,
	)
}

func TestFlagsCoverGlobals(t *testing.T) {
	fs := flags(t)
	for _, f := range fields(reflect.TypeFor[Config]()) {
		keys := []string{f.name}
		if isMapping(f.typ) {
			keys = nil
			for _, name := range names(f.typ) {
				keys = append(keys, f.name+"."+name)
			}
		}
		for _, key := range keys {
			// user is not to be had by another way than the file, which root alone can change.
			if fs.Lookup(key) == nil && f.typ.Kind() != reflect.Slice && key != "user" {
				t.Errorf("no flag for %s", key)
			}
		}
	}
	if got := fs.Lookup("admin.listen").DefValue; got != "tcp:127.0.0.1:9253" {
		t.Errorf("default shown for --admin.listen: %q", got)
	}
}

func TestInclude(t *testing.T) {
	pool := func(name string) string {
		return "pools: [{name: " + name + ", listen: unix:/" + name + ", process: {root: [/srv]}}]\n"
	}
	write(t, map[string]string{
		"d[1]/f":             "include: ['*', conf.d/*.yaml, conf.d/1.yaml, none/*.yaml, ../abs.yaml]\n" + pool("a"),
		"d[1]/conf.d/2.yaml": pool("c"),
		"d[1]/conf.d/1.yaml": pool("b"),
		"d[1]/conf.d/3.yaml": "# pools: []\n",
		"abs.yaml":           pool("d"),
	})
	if err := os.Rename("d[1]/conf.d", "d[1]/x"); err != nil {
		t.Fatal(err)
	}
	_, err := Load("d[1]/f", nil)
	wantFaults(t, err,
		`d[1]/f:1:11: include[0]: d[1]/x: read: is a directory`,
		`d[1]/f:1:31: include[2]: d[1]/conf.d/1.yaml: open: no such file or directory`,
	)
	if err := os.Rename("d[1]/x", "d[1]/conf.d"); err != nil {
		t.Fatal(err)
	}
	data, _ := os.ReadFile("d[1]/f")
	if err := os.WriteFile("d[1]/f", []byte(strings.Replace(string(data), "'*', ", "", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Load("d[1]/f", nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range c.Pools {
		got = append(got, p.Name)
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "d"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	again := reload(t, c)
	again.Include = c.Include
	if diff := cmp.Diff(c, again, ignorePlaces); diff != "" {
		t.Errorf("from YAML (-want +got):\n%s", diff)
	}
}

func TestIncludeFaults(t *testing.T) {
	write(t, map[string]string{
		"f":   "include: [b, c, d, e, '[', g, big]\n" + one,
		"b":   "pools:\n- {name: a, listen: unix:/b, process: {root: [/srv]}}\n- {name: b, listen: unix:/run/a, limits: {queue: x}, process: {root: [/srv]}}\n",
		"c":   "include: [x]\npools: []\n",
		"d":   "[]\n",
		"e":   "pools: [\n  }\n",
		"g":   "pools: 3\n",
		"big": strings.Repeat("#", maxFile+1),
	})
	_, err := Load("f", nil)
	wantFaults(t, err,
		`b:2:10: pools[0].name: already used at f:3:9 (pools[0].name)`,
		`b:3:21: pools[1].listen: already used at f:4:11 (pools[0].listen)`,
		`b:3:50: pools[1].limits.queue: must be an integer, not "x"`,
		`c:1:1: include: unknown key: an included file holds pools only`,
		`d:1:1: must be a mapping, not a list`,
		`e:2: did not find expected node content`,
		`f:1:23: include[4]: syntax error in pattern`,
		`f:1:31: include[6]: big: larger than 1MiB`,
		`g:1:8: pools: must be a list, not a number`,
	)
}

func TestFileFaults(t *testing.T) {
	write(t, map[string]string{"big": strings.Repeat("#", maxFile+1), "full": one + "#" + strings.Repeat("x", maxFile-len(one)-1)})
	_, err := Load("none", nil)
	wantFaults(t, err, "none: open: no such file or directory")
	_, err = Load(".", nil)
	wantFaults(t, err, ".: read: is a directory")
	_, err = Load("big", nil)
	wantFaults(t, err, "big: larger than 1MiB")
	_, err = Load("full", nil)
	wantFaults(t, err)
}

// reload loads what c.YAML writes.
func reload(t testing.TB, c *Config) *Config {
	t.Helper()
	data, err := c.YAML()
	if err != nil {
		t.Fatalf("dump: %v", err)
	}
	name := filepath.Join(t.TempDir(), "again")
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := Load(name, nil)
	if err != nil {
		t.Fatalf("load the dump: %v\n%s", err, data)
	}
	return again
}

func TestYAML(t *testing.T) {
	data, err := mustLoad(t, one+"- {name: 'true', listen: 'tcp:[::1]:1', process: {root: [/a], interpreters: [.a=/b]}}\n").YAML()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"shutdown_timeout: 30s\n", "include: []\n", "  - name: a\n", "      - address: unix:/run/a\n", "        mode: \"0660\"\n",
		"      body: 1GiB\n", "      write_timeout: 1m\n", "      idle_timeout: 0s\n", "  - name: \"true\"\n", "        - .a=/b\n",
	} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%q is missing in\n%s", want, data)
		}
	}
	if n := strings.Count(string(data), "mode:"); n != 1 {
		t.Errorf("mode appears %d times, want it for the unix path only", n)
	}
}

func FuzzLoad(f *testing.F) {
	example, err := os.ReadFile("../../configs/fcgid.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	for _, tt := range faultTests {
		f.Add([]byte(tt.text))
	}
	f.Add([]byte(one))
	f.Add([]byte(worker("{command: [/x], max: 2, stop_signal: quit}") + "- {name: b, listen: unix:/b, function: , slow: {after: 1s}}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		name := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
		c, err := Load(name, nil)
		if err != nil {
			if len(err.(Faults)) == 0 {
				t.Error("an error without a fault")
			}
			return
		}
		again := reload(t, c)
		again.Include = c.Include
		if diff := cmp.Diff(c, again, ignorePlaces); diff != "" {
			t.Errorf("from YAML (-want +got):\n%s", diff)
		}
	})
}

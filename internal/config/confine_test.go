package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"golang.org/x/sys/unix"
)

func TestSandboxFaults(t *testing.T) {
	for name, test := range map[string]struct {
		sandbox string
		want    []string
	}{
		"words": {"{preset: strickt, network: no, umask: '0900', nice: 20, oom_score_adj: -1001}", []string{
			`f:5:21: pools[0].sandbox.preset: "strickt" is not one of strict (did you mean strict?)`,
			`f:5:39: pools[0].sandbox.network: must be true or false, not "no"`,
			`f:5:50: pools[0].sandbox.umask: "0900" is not an octal mode from 0000 to 0777, for example "0660"`,
			"f:5:64: pools[0].sandbox.nice: must be from -20 to 19, not 20",
			"f:5:83: pools[0].sandbox.oom_score_adj: must be from -1000 to 1000, not -1001",
		}},
		"capabilities": {"{capabilities: [CAP_CHWON, none, NET_RAW]}", []string{
			`f:5:28: pools[0].sandbox.capabilities[0]: "CAP_CHWON" is no capability, for example CAP_NET_BIND_SERVICE, and not none (did you mean CAP_CHOWN?)`,
			"f:5:39: pools[0].sandbox.capabilities[1]: none stands alone",
		}},
		"one capability": {"{capabilities: nothing}", []string{
			`f:5:27: pools[0].sandbox.capabilities: "nothing" is no capability, for example CAP_NET_BIND_SERVICE, and not none`,
		}},
		"rlimits": {"{rlimits: [nofile=1024, nofiles=1, cpu=10, cpu=1500ms, as=512M, core=, nofile=1, nproc=-1]}", []string{
			`f:5:36: pools[0].sandbox.rlimits[1]: "nofiles" is not one of as, core, cpu, data, fsize, memlock, msgqueue, nofile, nproc, sigpending, stack (did you mean nofile?)`,
			`f:5:47: pools[0].sandbox.rlimits[2]: cpu: "10" needs a unit, for example 30s`,
			`f:5:55: pools[0].sandbox.rlimits[3]: cpu: "1500ms" is not a whole number of seconds, at least 1s`,
			`f:5:67: pools[0].sandbox.rlimits[4]: as: "512M" could be either of two sizes: write 512MiB or 512MB`,
			`f:5:76: pools[0].sandbox.rlimits[5]: "core=" is not name=value, for example nofile=1024, cpu=30s or as=512MiB`,
			`f:5:83: pools[0].sandbox.rlimits[6]: already used at f:5:23 (pools[0].sandbox.rlimits[0])`,
			`f:5:93: pools[0].sandbox.rlimits[7]: nproc: must be an integer from 0 to 2147483647, not "-1"`,
		}},
		"paths": {"{read: [srv, -/opt, -x], write: [''], chroot: jail}", []string{
			`f:4:20: pools[0].process.root[0]: "/srv" is outside sandbox.chroot, which is jail at f:5:58`,
			`f:5:20: pools[0].sandbox.read[0]: "srv" is not an absolute path`,
			`f:5:32: pools[0].sandbox.read[2]: "x" is not an absolute path`,
			`f:5:45: pools[0].sandbox.write[0]: "" is not an absolute path`,
			`f:5:58: pools[0].sandbox.chroot: "jail" is not an absolute path`,
		}},
		"the root": {"{chroot: /}", []string{`f:5:21: pools[0].sandbox.chroot: "/" is the root already`}},
		"two folders for /tmp": {"{chroot: /srv, private_tmp: true}", []string{
			"f:5:40: pools[0].sandbox.private_tmp: is not for a pool with chroot, which has a /tmp of its own in there: take one of the two out",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, pool("sandbox: "+test.sandbox))
			wantFaults(t, err, test.want...)
		})
	}
}

// What the sandbox hides, and what it is not for.
func TestSandboxOfPoolFaults(t *testing.T) {
	_, err := load(t, `pools:
- {name: a, listen: unix:/a, process: {root: [/tmp/site, /tmpx]}, sandbox: {private_tmp: true}}
- {name: b, listen: unix:/b, worker: {command: [/usr/bin/php-cgi]}, sandbox: {preset: strict}}
- {name: c, listen: unix:/c, worker: {command: [/usr/bin/php-cgi]}, sandbox: {preset: strict, read: [/srv]}}
- {name: d, listen: unix:/d, function: {}, sandbox: {network: false}}
`)
	wantFaults(t, err,
		`f:2:47: pools[0].process.root[0]: "/tmp/site": with sandbox.private_tmp another folder is there`,
		`f:3:87: pools[1].sandbox.preset: strict lets workers read their worker.root, and this pool has none: give that, or sandbox.read`,
		"f:5:53: pools[3].sandbox: is for programs, and a pool of functions starts none",
	)
}

// The preset fills in what the file does not say, and what it says counts.
func TestStrict(t *testing.T) {
	c := mustLoad(t, `pools:
- name: a
  listen: unix:/a
  process: {root: [/srv/a], scripts: [/opt/x/*.cgi], interpreters: [.py=/opt/python]}
  sandbox: {preset: strict}
- name: b
  listen: unix:/b
  worker: {command: [/opt/php-cgi, -x], root: [/jail/srv]}
  sandbox: {preset: strict, network: true, no_new_privs: false, private_tmp: false, capabilities: "", rlimits: [nofile=9, cpu=1s], read: [/usr, /data], chroot: /jail}
- name: c
  listen: unix:/c
  process: {root: [/jail/srv]}
  sandbox: {preset: strict, chroot: /jail}
- {name: d, listen: unix:/d, process: {root: [/srv], interpreters: [.php=/usr/bin/php-cgi]}, sandbox: {preset: strict, write: [-/var/lib/php]}}
`)
	if d := c.Pools[3].Sandbox; !slices.Equal(d.Write, []string{"-/var/lib/php"}) {
		t.Errorf("a folder around the sessions is written, and strict adds to it: %q", d.Write)
	}
	a, b := c.Pools[0].Sandbox, c.Pools[1].Sandbox
	if c := c.Pools[2].Sandbox; c.PrivateTmp || !c.NoNewPrivs {
		t.Errorf("strict with a chroot is %+v", c)
	}
	if kept, limited := a.KeepsCapabilities(); !a.NoNewPrivs || !a.PrivateTmp || a.Network || !limited || len(kept) > 0 {
		t.Errorf("strict is %+v", a)
	}
	for _, path := range []string{"/srv/a", "/opt/x", "/opt/python", "-/usr", "-/etc/passwd"} {
		if !slices.Contains(a.Read, path) {
			t.Errorf("strict reads %q, not %s", a.Read, path)
		}
	}
	for _, secret := range []string{"/", "/etc", "/etc/shadow", "/proc", "/var", "/home", "/root", "/tmp", "/dev"} {
		if slices.Contains(a.Read, secret) || slices.Contains(a.Read, "-"+secret) {
			t.Errorf("strict reads %s", secret)
		}
	}
	if len(a.Write) > 0 || !slices.Contains(a.Rlimits, Rlimit{"core", unix.RLIMIT_CORE, 0}) {
		t.Errorf("strict writes %q, and has the limits %v", a.Write, a.Rlimits)
	}
	if _, limited := b.KeepsCapabilities(); b.NoNewPrivs || b.PrivateTmp || !b.Network || limited {
		t.Errorf("what the file gives does not count: %+v", b)
	}
	if !slices.Equal(b.Write, []string{"-/var/lib/php/sessions"}) {
		t.Errorf("PHP writes %q, not its sessions", b.Write)
	}
	if !slices.Contains(b.Rlimits, Rlimit{"nofile", unix.RLIMIT_NOFILE, 9}) || slices.Contains(b.Rlimits, Rlimit{"nofile", unix.RLIMIT_NOFILE, 1024}) {
		t.Errorf("the limits are %v", b.Rlimits)
	}
	for _, path := range []string{"/usr", "/data", "/srv", "/opt/php-cgi", "-/lib"} {
		if !slices.Contains(b.Read, path) || slices.Contains(b.Read, "-"+path) {
			t.Errorf("reads %q, want %s once", b.Read, path)
		}
	}
}

// The dump shows what the preset stands for, and is the same configuration.
func TestYAMLOfSandbox(t *testing.T) {
	c := mustLoad(t, one+"  timeout: 60s\n  sandbox: {preset: strict, capabilities: [chown], rlimits: [cpu=90s, as=1GiB], read: [/data], nice: -3}\n")
	text, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"preset: strict", "- CAP_CHOWN", "- cpu=1m30s", "- as=1GiB", "- core=0", "- -/usr", "no_new_privs: true", `umask: "0022"`, "nice: -3"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the dump has no %s:\n%s", want, text)
		}
	}
	if diff := cmp.Diff(c, mustLoad(t, string(text)), ignorePlaces); diff != "" {
		t.Errorf("what the dump is read as (-want +got):\n%s", diff)
	}
}

func TestCheckOfSandbox(t *testing.T) {
	write(t, map[string]string{"jail/bin/worker": "#!/bin/sh\n", "jail/srv/x": ""})
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod("jail/bin/worker", 0o755); err != nil {
		t.Fatal(err)
	}
	text := expand(`pools:
- {name: a, listen: unix:/a, worker: {command: [/bin/worker], dir: /srv}, sandbox: {chroot: DIR/jail, read: [/bin, -/none], write: [/srv/x]}}
- {name: b, listen: unix:/b, worker: {command: [/bin/sh]}, sandbox: {chroot: DIR/jail}}
- {name: c, listen: unix:/c, process: {root: [/usr]}, sandbox: {read: [/none/x]}}
- {name: d, listen: unix:/d, worker: {command: [/bin/worker]}, sandbox: {chroot: DIR/none}}
`, dir)
	if err := os.WriteFile("f", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = LoadAndCheck("f", nil, nil)
	wantFaults(t, err,
		`f:3:49: pools[1].worker.command[0]: "/bin/sh" cannot be run: no such file or directory`,
		`f:4:72: pools[2].sandbox.read[0]: "/none/x": no such file or directory (a path after - need not exist)`,
		`f:5:49: pools[3].worker.command[0]: "/bin/worker" cannot be run: no such file or directory`,
		`f:5:82: pools[3].sandbox.chroot: "`+filepath.Join(dir, "none")+`": no such file or directory`,
	)
}

// What programs may write in decides nothing of what the next ones are let to.
func TestReplaceablePaths(t *testing.T) {
	write(t, map[string]string{"site/releases/1/x": "", "site/bin/worker": "#!/bin/sh\n", "site/spool/x": "", "jail/data/www/x": ""})
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod("site/bin/worker", 0o755); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{
		"site/current": "/usr", // is nowhere below site by itself
		"outside":      "site/current",
		"alias":        "site",
		"jail/www":     "/data/www", // in the jail
	} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	const w = "process: {root: [/usr]}"
	for name, test := range map[string]struct {
		text string
		want []string // the key, the path and that above it
	}{
		"read":             {w + ", sandbox: {read: [DIR/site/releases], write: [DIR/site]}", []string{"sandbox.read[0]", "DIR/site/releases", "DIR/site"}},
		"optional":         {w + ", sandbox: {read: [-DIR/site/none], write: [-DIR/site]}", []string{"sandbox.read[0]", "DIR/site/none", "DIR/site"}},
		"link":             {w + ", sandbox: {read: [DIR/site/current], write: [DIR/site]}", []string{"sandbox.read[0]", "DIR/site/current", "DIR/site"}},
		"link to the link": {w + ", sandbox: {read: [DIR/outside], write: [DIR/site]}", []string{"sandbox.read[0]", "DIR/outside", "DIR/site"}},
		"other name":       {w + ", sandbox: {read: [DIR/site/current], write: [DIR/alias]}", []string{"sandbox.read[0]", "DIR/site/current", "DIR/alias"}},
		"not clean":        {w + ", sandbox: {read: [DIR/jail/../site//releases/.], write: [DIR/site/]}", []string{"sandbox.read[0]", "DIR/jail/../site//releases/.", "DIR/site/"}},
		"write":            {w + ", sandbox: {write: [DIR/site, DIR/site/releases]}", []string{"sandbox.write[1]", "DIR/site/releases", "DIR/site"}},
		"everything":       {w + ", sandbox: {read: [/usr], write: [/]}", []string{"process.root[0]", "/usr", "/"}},
		"root":             {"process: {root: [DIR/site/releases]}, sandbox: {preset: strict, private_tmp: false, write: [DIR/site]}", []string{"process.root[0]", "DIR/site/releases", "DIR/site"}},
		"script":           {"process: {scripts: [DIR/site/releases/1/x]}, sandbox: {preset: strict, private_tmp: false, write: [DIR/site/releases/1]}", []string{"process.scripts[0]", "DIR/site/releases/1/x", "DIR/site/releases/1"}},
		"scripts":          {"process: {scripts: [DIR/site/releases/*/x]}, sandbox: {preset: strict, private_tmp: false, write: [DIR/site]}", []string{"process.scripts[0]", "DIR/site/releases", "DIR/site"}},
		"interpreter":      {"process: {root: [/usr], interpreters: [.x=DIR/site/bin/worker]}, sandbox: {preset: strict, private_tmp: false, write: [DIR/site]}", []string{"process.interpreters[0]", "DIR/site/bin/worker", "DIR/site"}},
		"command":          {"worker: {command: [DIR/site/bin/worker]}, sandbox: {write: [DIR/site/bin]}", []string{"worker.command[0]", "DIR/site/bin/worker", "DIR/site/bin"}},
		"root of workers":  {"worker: {command: [/bin/sh], root: [DIR/site/current]}, sandbox: {preset: strict, private_tmp: false, write: [DIR/site]}", []string{"worker.root[0]", "DIR/site/current", "DIR/site"}},
		"in a chroot":      {"process: {root: [DIR/jail]}, sandbox: {chroot: DIR/jail, read: [-/www], write: [/data]}", []string{"sandbox.read[0]", "/www", "/data"}},
		"root in a chroot": {"process: {root: [DIR/jail/data/www]}, sandbox: {preset: strict, chroot: DIR/jail, write: [/data]}", []string{"process.root[0]", "DIR/jail/data/www", "/data"}},
		"the spool":        {w + ", sandbox: {read: [/usr], write: [DIR/site]}}\nspool_dir: DIR/site/spool\n#", []string{"spool_dir", "DIR/site/spool", "DIR/site"}},
		"a private folder": {w + ", sandbox: {read: [-/var/tmp/none], private_tmp: true}", []string{"sandbox.read[0]", "/var/tmp/none", "/var/tmp"}},
		"beside":           {"process: {root: [DIR/site/releases]}, sandbox: {preset: strict, private_tmp: false, write: [DIR/site/releases, DIR/jail, -/tmpx]}", nil},
		"one and the same": {"process: {root: [DIR/alias]}, sandbox: {preset: strict, private_tmp: false, write: [DIR/site]}", nil},
		"in the root":      {"process: {root: [DIR/site]}, sandbox: {preset: strict, private_tmp: false, write: [DIR/site/releases]}", nil},
		"tmp":              {w + ", sandbox: {read: [/tmp], write: [/tmp, /var/tmp], private_tmp: true}", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile("f", []byte(expand("pools:\n- {name: a, listen: unix:/a, "+test.text+"}\n", dir)), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := LoadAndCheck("f", nil, nil)
			if test.want == nil {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			text := fmt.Sprint(err)
			want := fmt.Sprintf("%s: %q is found below %q, where programs may write", test.want[0], expand(test.want[1], dir), expand(test.want[2], dir))
			if !strings.Contains(text, want) || strings.Contains(text, "\n") {
				t.Errorf("the fault is\n%s\nwant the one\n%s", text, want)
			}
		})
	}
}

//go:build e2e

package e2e

import (
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// makeInstall runs a target of the Makefile as a root with a careful umask does. The
// binary is the tests' own: install wants one to be there.
func makeInstall(t *testing.T, target string, variables ...string) {
	t.Helper()
	cmd := exec.Command("sh", append([]string{"-c", `umask 077; exec make -s -C .. "$@"`, "sh", target, "BINARY=" + binary}, variables...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make %s: %v\n%s", target, err, out)
	}
}

// files are those below a folder, with their modes.
func files(t *testing.T, dir string) map[string]fs.FileMode {
	t.Helper()
	found := map[string]fs.FileMode{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if info.Mode().Perm() != 0o755 {
				t.Errorf("%s has the mode %v", path, info.Mode())
			}
			return nil
		}
		found[strings.TrimPrefix(path, dir)] = info.Mode()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestMakeInstall(t *testing.T) {
	for name, test := range map[string]struct {
		variables                []string
		prefix, sysconf, unitdir string
	}{
		"defaults":         {nil, "/usr/local", "/etc", "/usr/local/lib/systemd/system"},
		"a distribution's": {[]string{"PREFIX=/usr"}, "/usr", "/etc", "/usr/lib/systemd/system"},
		"all":              {[]string{"PREFIX=/opt/fcgid", "SYSCONFDIR=/opt/etc", "UNITDIR=/etc/systemd/system"}, "/opt/fcgid", "/opt/etc", "/etc/systemd/system"},
	} {
		t.Run(name, func(t *testing.T) {
			dest := folder(t) + "/dest"
			variables := append(test.variables, "DESTDIR="+dest)
			makeInstall(t, "install", variables...)
			config := test.sysconf + "/fcgid/fcgid.yaml"
			want := map[string]fs.FileMode{
				test.prefix + "/bin/fcgid":                 0o755,
				test.prefix + "/share/fcgid/hardened.conf": 0o644,
				test.sysconf + "/logrotate.d/fcgid":        0o644,
				config:                                     0o644,
				test.unitdir + "/fcgid.service":            0o644,
				test.unitdir + "/fcgid@.service":           0o644,
				test.unitdir + "/fcgid.socket":             0o644,
			}
			if got := files(t, dest); !maps.Equal(got, want) {
				t.Errorf("installed:\n%v\nwant:\n%v", got, want)
			}
			for unit, file := range map[string]string{"fcgid.service": config, "fcgid@.service": test.sysconf + "/fcgid/%i.yaml"} {
				start := "\nExecStart=" + test.prefix + "/bin/fcgid serve -c " + file + "\n"
				reload := "\nExecReload=" + test.prefix + "/bin/fcgid reload -c " + file + "\n"
				if text := read(t, dest+test.unitdir+"/"+unit); !strings.Contains(text, start) || !strings.Contains(text, reload) {
					t.Errorf("%s does not have %s%s:\n%s", unit, start, reload, text)
				}
			}

			write(t, dest+config, "mine")
			makeInstall(t, "install", variables...)
			makeInstall(t, "uninstall", variables...)
			if got := files(t, dest); len(got) != 1 || read(t, dest+config) != "mine" {
				t.Errorf("left by an uninstall: %v", got)
			}
		})
	}
}

func TestUnitsAreUnderstood(t *testing.T) {
	dest := folder(t) + "/dest"
	makeInstall(t, "install", "PREFIX="+dest, "SYSCONFDIR="+dest)
	units := dest + "/lib/systemd/system"
	for _, unit := range []string{"fcgid.service", "fcgid@shop.service", "fcgid.socket"} {
		t.Run(unit, func(t *testing.T) {
			cmd := exec.Command(need(t, "systemd-analyze"), "verify", "--man=no", units+"/"+unit)
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	if err := os.Mkdir(units+"/fcgid.service.d", 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, units+"/fcgid.service.d/hardened.conf", read(t, dest+"/share/fcgid/hardened.conf"))
	out, err := exec.Command("systemd-analyze", "verify", "--man=no", units+"/fcgid.service").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("with hardened.conf: %v\n%s", err, out)
	}
}

// settings are the lines of a unit, without comments.
func settings(t *testing.T, file string) (lines []string) {
	t.Helper()
	for line := range strings.Lines(read(t, "../deploy/systemd/"+file)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

// One daemon of several is like the only one, in folders of its own.
func TestTemplateIsTheUnit(t *testing.T) {
	own := strings.NewReplacer("manager", "manager (%i)", "fcgid.yaml", "%i.yaml", "Directory=fcgid", "Directory=fcgid-%i")
	var want []string
	for _, line := range settings(t, "fcgid.service") {
		want = append(want, own.Replace(line))
	}
	if got := settings(t, "fcgid@.service"); !slices.Equal(got, want) {
		t.Errorf("fcgid@.service:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// impliesNoNewPrivileges are settings of systemd.exec(5) that take set-user-ID programs
// from a unit with User=: mail, sudo.
var impliesNoNewPrivileges = []string{
	"NoNewPrivileges", "DynamicUser", "LockPersonality", "MemoryDenyWriteExecute", "PrivateDevices", "ProtectClock", "ProtectHostname",
	"ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables", "RestrictAddressFamilies",
	"RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID", "SystemCallArchitectures", "SystemCallFilter", "SystemCallLog",
}

// e2e/systemd tries it with Exim, Postfix and git; this needs no machine.
func TestUnitLeavesPrivileges(t *testing.T) {
	for _, line := range settings(t, "fcgid.service") {
		if name, _, _ := strings.Cut(line, "="); slices.Contains(impliesNoNewPrivileges, name) {
			t.Errorf("%s is for hardened.conf: it breaks mail", line)
		}
	}
}

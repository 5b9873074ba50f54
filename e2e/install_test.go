//go:build e2e

package e2e

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// makeInstall runs a target of the Makefile as a root with a careful umask does. The
// binary is the tests' own: install wants one to be there.
func makeInstall(t *testing.T, target string, variables ...string) {
	t.Helper()
	if out, err := makePages(); err != nil {
		t.Fatalf("make pages: %v\n%s", err, out)
	}
	cmd := exec.Command("sh", append([]string{"-c", `umask 077; exec make -s -C .. "$@"`, "sh", target, "BINARY=" + binary}, variables...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make %s: %v\n%s", target, err, out)
	}
}

// makePages makes what install wants to be there besides the binary.
var makePages = sync.OnceValues(func() ([]byte, error) {
	return exec.Command("make", "-s", "-C", "..", "pages").CombinedOutput()
})

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
				test.prefix + "/bin/fcgid":                                  0o755,
				test.prefix + "/share/fcgid/hardened.conf":                  0o644,
				test.prefix + "/share/fcgid/installed":                      0o644,
				test.prefix + "/lib/sysusers.d/fcgid.conf":                  0o644,
				test.prefix + "/lib/tmpfiles.d/fcgid.conf":                  0o644,
				test.prefix + "/share/bash-completion/completions/fcgid":    0o644,
				test.prefix + "/share/zsh/site-functions/_fcgid":            0o644,
				test.prefix + "/share/fish/vendor_completions.d/fcgid.fish": 0o644,
				test.prefix + "/share/man/man5/fcgid.yaml.5":                0o644,
				test.sysconf + "/logrotate.d/fcgid":                         0o644,
				config:                                                      0o644,
				test.unitdir + "/fcgid.service":                             0o644,
				test.unitdir + "/fcgid@.service":                            0o644,
				test.unitdir + "/fcgid.socket":                              0o644,
			}
			for _, page := range []string{"fcgid.1", "fcgid-serve.1", "fcgid-reload.1", "fcgid-status.1"} {
				want[test.prefix+"/share/man/man1/"+page] = 0o644
			}
			got := files(t, dest)
			maps.DeleteFunc(got, func(path string, mode fs.FileMode) bool { // of other commands
				_, listed := want[path]
				return !listed && mode == 0o644 && strings.HasPrefix(path, test.prefix+"/share/man/man1/fcgid-")
			})
			if !maps.Equal(got, want) {
				t.Errorf("installed:\n%v\nwant:\n%v", got, want)
			}
			for unit, of := range map[string]struct{ file, flag, plus string }{
				"fcgid.service": {config, "--require-user ", "+"}, "fcgid@.service": {file: test.sysconf + "/fcgid/%i.yaml"},
			} {
				start := "\nExecStart=" + test.prefix + "/bin/fcgid serve " + of.flag + "-c " + of.file + "\n"
				reload := "\nExecReload=" + of.plus + test.prefix + "/bin/fcgid reload -c " + of.file + "\n"
				if text := read(t, dest+test.unitdir+"/"+unit); !strings.Contains(text, start) || !strings.Contains(text, reload) {
					t.Errorf("%s does not have %s%s:\n%s", unit, start, reload, text)
				}
			}
		})
	}
}

// Where it installs for this machine it makes the users and folders of the unit.
func TestMakeInstallMakesUsers(t *testing.T) {
	needRoot(t)
	dir := folder(t)
	for _, program := range []string{"systemd-sysusers", "systemd-tmpfiles"} {
		script(t, dir+"/bin/"+program, "#!/bin/sh\necho ${0##*/} $* >>"+dir+"/made\n")
	}
	t.Setenv("PATH", dir+"/bin:"+os.Getenv("PATH"))
	here := []string{"PREFIX=" + dir + "/usr", "SYSCONFDIR=" + dir + "/etc"}
	makeInstall(t, "install", append(here, "DESTDIR="+dir+"/dest")...)
	if _, err := os.Stat(dir + "/made"); err == nil {
		t.Errorf("for a package: %s", read(t, dir+"/made"))
	}
	makeInstall(t, "install", here...)
	want := "systemd-sysusers " + dir + "/usr/lib/sysusers.d/fcgid.conf\nsystemd-tmpfiles --create " + dir + "/usr/lib/tmpfiles.d/fcgid.conf\n"
	if got := read(t, dir+"/made"); got != want {
		t.Errorf("it runs\n%s\nwant\n%s", got, want)
	}
}

// What was installed is removed, whatever version has installed it, and nothing else. A
// configuration that was edited stays through both.
func TestMakeUninstall(t *testing.T) {
	dest := folder(t) + "/dest"
	const config, rotate, page = "/etc/fcgid/fcgid.yaml", "/etc/logrotate.d/fcgid", "/usr/local/share/man/man1/fcgid-old.1"
	makeInstall(t, "install", "DESTDIR="+dest)
	makeInstall(t, "uninstall", "DESTDIR="+dest)
	if got := files(t, dest); len(got) > 0 {
		t.Errorf("left of what nobody has edited: %v", got)
	}
	if _, err := os.Stat(dest + "/etc/fcgid"); err == nil {
		t.Error("the folder of the configuration is left")
	}

	makeInstall(t, "install", "DESTDIR="+dest)
	list := dest + "/usr/local/share/fcgid/installed"
	write(t, list, read(t, list)+"file "+page+"\n") // an older version had it
	write(t, dest+page, "old")
	write(t, dest+"/usr/local/share/man/man1/fcgid-foreign.1", "somebody else's")
	write(t, dest+config, "mine")
	makeInstall(t, "install", "DESTDIR="+dest)
	if got := read(t, dest+config); got != "mine" {
		t.Errorf("a configuration that was edited is %q", got)
	}
	if _, err := os.Stat(dest + page); err == nil {
		t.Error("an older version's page is left")
	}
	write(t, dest+rotate, "mine too")
	makeInstall(t, "uninstall", "DESTDIR="+dest)
	got := slices.Sorted(maps.Keys(files(t, dest)))
	if want := []string{config, rotate, "/usr/local/share/man/man1/fcgid-foreign.1"}; !slices.Equal(got, want) {
		t.Errorf("left: %q, want %q", got, want)
	}
}

// man reads the pages without a complaint, and shells the completion.
func TestPagesAndCompletion(t *testing.T) {
	dest := folder(t) + "/dest"
	makeInstall(t, "install", "DESTDIR="+dest, "PREFIX=")
	pages, err := filepath.Glob(dest + "/share/man/man[15]/*")
	if err != nil || len(pages) < 10 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for _, page := range pages {
		cmd := exec.Command(need(t, "man"), "--warnings", "--local-file", page)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANPAGER=cat")
		var complaints strings.Builder
		cmd.Stderr = &complaints
		text, err := cmd.Output()
		if name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(page), ".1"), ".5"); err != nil || complaints.Len() > 0 || !strings.Contains(string(text), name) {
			t.Errorf("man %s: %v: %s", page, err, complaints.String())
		}
	}
	complete := exec.Command("bash", "-ec", `. "$0"; PATH=$1:$PATH; COMP_WORDS=(fcgid rel); COMP_CWORD=1 COMP_LINE="fcgid rel" COMP_POINT=9
compopt() { :; }
_get_comp_words_by_ref() { cur=rel prev=fcgid words=(fcgid rel) cword=1; }
__start_fcgid fcgid rel fcgid; echo "${COMPREPLY[@]}"`, dest+"/share/bash-completion/completions/fcgid", dest+"/bin")
	if out, err := complete.CombinedOutput(); err != nil || !strings.Contains(string(out), "reload") {
		t.Errorf("bash completes fcgid rel to %q, %v", out, err)
	}
	for _, file := range []string{"/share/zsh/site-functions/_fcgid", "/share/fish/vendor_completions.d/fcgid.fish"} {
		if !strings.Contains(read(t, dest+file), "__complete") {
			t.Errorf("%s does not complete", file)
		}
	}
}

func TestMakeHelp(t *testing.T) {
	out, err := exec.Command("make", "-s", "-C", "..", "help").CombinedOutput()
	for _, target := range []string{"make install ", "make test ", "make test-systemd ", "make uninstall ", "DESTDIR"} {
		if err != nil || !strings.Contains(string(out), target) {
			t.Errorf("make help does not have %q: %v\n%s", target, err, out)
		}
	}
}

func TestUnitsAreUnderstood(t *testing.T) {
	dest := folder(t) + "/dest"
	makeInstall(t, "install", "DESTDIR=/", "PREFIX="+dest, "SYSCONFDIR="+dest)
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

// One daemon of several lives like the only one, without root, and more confined.
func TestTemplateIsTheUnit(t *testing.T) {
	own := strings.NewReplacer("manager", "manager (%i)", "fcgid.yaml", "%i.yaml", "Directory=fcgid", "Directory=fcgid-%i", " --require-user", "", "=+", "=")
	ofRoot := []string{"CapabilityBoundingSet", "SystemCallFilter", "Delegate"}
	template := settings(t, "fcgid@.service")
	for _, line := range settings(t, "fcgid.service") {
		name, _, _ := strings.Cut(line, "=")
		if want := own.Replace(line); !slices.Contains(template, want) && !slices.Contains(ofRoot, name) && !strings.HasPrefix(line, "Environment=STATE_DIRECTORY=") {
			t.Errorf("fcgid@.service does not have %s", want)
		}
	}
	for _, want := range []string{"User=%i", "Group=%i", "NoNewPrivileges=yes", "CapabilityBoundingSet="} {
		if !slices.Contains(template, want) {
			t.Errorf("fcgid@.service does not have %s", want)
		}
	}
}

// exposure is what systemd-analyze thinks of a unit.
func exposure(t *testing.T, file string) (figure float64) {
	t.Helper()
	cmd := exec.Command(need(t, "systemd-analyze"), "security", "--offline=yes", "--no-pager", file)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	_, last, found := strings.Cut(string(out), "Overall exposure level for ")
	if _, scanErr := fmt.Sscanf(last[strings.Index(last, ": ")+1:], "%f", &figure); !found || scanErr != nil {
		t.Fatalf("systemd-analyze security %s: %v, %v\n%s", file, err, scanErr, out)
	}
	return figure
}

// The figures of systemd-analyze security, which docs/systemd.md has.
func TestUnitsExposure(t *testing.T) {
	dir := folder(t)
	hardened := "[Service]\n" + strings.Join(settings(t, "hardened.conf")[1:], "\n") + "\n"
	unit := read(t, "../deploy/systemd/fcgid.service")
	write(t, dir+"/fcgid.service", unit)
	write(t, dir+"/hardened.service", unit+hardened)
	write(t, dir+"/fcgid@shop.service", read(t, "../deploy/systemd/fcgid@.service"))
	for name, most := range map[string]float64{"fcgid": 4.3, "hardened": 2.6, "fcgid@shop": 1.5} {
		if got := exposure(t, dir+"/"+name+".service"); got > most {
			t.Errorf("%s: %.1f, want %.1f or less", name, got, most)
		}
	}
}

// takesPrivileges are settings that take set-user-ID programs from the unit, mail and sudo, or
// the set-group-ID bit from git. With a user systemd does that for each filter of system calls.
var takesPrivileges = []string{"NoNewPrivileges", "RestrictSUIDSGID", "DynamicUser", "User", "AmbientCapabilities"}

// e2e/systemd tries it with Exim, Postfix and git; this needs no machine.
func TestUnitLeavesPrivileges(t *testing.T) {
	for _, line := range settings(t, "fcgid.service") {
		if name, _, _ := strings.Cut(line, "="); slices.Contains(takesPrivileges, name) {
			t.Errorf("%s breaks mail", line)
		}
	}
}

// The image, which has no users, has the packaged configuration for whoever starts it.
func TestImageConfiguration(t *testing.T) {
	_, line, found := strings.Cut(read(t, "../Dockerfile"), "RUN mkdir -p /rootfs/etc/fcgid && ")
	line, _, _ = strings.Cut(line, "\n")
	if !found {
		t.Fatal("the Dockerfile makes no configuration")
	}
	dir := folder(t)
	out, err := exec.Command("sh", "-c", strings.NewReplacer("configs/", "../configs/", "/rootfs/etc/fcgid/", dir+"/").Replace(line)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text := read(t, dir+"/fcgid.yaml")
	if err := os.WriteFile(dir+"/fcgid.yaml", []byte(strings.ReplaceAll(text, "/usr/lib/cgi-bin", dir)), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := fcgid(t, dir, nil, "check", "fcgid.yaml", "--admin.listen="); code != 0 || strings.Count(text, "www-data") != 3 {
		t.Errorf("exit status %d: %s", code, stderr)
	}
}

package process_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/process"
)

const (
	daemonUser = 1 // has an account everywhere
	binUser    = 2
)

// owned is a pool whose scripts run as their owners, in a folder that root has.
func owned(t *testing.T) (p *program, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can start programs as somebody else")
	}
	dir = tempDir(t)
	for d := dir; d != "/" && d != "/tmp"; d = filepath.Dir(d) {
		mustDo(t, os.Chmod(d, 0o755))
	}
	opt := options{
		Roots: []string{dir}, Interpreters: map[string]string{".sh": "/bin/sh"}, KillGrace: patience,
		Env: []string{"PATH=/usr/bin:/bin"}, Owner: &process.Owner{MinID: 1},
	}
	return &program{process.New(opt), ""}, dir
}

const tellWho = "echo \"$(id -u) $(id -g) $USER $SCRIPT_FILENAME $0 $(pwd)\""

// script makes one of a user, in a folder of that user's.
func ownedScript(t *testing.T, path string, uid int, mode os.FileMode) string {
	t.Helper()
	write(t, path, tellWho, mode)
	mustDo(t, os.Chown(path, uid, uid))
	mustDo(t, os.Chmod(path, mode)) // chown takes bits off
	mustDo(t, os.Chown(filepath.Dir(path), uid, uid))
	return path
}

// A script runs as who owns it, and is told of itself by a name that nobody else can
// lead to another file.
func TestOwner(t *testing.T) {
	p, dir := owned(t)
	for uid, name := range map[int]string{daemonUser: "daemon", binUser: "bin"} {
		p.path = ownedScript(t, fmt.Sprintf("%s/%s/x.sh", dir, name), uid, 0o644)
		want := fmt.Sprintf("%d %d %s %s %s %s\n", uid, uid, name, p.path, p.path, filepath.Dir(p.path))
		p.call().run(t, p).want(t, 0, want)
		p.path = dir + "/link-" + name + ".sh"
		mustDo(t, os.Symlink(name+"/x.sh", p.path))
		p.call().run(t, p).want(t, 0, want)
	}
}

// What might be somebody else's work runs as nobody.
func TestOwnerRefuses(t *testing.T) {
	p, dir := owned(t)
	script := func(name string, uid int, mode os.FileMode) string {
		return ownedScript(t, dir+"/"+name+"/x.sh", uid, mode)
	}
	change := func(path string, uid int, mode os.FileMode) {
		mustDo(t, os.Chown(path, uid, uid))
		mustDo(t, os.Chmod(path, mode))
	}
	paths := map[string]string{
		"is below sandbox.min_uid":                   script("root", 0, 0o644),
		"unknown userid":                             script("unknown", 64009, 0o644),
		"can be written by others than its owner":    script("group", daemonUser, 0o664),
		"x.sh can be written by others":              script("world", daemonUser, 0o646),
		"has the set-user-ID":                        script("setuid", daemonUser, 0o644|os.ModeSetuid),
		"/open can be written by others":             script("open", daemonUser, 0o644),
		"/other is neither root's nor":               script("other", daemonUser, 0o644),
		"/above is neither root's nor":               script("above/mine", daemonUser, 0o644),
		"is not readable":                            "",
		"outside root":                               ownedScript(t, tempDir(t)+"/x.sh", daemonUser, 0o644),
		"/sticky can be written by others than its ": script("sticky", daemonUser, 0o644),
	}
	change(dir+"/open", daemonUser, 0o777)
	change(dir+"/other", binUser, 0o755)
	change(dir+"/above", binUser, 0o755)
	change(dir+"/sticky", daemonUser, 0o777|os.ModeSticky)
	delete(paths, "is not readable")
	paths["permission denied"] = script("closed/deep", daemonUser, 0o644)
	change(dir+"/closed", 0, 0o700) // which root alone can look through
	for why, path := range paths {
		p.path = path
		c := p.call().run(t, p)
		ref, ok := errors.AsType[*protocol.Refusal](c.err)
		if !ok || ref.HTTPStatus != 403 || !strings.Contains(ref.Reason.Error(), why) || c.out.String() != "" {
			t.Errorf("%s: %v, %q; want %q", path, c.err, c.out.String(), why)
		}
	}
}

// A user who turns a link to and fro between a script of somebody else and one of the
// own gets neither to run as the other's owner.
func TestOwnerSwapped(t *testing.T) {
	p, dir := owned(t)
	theirs := ownedScript(t, dir+"/theirs/x.sh", daemonUser, 0o644)
	own := ownedScript(t, dir+"/own/x.sh", binUser, 0o644)
	links := dir + "/links"
	mustDo(t, os.Mkdir(links, 0o755))
	mustDo(t, os.Chown(links, binUser, binUser))
	swaps := swap(t, links+"/x.sh", theirs, own)
	p.path = links + "/x.sh"
	ran := make(map[string]int)
	for i := 0; i < 300 || !swaps.isOver(); i++ {
		c := p.call().run(t, p)
		switch out := c.out.String(); {
		case strings.HasPrefix(out, fmt.Sprintf("%d %d daemon %s %s ", daemonUser, daemonUser, theirs, theirs)):
			ran["theirs"]++
		case strings.HasPrefix(out, fmt.Sprintf("%d %d bin %s %s ", binUser, binUser, own, own)):
			ran["own"]++
		case c.err != nil && out == "":
			ran["refused"]++
		default:
			t.Fatalf("%q %v", out, c.err)
		}
	}
	swaps.end()
	t.Log(ran, swaps.swaps.Load(), "swaps")
}

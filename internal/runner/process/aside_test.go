package process_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/process"
	"github.com/fcgid/fcgid/internal/spawn"
)

// What only root can change is started at once, what others can, aside: they may have it take
// as long as they like.
func TestWhoStartsAside(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root starts programs as others")
	}
	dir, err := os.MkdirTemp("/var/tmp", "aside")
	mustDo(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	mustDo(t, os.Chmod(dir, 0o755))
	script := func(name string) string { return write(t, filepath.Join(dir, name), "", 0o755) }
	roots, theirs, folder := script("roots/x"), script("roots/theirs"), script("theirs/x")
	group, link, given := script("roots/group"), filepath.Join(dir, "roots/link"), script("theirs/x.sh")
	mustDo(t, os.Chown(theirs, binUser, binUser))
	mustDo(t, os.Chown(filepath.Dir(folder), binUser, binUser))
	mustDo(t, os.Chmod(group, 0o775))
	mustDo(t, os.Symlink("x", link))
	for name, want := range map[string]bool{roots: false, theirs: true, folder: true, group: true, link: true, given: true} {
		opt := options{Roots: []string{dir}, Identity: &spawn.Identity{UID: daemonUser, GID: daemonUser}, Interpreters: map[string]string{".sh": "/bin/sh"}}
		params := params("SCRIPT_FILENAME", name)
		cmd, _, err := process.NewScripts(opt).Command(&params, new(protocol.RequestID))
		if err != nil || cmd.Aside != want {
			t.Errorf("%s: aside %v, %v", name, cmd.Aside, err)
		}
		opt.Dir = "/"
		if cmd, _, err = process.NewScripts(opt).Command(&params, new(protocol.RequestID)); err != nil || cmd.Aside != (want && name != given) {
			t.Errorf("%s, in another folder: aside %v, %v", name, cmd.Aside, err)
		}
		opt.Identity = nil
		if cmd, _, err = process.NewScripts(opt).Command(&params, new(protocol.RequestID)); err != nil || cmd.Aside {
			t.Errorf("%s, of our own user: aside %v, %v", name, cmd.Aside, err)
		}
	}
}

package cli

import (
	"io"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/pool"
)

// Flags of another program are not taken for ours, and it is said what to write.
func TestImportNeedsDashes(t *testing.T) {
	for _, args := range [][]string{{"import", "fcgiwrap", "-c", "4"}, {"import", "spawn-fcgi", "-s", "/run/a", "/srv/app"}} {
		root := newRootCommand(pool.NewFunctions(nil))
		root.SetArgs(args)
		root.SetOut(io.Discard)
		if err := root.Execute(); err == nil || !strings.Contains(err.Error(), "put -- before the arguments of "+args[1]) {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// What runs in fcgiwrap's place warns of its flags, not of a file that nobody has written.
func TestWrapWarning(t *testing.T) {
	for text, want := range map[string]string{
		"/tmp/x/fcgid.yaml:9:12: pools[0].process.root[0]: every file of this machine is in it: name the folder": "-p names the programs that may run; without it any file may",
		"/tmp/x/fcgid.yaml:5:3: pools[0].listen: others may write to /srv: who can":                              "others may write to /srv: who can",
		"FCGID_X: no key is overridden by this variable":                                                         "FCGID_X: no key is overridden by this variable",
	} {
		if got := wrapWarning("/tmp/x/fcgid.yaml", text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

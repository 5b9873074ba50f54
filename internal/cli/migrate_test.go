package cli

import (
	"io"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/config"
)

// Flags of another program are not taken for ours, and it is said what to write.
func TestImportNeedsDashes(t *testing.T) {
	for _, args := range [][]string{{"import", "fcgiwrap", "-c", "4"}, {"import", "spawn-fcgi", "-s", "/run/a", "/srv/app"}} {
		root := Commands("fcgid")
		root.SetArgs(args)
		root.SetOut(io.Discard)
		if err := root.Execute(); err == nil || !strings.Contains(err.Error(), "put -- before the arguments of "+args[1]) {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// What runs in fcgiwrap's place warns of its flags, not of a file that nobody has written.
func TestWrapWarning(t *testing.T) {
	const file = "/tmp/x/fcgid.yaml"
	for warning, want := range map[config.Fault]string{
		{File: file, Line: 9, Column: 12, Path: "pools[0].process.root[0]", Text: "every file of this machine is in it: name the folder"}: "-p names the programs that may run; without it any file may",
		{File: file, Line: 5, Column: 3, Path: "pools[0].listen", Text: "others may write to /srv: who can"}:                              "others may write to /srv: who can",
		{File: "FCGID_X", Text: "no key is overridden by this variable"}:                                                                  "FCGID_X: no key is overridden by this variable",
	} {
		if got := wrapWarning(warning); got != want {
			t.Errorf("%v: got %q, want %q", warning, got, want)
		}
	}
}

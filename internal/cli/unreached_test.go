package cli

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Where no daemon of the file runs, that is what an order says, and how to ask another.
func TestNoDaemon(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Setenv("RUNTIME_DIRECTORY", "")
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"config_file": "/tmp/demo/fcgid.yaml"}`)
	}))
	defer other.Close()
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/left.sock", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	yaml := func(name, listen, control string) string {
		file := filepath.Join(dir, name)
		text := fmt.Sprintf("admin: {listen: %q, control: %q}\npools:\n- {name: a, listen: 'unix:%s/s', timeout: 1s, process: {root: %s}}\n", listen, control, dir, dir)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	address := other.Listener.Addr().String()
	none, off := dir+"/none.sock", dir+"/left.sock"
	ofAnother := yaml("another.yaml", "tcp:"+address, "unix:"+none)
	nobody := yaml("nobody.yaml", "unix:"+off, "unix:"+none)
	gone := yaml("gone.yaml", "", "unix:"+off)
	absent := "no daemon of %s runs; -c FILE asks that of another file (there is no " + none + ": --control PATH, if it is elsewhere)"
	for args, want := range map[string]string{
		"requests -c " + nobody:             fmt.Sprintf(absent, nobody),
		"reload -c " + ofAnother:            fmt.Sprintf(absent, ofAnother),
		"check --diff -c " + nobody:         fmt.Sprintf(absent, nobody),
		"status -c " + nobody:               fmt.Sprintf(absent, nobody),
		"status -c " + ofAnother:            "no daemon of " + ofAnother + " runs (at " + address + " is that of /tmp/demo/fcgid.yaml)",
		"drain a -c " + gone:                "no daemon of " + gone + " runs any more; -c FILE asks that of another file (nobody listens at " + off + ")",
		"requests --control " + none:        "no daemon has its control socket at " + none + ": there is no such file",
		"requests --control unix:" + off:    "the daemon with its control socket at " + off + " does not run any more",
		"requests -c " + dir + "/none.yaml": "no daemon of " + dir + "/none.yaml runs; -c FILE asks that of another file (there is no ",
	} {
		_, err := commandLine(strings.Split(args, " ")...)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s:\ngot  %v\nwant %s", args, err, want)
		}
	}
}

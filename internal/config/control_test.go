package config

import (
	"fmt"
	"path/filepath"
	"testing"
)

// Where the control socket is depends on the file's name and the environment, so that
// it is found whatever is in the file.
func TestControlPath(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("TMPDIR", "/tmp/x")
	t.Setenv("RUNTIME_DIRECTORY", "")
	auto := Admin{Control: "auto"}
	for file, want := range map[string]string{
		"/etc/fcgid/fcgid.yaml":          "/run/fcgid/control.sock",
		"/etc/fcgid/../fcgid/fcgid.yaml": "/run/fcgid/control.sock",
		"/etc/fcgid/shop.yaml":           "/run/fcgid-shop/control.sock",
	} {
		if got := auto.ControlPath(file); got != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
	}
	relative, absolute := auto.ControlPath("f.yaml"), auto.ControlPath(filepath.Join(mustAbs(t, "."), "f.yaml"))
	if relative != absolute || filepath.Dir(relative) != PrivateFolder() || relative == auto.ControlPath("g.yaml") {
		t.Errorf("%s and %s", relative, absolute)
	}
	if len(relative) > len(PrivateFolder())+30 {
		t.Errorf("%s is too long for a socket", relative)
	}
	t.Setenv("RUNTIME_DIRECTORY", "/run/one:/run/two")
	if got := auto.ControlPath("/etc/fcgid/fcgid.yaml"); got != "/run/one/control.sock" {
		t.Errorf("under a unit: %s", got)
	}
	for control, want := range map[string]string{"": "", "unix:/run/c": "/run/c"} {
		if got := (&Admin{Control: control}).ControlPath("f.yaml"); got != want {
			t.Errorf("%q: %s", control, got)
		}
	}
}

func mustAbs(t *testing.T, path string) string {
	t.Helper()
	whole, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return whole
}

// What else is wrong in a file does not matter to who looks for the control socket.
func TestFindControl(t *testing.T) {
	t.Setenv("RUNTIME_DIRECTORY", "/run/unit")
	const auto, own = "/run/unit/control.sock", "/run/own"
	for text, want := range map[string]string{
		"admin: {control: 'unix:/run/own'}\npols: 7\n": own,
		"admin: {control: ''}\n":                       "",
		"admin: {control: auto}\n":                     auto,
		"admin: {control: 7}\n":                        auto,
		"admin: {control: tcp:127.0.0.1:7}\n":          auto,
		"admin: 7\n":                                   auto,
		"admin: {control: 'unix:/run/own'}\npools: [":  auto,
		"": auto,
	} {
		write(t, map[string]string{"f": text})
		if got := FindControl("f"); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := FindControl("none"); got != auto {
		t.Errorf("no file: %s", got)
	}
	t.Setenv("FCGID_ADMIN_CONTROL", "unix:/run/variable")
	if got := FindControl("f"); got != "/run/variable" {
		t.Errorf("a variable: %s", got)
	}
}

func TestControlFaults(t *testing.T) {
	for value, want := range map[string]string{
		"/run/c":                `f:1:18: admin.control: "/run/c" is not unix:/path, unix:@name, tcp:host:port or systemd:NAME (did you mean unix:/run/c?)`,
		"tcp:127.0.0.1:7":       `f:1:18: admin.control: "tcp:127.0.0.1:7" is not auto or unix:/path`,
		"unix:@x":               `f:1:18: admin.control: "unix:@x" is not auto or unix:/path`,
		"unix:/run/../run/./ab": "",
	} {
		_, err := load(t, fmt.Sprintf("admin: {control: %q}\n", value)+one)
		if want == "" {
			wantFaults(t, err)
		} else {
			wantFaults(t, err, want)
		}
	}
	_, err := load(t, "admin: {control: 'unix:/run/a'}\n"+one)
	wantFaults(t, err, "f:4:11: pools[0].listen: already used at f:1:18 (admin.control)")
	_, err = load(t, "admin: {control: 'unix:/run/a', listen: 'unix:/run/a'}\n"+one)
	if err == nil {
		t.Error("one place for two sockets")
	}
}

// systemd names all of its RuntimeDirectory=.
func TestRuntimeFolder(t *testing.T) {
	for given, want := range map[string]string{"": "", "/run/a": "/run/a", "/run/a:/run/b": "/run/a", "a": ""} {
		t.Setenv("RUNTIME_DIRECTORY", given)
		if got := RuntimeFolder(); got != want {
			t.Errorf("%q: got %q, want %q", given, got, want)
		}
	}
}

package pool

import "testing"

// systemd names all of its RuntimeDirectory=.
func TestRuntimeFolder(t *testing.T) {
	for given, want := range map[string]string{"": "", "/run/a": "/run/a", "/run/a:/run/b": "/run/a"} {
		t.Setenv("RUNTIME_DIRECTORY", given)
		if got := runtimeFolder(); got != want {
			t.Errorf("%q: got %q, want %q", given, got, want)
		}
	}
}

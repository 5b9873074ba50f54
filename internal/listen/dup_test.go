package listen

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// A listener changes hands without a moment in which nobody listens: a client
// that has connected before is accepted by the second one.
func TestDupTakesOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	first, err := Open(t.Context(), Options{Address: "unix:" + path, Mode: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	waiting, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	second, err := first.Dup("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	first.Disown()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := second.Accept()
	if err != nil {
		t.Fatalf("accept after the first was closed: %v", err)
	}
	c.Close()
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("socket file after the first was closed: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Fatalf("socket file after the second was closed: %v", err)
	}
}

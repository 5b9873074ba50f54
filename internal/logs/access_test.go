package logs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The access log names a process only if there was one.
func TestAccessLogPID(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access")
	l, err := New(Options{Level: "info", Format: "json", Access: file})
	if err != nil {
		t.Fatal(err)
	}
	for pid, want := range map[int]bool{0: false, 71: true} {
		os.Truncate(file, 0)
		l.Access(&Request{Pool: "p", PID: pid})
		text, err := os.ReadFile(file)
		if err != nil || strings.Contains(string(text), `"pid"`) != want || !strings.Contains(string(text), `"pool":"p"`) {
			t.Errorf("pid %d: logged %s, %v", pid, text, err)
		}
	}
	l.access.set("", nil)
}

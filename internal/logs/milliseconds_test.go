package logs

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A duration has one form in all logs, whoever logs it: that of the access log.
func TestDurationsAreMilliseconds(t *testing.T) {
	dir := t.TempDir()
	log, slow := filepath.Join(dir, "log"), filepath.Join(dir, "slow")
	l, err := New(Options{Level: "info", Format: "json", Output: log, Slow: map[string]string{"php": slow}})
	if err != nil {
		t.Fatal(err)
	}
	l.With("limit", 90*time.Second).Warn("said", "run", 59_720*time.Nanosecond, "retry_in", 100*time.Millisecond, "none", time.Duration(0))
	l.Slow("php").With("limit", 90*time.Second).Warn("said", "run", 59_720*time.Nanosecond, "retry_in", 100*time.Millisecond, "none", time.Duration(0))
	for _, file := range []string{log, slow} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		for name, want := range map[string]float64{"limit_ms": 90000, "run_ms": 0.059, "retry_in_ms": 100, "none_ms": 0} {
			if got[name] != want {
				t.Errorf("%s is %v, want %v", name, got[name], want)
			}
		}
		for _, name := range []string{"limit", "run", "retry_in", "none"} {
			if got[name] != nil {
				t.Errorf("%s is there, too: %v", name, got[name])
			}
		}
	}
}

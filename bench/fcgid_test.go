package main

import (
	"strings"
	"testing"
)

// A pool's part of the configuration names programs by their path.
func TestPoolText(t *testing.T) {
	for _, p := range pools {
		text := poolText(p.name)
		if !strings.HasPrefix(text, "  - name: "+p.name+"\n") || strings.Contains(text, "PHP-CGI") || strings.Contains(text, "GIT-") {
			t.Errorf("%s", text)
		}
	}
	if text := poolText("git"); !strings.Contains(text, "/git-http-backend]") {
		t.Errorf("%s", text)
	}
}

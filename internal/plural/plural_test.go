package plural_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/plural"
)

func TestOf(t *testing.T) {
	for n, want := range map[int]string{0: "0 pools", 1: "1 pool", 2: "2 pools", -1: "-1 pools"} {
		if got := plural.Of(n, "pool"); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

// counted is a number before a plural in a format: with 1 it would read "1 requests".
var counted = regexp.MustCompile(`%d (more )?(connections|failures|files|functions|lines|pools|processes|records|requests|scripts|threads|times|workers)\b`)

// Nothing that people read says "1 requests".
func TestNoCountWithoutItsNoun(t *testing.T) {
	for _, dir := range []string{"../../internal", "../../fcgi", "../../cmd"} {
		err := filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") ||
				strings.Contains(name, "wiretest") { // is read by those who mend tests
				return err
			}
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(text)) {
				if found := counted.FindString(line); found != "" {
					t.Errorf("%s: %q: use plural.Of", name, found)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

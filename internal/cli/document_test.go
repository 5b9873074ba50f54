package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Each command that the documents name in passing is one, and has the flags that it is
// given there.
func TestDocumentedCommands(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(?:\\./)?fcgid ([^`]+)`")
	count := 0
	for _, file := range append(files, "../../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			line, _, _ := strings.Cut(m[1], " | ")
			if words := strings.Fields(line); words[0][0] != '-' && !isCommand(Commands("fcgid"), words) {
				t.Errorf("%s: there is no `fcgid %s`", file, line)
			}
			count++
		}
	}
	if count < 50 {
		t.Errorf("found %d commands only", count)
	}
}

// isCommand reports whether words name a command below c, and flags that it has. What
// follows -- is another program's.
func isCommand(c *cobra.Command, words []string) bool {
	found, rest, err := c.Find(words)
	if err != nil || found == c {
		return false
	}
	for _, word := range rest {
		name, isLong := strings.CutPrefix(word, "--")
		name, _, _ = strings.Cut(name, "=")
		switch {
		case word == "--" || found.DisableFlagParsing:
			return true
		case isLong && found.Flags().Lookup(name) == nil && found.InheritedFlags().Lookup(name) == nil:
			return false
		case !isLong && len(word) == 2 && word[0] == '-' && found.Flags().ShorthandLookup(word[1:]) == nil:
			return false
		}
	}
	return true
}

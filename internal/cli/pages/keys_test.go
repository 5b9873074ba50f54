package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/config"
)

// docs/configuration.md is what the code and configs/fcgid.yaml say now.
func TestKeysPage(t *testing.T) {
	files := make([]string, 2)
	for i, name := range []string{keysPage, configFile} {
		data, err := os.ReadFile(filepath.Join("../../..", name))
		if err != nil {
			t.Fatal(err)
		}
		files[i] = string(data)
	}
	want, err := withKeys(files[0], files[1])
	if err != nil {
		t.Fatal(err)
	}
	if files[0] != want {
		t.Errorf("%s is not what the code says: make docs", keysPage)
	}
	for _, line := range []string{
		"| `level` | debug, info, warn, error | `info` | ", "| `params` | size from 1KiB to 1GiB, or 0 for no limit | `256KiB` | ",
		"| `max` | integer from 1 to 32768 | `8` | workers at once |\n", "| `start_timeout` | duration from 100ms to 1h | `10s` | ",
		"| `dir` | absolute path | `\"\"` | working directory; \"\" is the daemon's † |\n",
	} {
		if !strings.Contains(want, "\n"+line) {
			t.Errorf("the page has no line %q", line)
		}
	}
}

// What a reload does not take is said where the key is, and before the table.
func TestKeysReadAtStart(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("../../..", configFile))
	if err != nil {
		t.Fatal(err)
	}
	texts := make(map[string]string)
	for _, k := range read(string(data)).keys {
		texts[k.path] = k.text
	}
	page, err := os.ReadFile(filepath.Join("../../..", keysPage))
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(string(page), keysBegin)
	for _, k := range config.Keys() {
		if never := k.Reload == config.ReloadsNever; strings.Contains(texts[k.Path], "ead at start only") != never {
			t.Errorf("%s: %q does not say truly whether it is read at start only", k.Path, texts[k.Path])
		} else if never && !strings.Contains(before, "`"+k.Path+"`") {
			t.Errorf("%s does not say that a reload does not take %s", keysPage, k.Path)
		}
	}
}

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/cli"
)

// A page of a command says what its --help says, refers to pages that there are, and has no
// date, which would be none of its own.
func TestCommandPages(t *testing.T) {
	dir := t.TempDir()
	if err := writeCommandPages(cli.Commands("fcgid"), dir); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(dir + "/*.1")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d pages, %v", len(files), err)
	}
	pages := make(map[string]string)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pages[strings.TrimSuffix(filepath.Base(file), ".1")] = string(text)
	}
	heading := regexp.MustCompile(`^\.nh\n\.TH [A-Z\\-]+ 1 "" "fcgid [^"]+" fcgid\n`)
	for name, page := range pages {
		if !heading.MatchString(page) || strings.Contains(page, "0001") || strings.Contains(page, `=""`) || strings.Contains(page, "=[") {
			t.Errorf("%s:\n%s", name, page)
		}
		_, refers, _ := strings.Cut(page, ".SH SEE ALSO\n")
		for _, m := range regexp.MustCompile(`\\fB([^,]+)\\fR\(1\)`).FindAllStringSubmatch(refers, -1) {
			if other := strings.ReplaceAll(m[1], `\-`, "-"); pages[other] == "" || other == name {
				t.Errorf("%s refers to %s", name, other)
			}
		}
	}
	for name, parts := range map[string][]string{
		"fcgid": {
			"\\fBfcgid\\fR COMMAND [flags]\n", "\n\\fBkill\\fR\nEnds requests, with all that runs for them\n", "\\fBhelp\\fR\n", "\\fBfcgid.yaml\\fR(5)\n",
			"\\fB\\-v, \\-\\-version\\fR\n",
		},
		"fcgid-request": {
			"\\fBfcgid request\\fR ADDR [flags]\n", "\n\\fB\\-\\-repeat\\fR \\fIN\\fR\nsend the request N times", "(default 1)\n",
			"\n\\fB\\-d, \\-\\-data\\fR \\fIDATA\\fR\nrequest body: DATA, @file, or @\\- for standard input\n", "(default \"responder\")\n",
		},
		"fcgid-kill":            {"\\fBfcgid kill\\fR NUMBER... [flags]\n", "\\fBfcgid\\-requests\\fR(1)"},
		"fcgid-serve":           {"\\fB\\-c, \\-\\-config\\fR \\fIfile\\fR\n", "\\fBfcgid\\fR(1), \\fBfcgid.yaml\\fR(5)\n"},
		"fcgid-import":          {"\\fBfcgid import\\fR COMMAND [flags]\n"},
		"fcgid-completion-bash": {"\n.nf\n  source <(fcgid completion bash)\n.fi\n"},
	} {
		for _, part := range parts {
			if !strings.Contains(pages[name], part) {
				t.Errorf("%s does not have %q:\n%s", name, part, pages[name])
			}
		}
	}
	for _, line := range strings.Split(pages["fcgid"], "\n") {
		if strings.HasSuffix(line, " ") {
			t.Errorf("ends with a blank: %q", line)
		}
	}
}

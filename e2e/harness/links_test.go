package harness

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pages are what links lead from: the documents, and what else is written for people.
func pages(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(Root(t), "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := Documents(t)[1:]
	for _, file := range files {
		all = append(all, filepath.Base(file))
	}
	return all
}

// text is a page without its fenced blocks, in which nothing is a link or a heading.
func text(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(Root(t), file))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fenced := false
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
		} else if !fenced {
			b.WriteString(line)
		}
	}
	return b.String()
}

// anchors are the headings of a page as GitHub names them.
func anchors(text string) map[string]bool {
	all := make(map[string]bool)
	for line := range strings.Lines(text) {
		heading := strings.TrimLeft(line, "#")
		if heading == line || !strings.HasPrefix(heading, " ") {
			continue
		}
		heading = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(heading, "$1")
		slug := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
		slug = strings.ReplaceAll(slug, " ", "-")
		name := slug
		for n := 1; all[name]; n++ {
			name = fmt.Sprintf("%s-%d", slug, n)
		}
		all[name] = true
	}
	return all
}

var (
	link = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	code = regexp.MustCompile("`[^`\n]+`")
)

// Each link leads to a file that is there, and to a heading in it, and README leads to
// each of docs.
func TestDocumentedLinks(t *testing.T) {
	for _, file := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(text(t, file), ""), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, ":") {
				continue // of another site
			}
			to := file
			if target != "" {
				to = filepath.Join(filepath.Dir(file), target)
			}
			if _, err := os.Stat(filepath.Join(Root(t), to)); err != nil {
				t.Errorf("%s: there is no %s", file, m[1])
			} else if anchor != "" && (!strings.HasSuffix(to, ".md") || !anchors(text(t, to))[anchor]) {
				t.Errorf("%s: there is no heading for %s", file, m[1])
			}
		}
	}
	data, err := os.ReadFile(filepath.Join(Root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(data), "\n"); lines > 300 {
		t.Errorf("README has %d lines; what is more belongs into docs", lines)
	}
	readme := text(t, "README.md")
	for _, file := range Documents(t)[1:] {
		if !strings.Contains(readme, "]("+file) {
			t.Errorf("README does not lead to %s", file)
		}
	}
}

// The headings that a link can name.
func TestAnchors(t *testing.T) {
	got := anchors("# A `b` c\n## I want to …\n### net/http/fcgi\n#no heading\n## uWSGI's [x](y)\n## One\n## One\n")
	for _, want := range []string{"a-b-c", "i-want-to-", "nethttpfcgi", "uwsgis-x", "one", "one-1"} {
		if !got[want] {
			t.Errorf("no %q in %v", want, got)
		}
	}
	if len(got) != 6 {
		t.Errorf("got %v", got)
	}
}

// A page of docs that code, comments, messages or units name is there.
func TestDocumentedPagesAreThere(t *testing.T) {
	page := regexp.MustCompile(`\bdocs/[a-z0-9-]+\.(?:md|png|svg)\b`)
	err := filepath.WalkDir(Root(t), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if err == nil && (d.Name() == ".git" || d.Name() == "build") {
				return fs.SkipDir
			}
			return err
		}
		if info, err := d.Info(); err != nil || !d.Type().IsRegular() || info.Size() > 1<<20 {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, name := range page.FindAllString(string(data), -1) {
			if _, err := os.Stat(filepath.Join(Root(t), name)); err != nil {
				t.Errorf("%s: there is no %s", path, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

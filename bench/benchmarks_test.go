package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The block contention of docs/performance.md names benchmarks that there are.
func TestDocumentedBenchmarks(t *testing.T) {
	const name = "contention"
	text, err := os.ReadFile("../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(text), "<!-- test: "+name+" -->\n```sh\n")
	block, _, ok := strings.Cut(block, "```")
	if !ok {
		t.Fatal("docs/performance.md has no block contention")
	}
	for line := range strings.Lines(block) {
		_, pattern, _ := strings.Cut(line, "-bench ")
		wanted := regexp.MustCompile(strings.Trim(strings.Fields(pattern)[0], "'"))
		for _, word := range strings.Fields(line) {
			if !strings.HasPrefix(word, "./") {
				continue
			}
			files, _ := filepath.Glob("../" + word + "/*_test.go")
			has := false
			for _, file := range files {
				source, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range benchmarkName.FindAllStringSubmatch(string(source), -1) {
					has = has || wanted.MatchString(m[1])
				}
			}
			if !has {
				t.Errorf("%s has none of %v", word, wanted)
			}
		}
	}
}

var benchmarkName = regexp.MustCompile(`(?m)^func Benchmark(\w+)\(`)

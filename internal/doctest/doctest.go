// Package doctest reads what the documentation says, for tests that compare the code
// with it.
package doctest

import (
	"os"
	"strings"
	"testing"
)

// Table is the cells of the table in a Markdown file whose header begins with start,
// the header first.
func Table(tb testing.TB, file, start string) (rows [][]string) {
	tb.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	_, table, ok := strings.Cut(string(text), "\n"+start)
	if !ok {
		tb.Fatalf("%s has no table %q", file, start)
	}
	for line := range strings.Lines(start + table) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		var row []string
		for cell := range strings.SplitSeq(strings.Trim(line, "|\n"), "|") {
			row = append(row, strings.TrimSpace(cell))
		}
		if !strings.HasPrefix(row[0], "---") {
			rows = append(rows, row)
		}
	}
	return rows
}

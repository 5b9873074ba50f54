package server

import (
	"os"
	"strings"
	"testing"
)

// The table of states in the documentation is that of the code.
func TestStatesAreDocumented(t *testing.T) {
	rows := readTable(t, "../../docs/requests.md", "| state ")
	if len(rows) != states+1 || len(rows[0]) != events+1 {
		t.Fatalf("the table has %d states and %d events", len(rows)-1, len(rows[0])-1)
	}
	for e, name := range rows[0][1:] {
		if name != eventNames[e] {
			t.Fatalf("column %d is %q, want %q", e, name, eventNames[e])
		}
	}
	for from, row := range rows[1:] {
		if row[0] != stateNames[from] {
			t.Fatalf("row %d is %q, want %q", from, row[0], stateNames[from])
		}
		for e, want := range row[1:] {
			r := new(request)
			r.state.Store(uint32(from))
			got := "-"
			if _, to, ok := r.stepLocked(event(e)); ok {
				got = to.String()
			}
			if got != want {
				t.Errorf("%s, %s: the code says %q, the table %q", row[0], eventNames[e], got, want)
			}
		}
	}
}

// readTable returns the cells of the table in a Markdown file whose header begins
// with start.
func readTable(t *testing.T, file, start string) (rows [][]string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(text), "\n"+start)
	if !ok {
		t.Fatalf("%s has no table %q", file, start)
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

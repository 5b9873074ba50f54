package server

import (
	"testing"

	"github.com/fcgid/fcgid/internal/doctest"
)

var eventNames = [events]string{"params", "ready", "admitted", "returned", "answered", "end", "sent"}

// The table of states in the documentation is that of the code.
func TestStatesAreDocumented(t *testing.T) {
	rows := doctest.Table(t, "../../docs/requests.md", "| state ")
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

//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// A board is a part of a dashboard as Grafana has it.
type board struct {
	Title, UID    string
	SchemaVersion int
	Panels        []boardPanel
	Templating    struct {
		List []struct{ Name, Type, Definition string }
	}
	Annotations struct {
		List []struct{ Name, Expr string }
	}
}

type boardPanel struct {
	ID         int
	Type       string
	Title      string
	Datasource datasource
	GridPos    struct{ X, Y, W, H int }
	Targets    []struct {
		RefID, Expr string
		Datasource  datasource
	}
	Panels []boardPanel // of a row that is collapsed
}

type datasource struct{ Type, UID string }

func dashboard(t *testing.T) (b board) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root(t), "deploy/grafana/fcgid.json"))
	if err == nil {
		err = json.Unmarshal(text, &b)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// all are the panels, with those in rows.
func (b *board) all() (all []boardPanel) {
	for _, p := range b.Panels {
		all = append(append(all, p), p.Panels...)
	}
	return all
}

// The dashboard is what Grafana can show: each panel has a place and a name of its own, and
// each query a data source that the user chooses.
func TestDashboard(t *testing.T) {
	t.Parallel()
	b := dashboard(t)
	if b.Title == "" || b.UID == "" || b.SchemaVersion < 39 || len(b.all()) == 0 {
		t.Errorf("%q, %q of schema %d has %d panels", b.Title, b.UID, b.SchemaVersion, len(b.all()))
	}
	var variables []string
	for _, v := range b.Templating.List {
		variables = append(variables, v.Name)
	}
	if got := strings.Join(variables, " "); got != "datasource instance pool" {
		t.Errorf("the variables are %s", got)
	}
	chosen := datasource{"prometheus", "${datasource}"}
	ids := make(map[int]string)
	taken := make(map[[2]int]string)
	for _, p := range b.all() {
		if other, isThere := ids[p.ID]; isThere || p.ID == 0 {
			t.Errorf("%q and %q have the id %d", p.Title, other, p.ID)
		}
		ids[p.ID] = p.Title
		g := p.GridPos
		if g.W < 1 || g.H < 1 || g.X < 0 || g.X+g.W > 24 {
			t.Errorf("%q is at %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other, isThere := taken[[2]int{x, y}]; isThere {
					t.Fatalf("%q lies over %q", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Title == "" || p.Type == "row" != (len(p.Targets) == 0) {
			t.Errorf("%q, a %s, has %d queries", p.Title, p.Type, len(p.Targets))
		}
		if p.Type != "row" && p.Datasource != chosen {
			t.Errorf("%q asks %+v", p.Title, p.Datasource)
		}
		refs := make(map[string]bool)
		for _, target := range p.Targets {
			if target.RefID == "" || refs[target.RefID] || target.Datasource != chosen || !strings.Contains(target.Expr, "$instance") {
				t.Errorf("%q: %+v", p.Title, target)
			}
			refs[target.RefID] = true
		}
	}
}

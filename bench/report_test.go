package main

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestSpread(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   spread
	}{
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{3, 1, 2}, spread{2, 1, 3}},
		{[]float64{4, 1, 2, 3}, spread{2.5, 1, 4}},
	} {
		if got := newSpread(test.values); got != test.want {
			t.Errorf("%v: %v, want %v", test.values, got, test.want)
		}
	}
}

func TestPercentile(t *testing.T) {
	var latencies []int64
	for i := range int64(100) {
		latencies = append(latencies, i*1e6)
	}
	if p := percentile(latencies, 0.99); p != 99 {
		t.Errorf("p99 is %v", p)
	}
	if p := percentile(latencies[:1], 0.99); p != 0 {
		t.Errorf("p99 of one is %v", p)
	}
}

func TestRows(t *testing.T) {
	c := &benchCase{name: "x", work: "work", rows: []rowSpec{
		{requestRate, "peer", atLeast(2)}, {requestRate, "", atMost(20)}, {requestRate, "broken", reach{}},
	}}
	sides := []side{
		{name: "fcgid", samples: []sample{{requestRate: 30}, {requestRate: 10}, {requestRate: 20}}},
		{name: "peer, its best", samples: []sample{{requestRate: 10}, {requestRate: 10}, {requestRate: 10}}},
		{name: "broken", problem: errors.New("a|b\nmore")},
	}
	p := report{Cases: []caseResult{newCaseResult(c, sides, "note")}}
	text := p.markdown()
	for _, want := range []string{
		"| work, note | requests/s | peer, its best | 20 | 10 | **2.00** (1.00–3.00) | ≥ 2 | reached |",
		"| work, note | requests/s | – | 20 |  |  | ≤ 20 | reached |",
		`| work, note | requests/s | broken | 20 |  |  |  | broken: a\|b … |`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("missing %s in\n%s", want, text)
		}
	}
	if failed := p.failed(); !slices.Equal(failed, []string{"x"}) {
		t.Errorf("failed: %q", failed)
	}
}

// A 0 that was measured is one, and what was not is nothing.
func TestZero(t *testing.T) {
	reached := true
	for want, w := range map[string]row{"0": {Reached: &reached}, "": {Problem: "it did not start"}, "3": {Fcgid: 3, Reached: &reached}} {
		if got := w.cells()[3]; got != want {
			t.Errorf("%+v: %q, want %q", w, got, want)
		}
	}
}

func TestBetween(t *testing.T) {
	got, err := between("a\n"+beginMarker+"\nold\n"+endMarker+"\nb\n", "new\n")
	if want := "a\n" + beginMarker + "\nnew\n" + endMarker + "\nb\n"; err != nil || got != want {
		t.Errorf("%q %v", got, err)
	}
	if _, err := between("a\n"+endMarker+"\n"+beginMarker+"\n", "new\n"); err == nil {
		t.Error("markers in the wrong order are no error")
	}
}

// The documentation has the place for the table, and a section for each case.
func TestDocument(t *testing.T) {
	b, err := os.ReadFile("../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := between(string(b), ""); err != nil {
		t.Error(err)
	}
	for _, c := range cases {
		if !strings.Contains(string(b), "`"+c.name+"`") {
			t.Errorf("it does not tell about %s", c.name)
		}
	}
}

// Each row compares fcgid with a side that there is, and each name is one case's.
func TestCases(t *testing.T) {
	r := &rig{dir: "/nowhere", cpus: 2}
	names := make(map[string]bool)
	for _, c := range cases {
		if names[c.name] {
			t.Errorf("two cases are named %s", c.name)
		}
		names[c.name] = true
		sides := c.sides(r)
		if !strings.HasPrefix(sides[0].name, "fcgid") {
			t.Errorf("%s: the first side is %s", c.name, sides[0].name)
		}
		for _, spec := range c.rows {
			if spec.against != "" && !slices.ContainsFunc(sides[1:], func(s side) bool { return s.name == spec.against }) {
				t.Errorf("%s: no side is named %s", c.name, spec.against)
			}
		}
	}
}

func TestParse(t *testing.T) {
	for _, args := range []string{"-only (", "more", "-pairs 0", "-duration 1ms", "-only cgi -write x", "-nonsense"} {
		if _, err := parse(strings.Fields(args), &strings.Builder{}); err == nil {
			t.Errorf("%s: no error", args)
		}
	}
	if o, err := parse(nil, &strings.Builder{}); err != nil || o.pairs != 5 {
		t.Errorf("%+v %v", o, err)
	}
}

// The commands that docs/performance.md has, in the block make-bench, are understood.
func TestDocumentedCommands(t *testing.T) {
	b, err := os.ReadFile("../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, ok := strings.Cut(string(b), "<!-- test: make-bench -->\n```sh\n")
	block, _, ended := strings.Cut(block, "```\n")
	if !ok || !ended {
		t.Fatal("docs/performance.md has no block make-bench")
	}
	for line := range strings.Lines(block) {
		command, _, _ := strings.Cut(line, "  #")
		args, of := strings.CutPrefix(strings.TrimSpace(command), `make bench BENCH_ARGS="`)
		if !of && strings.TrimSpace(command) != "make bench" {
			t.Errorf("%q is no command of make bench", command)
			continue
		}
		o, err := parse(strings.Fields(strings.TrimSuffix(args, `"`)), &strings.Builder{})
		if of && err != nil {
			t.Errorf("%s: %v", command, err)
		} else if of && !slices.ContainsFunc(cases, func(c *benchCase) bool { return o.only.MatchString(c.name) }) {
			t.Errorf("%s: no case has such a name", command)
		}
	}
}

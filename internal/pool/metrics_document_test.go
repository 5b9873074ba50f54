package pool

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/doctest"
	"github.com/fcgid/fcgid/internal/metrics"
)

// all are the metrics of a daemon that has each kind of pool, as Prometheus reads them.
func all() string {
	m := metrics.New(Kinds())
	m.Collect(metrics.Sources{
		Pools: func() []metrics.Numbers {
			return []metrics.Numbers{{
				Pool: "a", AcceptQueues: map[string]uint32{"unix:/s": 0},
				Workers: &metrics.WorkerNumbers{States: map[string]int{"starting": 0, "idle": 0, "busy": 0, "stopping": 0}},
			}}
		},
		Memory:     func() (used, limit int64) { return 0, 0 },
		LogDropped: func() map[string]int64 { return map[string]int64{"daemon": 0, "access": 0, "slow": 0} },
	})
	m.Pool("a")
	m.Workers("a")
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

var (
	typeLine = regexp.MustCompile(`^# TYPE (fcgid_\w+) (\w+)$`)
	label    = regexp.MustCompile(`(\w+)="([^"]*)"`)
)

// docs/metrics.md has a row for each metric, with its type and its labels, and names the
// values that a label can have.
func TestDocumentedMetrics(t *testing.T) {
	type row struct{ kind, labels, what string }
	rows := make(map[string]row)
	for _, r := range doctest.Table(t, "../../docs/metrics.md", "| metric ")[1:] {
		rows[strings.Trim(r[0], "`")] = row{r[1], strings.ReplaceAll(r[2], "`", ""), r[3]}
	}
	seen := make(map[string]bool)
	var name string
	for line := range strings.Lines(all()) {
		if m := typeLine.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			name = m[1]
			seen[name] = true
			if r, ok := rows[name]; !ok {
				t.Errorf("docs/metrics.md has no row for %s", name)
			} else if r.kind != m[2] {
				t.Errorf("%s is a %s; docs/metrics.md says %s", name, m[2], r.kind)
			}
		}
		if !strings.HasPrefix(line, name) || name == "" {
			continue
		}
		var labels []string
		for _, m := range label.FindAllStringSubmatch(line, -1) {
			if m[1] == "le" {
				continue
			}
			labels = append(labels, m[1])
			if isFree := m[1] == "pool" || m[1] == "listener" || name == "fcgid_build_info"; !isFree && !regexp.MustCompile(`\b`+m[2]+`\b`).MatchString(rows[name].what) {
				t.Errorf("%s: the row does not tell of %s=%q", name, m[1], m[2])
			}
		}
		documented := strings.FieldsFunc(rows[name].labels, func(r rune) bool { return r == ',' || r == ' ' })
		slices.Sort(documented)
		if slices.Sort(labels); !slices.Equal(labels, documented) {
			t.Errorf("%s has the labels %q; docs/metrics.md says %q", name, labels, documented)
		}
	}
	for name := range rows {
		if !seen[name] {
			t.Errorf("there is no %s any more", name)
		}
	}
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, "../../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`(fcgid_[a-z_]+)[{`]").FindAllStringSubmatch(string(text), -1) {
			if !seen[m[1]] {
				t.Errorf("%s names %s, which there is not", file, m[1])
			}
		}
	}
}

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
				Cgroup:  &metrics.CgroupNumbers{Memory: new(int64), MemoryLimit: new(int64), Pids: new(int64)},
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

// A metricRow is what docs/metrics.md says of a metric.
type metricRow struct {
	kind, what string
	labels     []string // sorted
}

func metricRows(t *testing.T) map[string]metricRow {
	rows := make(map[string]metricRow)
	for _, r := range doctest.Table(t, "../../docs/metrics.md", "| metric ")[1:] {
		labels := strings.FieldsFunc(r[2], func(c rune) bool { return strings.ContainsRune("`, ", c) })
		slices.Sort(labels)
		rows[strings.Trim(r[0], "`")] = metricRow{r[1], r[3], labels}
	}
	return rows
}

// docs/metrics.md has a row for each metric, with its type and its labels, and names the
// values that a label can have.
func TestDocumentedMetrics(t *testing.T) {
	rows := metricRows(t)
	var name string
	seen := make(map[string]bool)
	for line := range strings.Lines(all()) {
		if m := typeLine.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			name = m[1]
			seen[name] = true
			if r, ok := rows[name]; !ok {
				t.Errorf("docs/metrics.md has no row for %s", name)
			} else if r.kind != m[2] {
				t.Errorf("%s is a %s; docs/metrics.md says %s", name, m[2], r.kind)
			}
		} else if name != "" && strings.HasPrefix(line, name) {
			checkLabels(t, name, line, rows[name])
		}
	}
	for name := range rows {
		if !seen[name] {
			t.Errorf("there is no %s any more", name)
		}
	}
}

// checkLabels compares the labels of a series with the row of its metric.
func checkLabels(t *testing.T, name, series string, row metricRow) {
	t.Helper()
	var labels []string
	for _, m := range label.FindAllStringSubmatch(series, -1) {
		if m[1] == "le" {
			continue
		}
		labels = append(labels, m[1])
		isFree := m[1] == "pool" || m[1] == "listener" || name == "fcgid_build_info"
		if !isFree && !regexp.MustCompile(`\b`+m[2]+`\b`).MatchString(row.what) {
			t.Errorf("%s: the row does not tell of %s=%q", name, m[1], m[2])
		}
	}
	if slices.Sort(labels); !slices.Equal(labels, row.labels) {
		t.Errorf("%s has the labels %q; docs/metrics.md says %q", name, labels, row.labels)
	}
}

// Each metric that the documents name is there.
func TestDocumentedMetricNames(t *testing.T) {
	rows := metricRows(t)
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
			if _, ok := rows[m[1]]; !ok {
				t.Errorf("%s names %s, which there is not", file, m[1])
			}
		}
	}
}

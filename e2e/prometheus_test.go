//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/fcgid/fcgid/e2e/harness"
	"github.com/fcgid/fcgid/fcgi"
)

// An alert is a rule of deploy/prometheus/alerts.yaml.
type alert struct {
	Alert, Expr string
	Labels      struct{ Severity string }
	Annotations struct{ Summary, Description string }
}

// parseYAML reads a file of the repository.
func parseYAML(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root(t), file))
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func alerts(t *testing.T) (all []alert) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []alert } }
	parseYAML(t, "deploy/prometheus/alerts.yaml", &file)
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	return all
}

// Prometheus' own tool takes the rules, and their tests hold. Each alert has a test in which
// it fires for one of two, and one in which it does not fire.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(harness.Root(t), "deploy/prometheus")
	run(t, exec.Command(need(t, "promtool"), "check", "rules", folder+"/alerts.yaml"))
	run(t, exec.Command(need(t, "promtool"), "test", "rules", folder+"/alerts_test.yaml"))

	var tested struct {
		Tests []struct {
			Input []any `yaml:"input_series"`
			Query []struct {
				Expr    string
				Samples []any `yaml:"exp_samples"`
			} `yaml:"promql_expr_test"`
		}
	}
	parseYAML(t, "deploy/prometheus/alerts_test.yaml", &tested)
	for _, a := range alerts(t) {
		fires, silent := false, false
		for _, test := range tested.Tests {
			for _, q := range test.Query {
				if q.Expr == `ALERTS{alertname="`+a.Alert+`", alertstate="firing"}` {
					fires = fires || len(q.Samples) > 0 && len(test.Input) > len(q.Samples)
					silent = silent || len(q.Samples) == 0
				}
			}
		}
		if !fires || !silent {
			t.Errorf("%s: a test in which it fires: %v, and one in which it does not: %v", a.Alert, fires, silent)
		}
		if a.Labels.Severity == "" || a.Annotations.Summary == "" {
			t.Errorf("%s has no severity or no summary", a.Alert)
		}
		where := regexp.MustCompile(`docs/[a-z-]+\.md`).FindString(a.Annotations.Description)
		if _, err := os.Stat(filepath.Join(harness.Root(t), where)); where == "" || err != nil {
			t.Errorf("%s does not say which page to look at: %q", a.Alert, where)
		}
	}
}

// A watched is a daemon with a pool of each kind, under a little load, and a Prometheus that
// scrapes it.
type watched struct {
	*daemon
	t   *testing.T
	url string // of Prometheus
}

func watch(t *testing.T) *watched {
	t.Helper()
	dir := folder(t)
	hello := script(t, dir+"/cgi/hello.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
	here := strings.NewReplacer("DIR", dir)
	w := &watched{t: t, daemon: serve(t, dir, here.Replace(
		"- {name: cgi, listen: 'unix:DIR/cgi.sock', process: {root: [DIR/cgi]}}\n"+
			"- {name: worker, listen: 'unix:DIR/worker.sock', "+cPool(t, "scale: static, max: 2")+"}\n"+
			"- {name: function, listen: 'unix:DIR/function.sock', function: {names: [fcgid.ping]}}\n"))}
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	t.Cleanup(func() { cancel(); load.Wait() })
	for pool, script := range map[string]string{"cgi": hello, "worker": dir + "/cgi" + appScript, "function": "fcgid.ping"} {
		load.Go(func() {
			for ctx.Err() == nil {
				askOnce(ctx, dir+"/"+pool+".sock", script)
				select {
				case <-time.After(20 * time.Millisecond): // a little load
				case <-ctx.Done():
				}
			}
		})
	}
	address := freeAddress(t)
	conf := "global: {evaluation_interval: 500ms}\n" + harness.Documented(t, "docs/metrics.md", "prometheus",
		"15s", "500ms", "127.0.0.1:9253", w.admin, "/etc/prometheus/fcgid.yaml", filepath.Join(harness.Root(t), "deploy/prometheus/alerts.yaml"))
	start(t, exec.Command(need(t, "prometheus"), "--config.file="+write(t, dir+"/prometheus.yml", conf), "--web.listen-address="+address,
		"--storage.tsdb.path="+dir+"/data", "--log.level=warn")).Listening(t, "tcp", address)
	w.url = "http://" + address
	await(t, "Prometheus to have scraped the daemon", func() bool {
		series, err := w.query(`fcgid_build_info and on (instance) count_over_time(fcgid_build_info[1m]) > 2`)
		return err == nil && len(series) == 1
	})
	return w
}

// askOnce sends a request. What becomes of it is not looked at.
func askOnce(ctx context.Context, socket, script string) {
	c, err := fcgi.Dial(ctx, "unix:"+socket)
	if err != nil {
		return
	}
	defer c.Close()
	c.Do(ctx, &fcgi.Request{Params: params(script)})
}

// A series is what Prometheus answers with.
type series struct{ Metric map[string]string }

// query asks Prometheus.
func (w *watched) query(expr string) (found []series, err error) {
	w.t.Helper()
	code, body := get(w.t, w.url+"/api/v1/query?query="+url.QueryEscape(expr))
	var answer struct {
		Data struct{ Result []series }
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || code != 200 {
		return nil, fmt.Errorf("%q: %d %s", expr, code, body)
	}
	return answer.Data.Result, nil
}

// labelValues is how a variable of Grafana asks for the values of a label.
var labelValues = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)

// Each query of the dashboard, and of its variables, gives series of a daemon with all kinds
// of pools.
func TestDashboardQueries(t *testing.T) {
	t.Parallel()
	w := watch(t)
	left := make(map[string]string) // queries, and whose they are
	board := dashboard(t)
	for _, p := range board.all() {
		for _, target := range p.Targets {
			left[target.Expr] = p.Title
		}
	}
	for _, v := range board.Templating.List {
		if values := labelValues.FindStringSubmatch(v.Definition); values != nil {
			left["count by ("+values[2]+") ("+values[1]+")"] = "the variable " + v.Name
		}
	}
	substitute := strings.NewReplacer("$instance", w.admin, "$pool", "cgi|worker|function", "$__rate_interval", "10s", "$__interval", "10s")
	for _, a := range board.Annotations.List {
		if a.Expr != "" { // is nothing as long as nobody reloads
			if _, err := w.query(substitute.Replace(a.Expr)); err != nil {
				t.Errorf("the annotation %s: %v", a.Name, err)
			}
		}
	}
	var last error
	defer func() {
		if len(left) > 0 {
			t.Error(last)
		}
	}()
	await(t, "all queries to give series", func() bool {
		for expr, whose := range left {
			asked := substitute.Replace(expr)
			if strings.Contains(asked, "$") {
				t.Fatalf("%s: %q has a variable that the test does not know", whose, expr)
			}
			found, err := w.query(asked)
			if err != nil {
				t.Fatalf("%s: %v", whose, err)
			}
			if len(found) == 0 {
				last = fmt.Errorf("%s: nothing for %s", whose, asked)
				continue
			}
			delete(left, expr)
		}
		return len(left) == 0
	})
}

// Prometheus takes each rule and evaluates it, and none names a metric that there is not.
func TestAlertsOfDaemon(t *testing.T) {
	t.Parallel()
	w := watch(t)
	var rules struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	healths := make(map[string]string)
	await(t, "the rules to be evaluated", func() bool {
		_, body := get(t, w.url+"/api/v1/rules")
		if err := json.Unmarshal([]byte(body), &rules); err != nil || len(rules.Data.Groups) != 1 {
			t.Fatalf("%v: %s", err, body)
		}
		for _, r := range rules.Data.Groups[0].Rules {
			healths[r.Name] = r.Health + r.LastError
		}
		return !slices.Contains(slices.Collect(maps.Values(healths)), "unknown")
	})
	for _, a := range alerts(t) {
		if healths[a.Alert] != "ok" {
			t.Errorf("%s: %q", a.Alert, healths[a.Alert])
		}
		for _, name := range metricNames(a.Expr) {
			if found, err := w.query(name); err != nil || len(found) == 0 {
				t.Errorf("%s names %s: %v", a.Alert, name, err)
			}
		}
	}
	firing, err := w.query(`ALERTS{alertstate="firing"}`)
	if err != nil || len(firing) > 0 {
		t.Errorf("of a daemon that is well: %v, %v", firing, err)
	}
	w.areDocumented(t)
}

// areDocumented compares the metrics that there are with those of docs/metrics.md.
func (w *watched) areDocumented(t *testing.T) {
	t.Helper()
	found, err := w.query(`count by (__name__) ({__name__=~"fcgid_.*"})`)
	if err != nil {
		t.Fatal(err)
	}
	var there []string
	for _, s := range found {
		name := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(s.Metric["__name__"], "")
		if !slices.Contains(there, name) {
			there = append(there, name)
		}
	}
	text, err := os.ReadFile(filepath.Join(harness.Root(t), "docs/metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	told := regexp.MustCompile("fcgid_[a-z_]+").FindAllString(string(text), -1)
	isCgroup := func(name string) bool { return strings.HasPrefix(name, "fcgid_cgroup_") } // as the machine has controllers
	there, told = slices.DeleteFunc(there, isCgroup), slices.DeleteFunc(told, isCgroup)
	slices.Sort(there)
	slices.Sort(told)
	if told = slices.Compact(told); !slices.Equal(there, told) {
		t.Errorf("there are %q, docs/metrics.md has %q", there, told)
	}
}

var (
	noNames = regexp.MustCompile(`"[^"]*"|\{[^}]*\}|\[[^]]*\]|\b(by|without|on|ignoring|group_left|group_right) *\([^)]*\)|\b(and|or|unless|bool|offset)\b`)
	names   = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*\b *\(?`)
)

// metricNames are those in an expression of Prometheus: what is no function's name either.
func metricNames(expr string) (found []string) {
	for _, name := range names.FindAllString(noNames.ReplaceAllString(expr, " "), -1) {
		if !strings.HasSuffix(name, "(") {
			found = append(found, strings.TrimSpace(name))
		}
	}
	return found
}

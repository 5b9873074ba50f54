//go:build e2e

package e2e

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/fcgid/fcgid/internal/protocol"
)

// The promised metrics, with the labels that they have to have, sorted.
var promised = map[string]string{
	"fcgid_build_info":                                   "commit goversion version",
	"fcgid_config_last_reload_successful":                "",
	"fcgid_config_last_reload_success_timestamp_seconds": "",
	"fcgid_connections":                                  "pool",
	"fcgid_connections_total":                            "pool",
	"fcgid_requests_total":                               "outcome pool",
	"fcgid_responses_total":                              "code pool",
	"fcgid_requests_in_flight":                           "pool",
	"fcgid_requests_queued":                              "pool",
	"fcgid_limit":                                        "name pool",
	"fcgid_request_duration_seconds_bucket":              "le pool",
	"fcgid_request_duration_seconds_count":               "pool",
	"fcgid_queue_wait_seconds_bucket":                    "le pool",
	"fcgid_received_bytes_total":                         "pool",
	"fcgid_sent_bytes_total":                             "pool",
	"fcgid_process_starts_total":                         "pool",
	"fcgid_process_exits_total":                          "pool reason",
	"fcgid_process_cpu_seconds_total":                    "pool",
	"fcgid_protocol_errors_total":                        "kind pool",
	"fcgid_accept_queue":                                 "listener pool",
	"fcgid_memory_bytes":                                 "",
	"fcgid_memory_limit_bytes":                           "",
	"fcgid_spool_bytes":                                  "pool",
	"fcgid_functions_overdue":                            "pool",
	"fcgid_pool_serving":                                 "pool",
	"fcgid_log_dropped_records_total":                    "log",
	"fcgid_upgrades_total":                               "result",
}

var labelName = regexp.MustCompile(`([a-z_]+)="`)

func TestMetrics(t *testing.T) {
	r := newRig(t, "", "")
	r.good(t, r.unix)
	r.one(t, r.tcp, r.dir+"/cgi/none.sh")
	p := connect(t, r.unix)
	p.send(protocol.AppendRecord(nil, 200, 0, nil))
	p.next()
	r.awaitOutcome(t, "ok", 1)
	r.awaitOutcome(t, "rejected", 1)

	_, text := get(t, "http://"+r.admin+"/metrics")
	found := map[string]string{}
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), "{")
		if strings.HasPrefix(line, "#") {
			continue
		}
		if rest == "" {
			name, _, _ = strings.Cut(name, " ")
		}
		var labels []string
		for _, m := range labelName.FindAllStringSubmatch(rest, -1) {
			labels = append(labels, m[1])
		}
		slices.Sort(labels)
		found[name] = strings.Join(labels, " ")
	}
	for name, labels := range promised {
		if got, ok := found[name]; !ok || got != labels {
			t.Errorf("%s: there %v, with labels %q, want %q", name, ok, got, labels)
		}
	}
	for series, want := range map[string]string{
		`fcgid_requests_total{outcome="ok",pool="cgi"}`:                 "1",
		`fcgid_requests_total{outcome="rejected",pool="cgi"}`:           "1",
		`fcgid_requests_total{outcome="timeout",pool="cgi"}`:            "0",
		`fcgid_requests_total{outcome="error",pool="cgi"}`:              "0",
		`fcgid_requests_total{outcome="aborted",pool="cgi"}`:            "0",
		`fcgid_requests_total{outcome="overloaded",pool="cgi"}`:         "0",
		`fcgid_responses_total{code="1xx",pool="cgi"}`:                  "0",
		`fcgid_responses_total{code="2xx",pool="cgi"}`:                  "1",
		`fcgid_responses_total{code="4xx",pool="cgi"}`:                  "1",
		`fcgid_responses_total{code="5xx",pool="cgi"}`:                  "0",
		`fcgid_limit{name="max_conns",pool="cgi"}`:                      "1024",
		`fcgid_limit{name="queue",pool="cgi"}`:                          "1024",
		`fcgid_connections{pool="cgi"}`:                                 "1",
		`fcgid_connections_total{pool="cgi"}`:                           "3",
		`fcgid_process_starts_total{pool="cgi"}`:                        "1",
		`fcgid_process_exits_total{pool="cgi",reason="success"}`:        "1",
		`fcgid_protocol_errors_total{kind="unknown type",pool="cgi"}`:   "1",
		`fcgid_request_duration_seconds_count{pool="cgi"}`:              "2",
		`fcgid_queue_wait_seconds_count{pool="cgi"}`:                    "2",
		`fcgid_config_last_reload_successful`:                           "1",
		`fcgid_accept_queue{listener="unix:` + r.unix + `",pool="cgi"}`: "0",
	} {
		r.awaitMetric(t, series, want)
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Error(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	nativeHistograms(t, "http://"+r.admin+"/metrics")
}

// nativeHistograms sees whether Prometheus would get native ones: they are in
// the protobuf format only.
func nativeHistograms(t *testing.T, url string) {
	t.Helper()
	got := do(t, http.MethodGet, url, nil, "Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	if got.status != 200 || !strings.HasPrefix(got.header.Get("Content-Type"), "application/vnd.google.protobuf") {
		t.Errorf("protobuf format: %d, %s", got.status, got.header.Get("Content-Type"))
	}
}

// A bad file changes nothing, and a metric says so.
func TestMetricsOfReload(t *testing.T) {
	r := newRig(t, "", "")
	const ok = "fcgid_config_last_reload_successful"
	const when = "fcgid_config_last_reload_success_timestamp_seconds"
	before := r.metric(t, when)
	r.configure("- {name: cgi, listn: x}\n")
	r.reload(t)
	if s := r.status(t); r.metric(t, ok) != "0" || r.metric(t, when) != before || s.Reload.OK || !strings.Contains(s.Reload.Error, "did you mean listen?") {
		t.Errorf("after a bad file: %s is %s, /status %+v", ok, r.metric(t, ok), s.Reload)
	}
	code, stdout, stderr := fcgid(t, "/", nil, "status", "-c", r.file)
	output{code, stdout, stderr}.is(t, "status", 0, " ago was refused, the configuration of ", " ago stays:\n"+r.file+":", "(did you mean listen?)\n")
	r.good(t, r.unix)
	r.configure("- {name: cgi, listen: [\"unix:" + r.unix + "\"], process: {root: [" + r.dir + "/cgi]}}\n")
	r.reload(t)
	if s := r.status(t); r.metric(t, ok) != "1" || r.metric(t, when) == before || !s.Reload.OK {
		t.Errorf("after a good file: %s is %s, /status %+v", ok, r.metric(t, ok), s.Reload)
	}
	r.good(t, r.unix)
}

// What clients hold is to be seen, in metrics and in /status, until they have gone.
func TestMetricsOfMemoryAndSpool(t *testing.T) {
	t.Parallel()
	r := newRig(t, "limits: {body_memory: 4KiB}", "")
	p := connect(t, r.unix)
	p.send(begin(1, protocol.RoleResponder, true), pairs(1, params("/x")), stdin(1, strings.Repeat("x", 3000)), stdin(1, strings.Repeat("x", 50_000)))
	r.awaitMetric(t, `fcgid_spool_bytes{pool="cgi"}`, "53000")
	if got, _ := strconv.ParseFloat(r.metric(t, "fcgid_memory_bytes"), 64); got < 4096 {
		t.Errorf("%v bytes of memory", got)
	}
	if s := r.status(t); s.Memory < 4096 || s.MemoryLimit < s.Memory || s.Pools[0].Spooled != 53000 {
		t.Errorf("/status has %+v", s)
	}
	p.Close()
	r.awaitMetric(t, `fcgid_spool_bytes{pool="cgi"}`, "0")
	r.awaitMetric(t, "fcgid_memory_bytes", "0")
}

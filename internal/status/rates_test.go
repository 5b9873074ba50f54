package status

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLatenciesAsJSON(t *testing.T) {
	l := Latencies{{0, 1}, {math.Exp2(-17. / 8), 2}, {0.5, 3}, {16, 4}}
	text, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"0":1,"0.229251":2,"0.5":3,"16":4}`; string(text) != want {
		t.Errorf("got %s, want %s", text, want)
	}
	var read Latencies
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	l[1].UpTo = 0.229251
	if diff := cmp.Diff(l, read); diff != "" {
		t.Error(diff)
	}
	for _, wrong := range []string{`{"x":1}`, `[]`, `{"1":-1}`} {
		if err := json.Unmarshal([]byte(wrong), &read); err == nil {
			t.Errorf("%s is taken for latencies", wrong)
		}
	}
}

func TestLatenciesSince(t *testing.T) {
	for _, test := range []struct{ now, before, want Latencies }{
		{nil, nil, nil},
		{Latencies{{1, 5}}, nil, Latencies{{1, 5}}},
		{Latencies{{1, 5}}, Latencies{{1, 5}}, nil},
		{Latencies{{.5, 2}, {1, 5}}, Latencies{{1, 3}}, Latencies{{.5, 2}, {1, 2}}},
		{Latencies{{1, 5}, {4, 2}}, Latencies{{.5, 2}, {1, 1}, {2, 1}}, Latencies{{1, 2}, {4, 1}}}, // wider bounds
		{Latencies{{1, 5}}, Latencies{{1, 7}}, nil},                                                // counted anew
	} {
		if diff := cmp.Diff(test.want, test.now.Since(test.before)); diff != "" {
			t.Errorf("%v since %v: %s", test.now, test.before, diff)
		}
	}
}

func TestQuantile(t *testing.T) {
	for _, test := range []struct {
		l          Latencies
		part       float64
		least, max float64
	}{
		{nil, .5, 0, 0},
		{Latencies{{1, 1}}, .99, .9, 1},
		{Latencies{{.001, 50}, {1, 50}}, .5, .0009, .001},
		{Latencies{{.001, 50}, {1, 50}}, .51, .9, 1},
		{Latencies{{.001, 98}, {1, 1}, {60, 1}}, .99, .9, 1},
		{Latencies{{.001, 98}, {1, 1}, {60, 1}}, 1, 55, 60},
	} {
		if got := test.l.Quantile(test.part); got < test.least || got > test.max {
			t.Errorf("%v, %g: got %g, want %g to %g", test.l, test.part, got, test.least, test.max)
		}
	}
}

func TestRates(t *testing.T) {
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	before := &Page{PID: 1, Started: start, Time: start.Add(time.Hour), Pools: []Pool{
		{Name: "a", State: Serving, SentTotal: 100, Ended: map[string]int64{"ok": 10, "error": 1}, Latencies: Latencies{{1, 11}},
			Workers: &Workers{List: []Worker{{PID: 7, CPU: 3}}}},
		{Name: "a", State: Draining, SentTotal: 5000, Ended: map[string]int64{"ok": 10, "error": 1}},
	}}
	now := &Page{PID: 1, Started: start, Time: start.Add(time.Hour + 2*time.Second), Pools: []Pool{
		{Name: "new", State: Serving, Ended: map[string]int64{"ok": 10}},
		{Name: "a", State: Serving, SentTotal: 300, ReceivedTotal: 2, Ended: map[string]int64{"ok": 14, "error": 2}, Latencies: Latencies{{.5, 5}, {1, 11}},
			Workers: &Workers{List: []Worker{{PID: 7, CPU: 4}, {PID: 8, CPU: .5}}}},
	}}
	got := now.Rates(before)
	if got[1].P50 < .4 || got[1].P50 > .5 {
		t.Errorf("P50 is %g", got[1].P50)
	}
	want := []Rates{{}, {Requests: 2.5, Failed: .5, Received: 1, Sent: 100, CPU: map[int]float64{7: .5, 8: .25}, P50: got[1].P50, P95: got[1].P95, P99: got[1].P99}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for name, other := range map[string]*Page{"none": nil, "another daemon": {PID: 2, Started: start}, "its successor": {PID: 1}, "itself": now} {
		if got := now.Rates(other); got[1].Requests != 0 || len(got) != 2 {
			t.Errorf("since %s: %v", name, got)
		}
	}
	if got := before.Rates(now); got[0].Requests != 0 {
		t.Errorf("backwards: %v", got)
	}
}

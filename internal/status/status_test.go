package status

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What a person sees of a worker with many requests.
func TestCurrentRequests(t *testing.T) {
	var w Worker
	for n, want := range []string{"", "GET /0", "GET /0 and 1 more", "GET /0 and 2 more"} {
		if got := w.current(); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
		w.Current = append(w.Current, CurrentRequest{Method: "GET", URI: fmt.Sprint("/", n)})
	}
}

// Nothing that others have written reaches a terminal as it is.
func TestStatusIsPrintable(t *testing.T) {
	page := Page{File: "a\x1b[2J", Reload: Reload{Error: "b\x1b[2J"}, Pools: []Pool{
		{Name: "p", Runner: "worker", Workers: &Workers{Degraded: "c\x1b[2J"}, LastFailure: &Failure{Reason: "d\x1b", Method: "e\x1b", URI: "f\x1b", Script: "g\x1b"}},
	}}
	var out strings.Builder
	if err := page.Print(&out, true); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("got %q", out.String())
	}
}

// Of a refused file each fault has a line, and the time of what is in force is told.
func TestStatusTellsOfARefusedFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		page := Page{Version: "1", PID: 2, Started: now.Add(-time.Hour), File: "/f", Reload: Reload{
			Time: now.Add(-5 * time.Second), InForce: now.Add(-64 * time.Second), Error: "/f:1:2: a: x\n/f:3:4: b\x1b: y",
		}}
		for want, ok := range map[string]bool{
			"fcgid 1, pid 2, up 1h0m, configuration /f\nthe file of 5s ago was refused, the configuration of 1m4s ago stays:\n/f:1:2: a: x\n\"/f:3:4: b\\x1b: y\"\n\n": false,
			"fcgid 1, pid 2, up 1h0m, configuration /f read 5s ago: ok\n\n":                                                                                            true,
		} {
			page.Reload.OK = ok
			var out strings.Builder
			if err := page.Print(&out, false); err != nil || !strings.HasPrefix(out.String(), want) {
				t.Errorf("got %v\n%s\nwant\n%s", err, out.String(), want)
			}
		}
	})
}

// Of a pool its requests are told by what became of them, and why the last one failed.
func TestStatusTellsOfFailures(t *testing.T) {
	now := time.Now()
	pool := Pool{Name: "p", Runner: "process"}
	page := Page{Time: now, Pools: []Pool{pool}}
	printed := func() string {
		var out strings.Builder
		if err := page.Print(&out, true); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if got := printed(); !strings.Contains(got, "\nrequests that have ended: 0\n") || strings.Contains(got, "last failure") {
		t.Errorf("a new pool: %s", got)
	}
	at := now.Add(-3 * time.Minute)
	page.Pools[0].Ended = map[string]int64{"error": 3, "aborted": 0, "ok": 12, "timeout": 1}
	page.Pools[0].LastFailure = &Failure{Time: at, Outcome: "error", Reason: "exit status 3", ID: 7, Method: "GET", URI: "/a", Script: "/srv/a"}
	want := "\nrequests that have ended: 16: 12 ok, 3 error, 1 timeout\nlast failure: 3m0s ago (" + at.Format(time.DateTime) +
		"), error: exit status 3\n  request 7: GET /a, /srv/a\n"
	if got := printed(); !strings.Contains(got, want) {
		t.Errorf("got %s, want %s in it", got, want)
	}
}

func TestPrintable(t *testing.T) {
	for given, want := range map[string]string{
		"":                    "",
		"a b=ü/日本?\"x\"":      "a b=ü/日本?\"x\"",
		"a\nb":                `"a\nb"`,
		"\x1b[2J":             `"\x1b[2J"`,
		"\u009b2J":            `"\u009b2J"`,
		"\u0085":              `"\u0085"`,
		"\x9b2J":              `"\x9b2J"`,
		"\u2028":              `"\u2028"`,
		"\u202etxt.exe":       `"\u202etxt.exe"`,
		"\u2066\u200b\ufeffx": `"\u2066\u200b\ufeffx"`,
		"\u00a0":              `"\u00a0"`,
		"a\xffb":              `"a\xffb"`,
	} {
		if got := Printable(given); got != want {
			t.Errorf("%+q: got %s, want %s", given, got, want)
		}
	}
}

// What clients send cannot add a line to the page, nor anything that acts on a
// terminal. A request without a process has no pid.
func TestStatusTextIsOneLineAField(t *testing.T) {
	evil := "/x\nlisten queue:         4711\x1b[2J\u202e"
	status := Pool{Name: "p", Requests: []Request{{Stage: "running", Method: evil, URI: evil, Script: evil}, {PID: 71}}}
	text := status.Text(time.Now())
	if strings.Contains(text, "\nlisten queue:         4711") || strings.ContainsAny(text, "\x1b\u202e") {
		t.Errorf("a client wrote on the page: %q", text)
	}
	if strings.Count(text, "\npid:") != 1 || !strings.Contains(text, "\npid:                  71\n") {
		t.Errorf("got %q, want one pid", text)
	}
}

// A request that waits is counted once, wherever it waits.
func TestWaiting(t *testing.T) {
	pool := Pool{Name: "p", Queued: 1, Workers: &Workers{Waiting: 2}}
	if got := pool.Waiting(); got != 3 {
		t.Errorf("got %d", got)
	}
	if text := pool.Text(time.Now()); !strings.Contains(text, "requests queued:      3\n") {
		t.Errorf("got %s", text)
	}
}

// Requests of a daemon that was replaced are among the open ones, also of a pool that only
// that one has; a pool that neither has is an error.
func TestOpenRequestsOfOldDaemon(t *testing.T) {
	page := Page{
		Pools:           []Pool{{Name: "php", Requests: []Request{{ID: 1000007, Age: 1, Stage: "running"}}}, {Name: "idle"}},
		LeavingRequests: []OpenRequest{{"php", 71, Request{ID: 3, Age: 9, Stage: "running"}}, {"gone", 71, Request{ID: 4, Age: 5, Stage: "queued"}}},
	}
	for _, test := range []struct {
		filter RequestFilter
		want   string
	}{
		{RequestFilter{}, "[3 4 1000007]"},
		{RequestFilter{Pool: "php"}, "[3 1000007]"},
		{RequestFilter{Pool: "gone"}, "[4]"},
		{RequestFilter{Pool: "gone", Stage: "running"}, "[]"},
		{RequestFilter{Pool: "idle"}, "[]"},
		{RequestFilter{Pool: "none"}, `no pool "none"; there is php, idle`},
	} {
		found, err := page.Open(test.filter)
		ids := []uint64{}
		for _, r := range found {
			ids = append(ids, r.ID)
		}
		got := fmt.Sprint(ids)
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%+v: %s, want %s", test.filter, got, test.want)
		}
	}
}

// Of direct workers it is told what the daemon knows: how many there are, and what waits for them.
func TestDirectWorkers(t *testing.T) {
	two, three := uint32(2), uint32(3)
	pool := Pool{
		Name: "a", Runner: "worker", State: Serving, Listeners: []Listener{{Address: "unix:/a", AcceptQueue: &two}, {Address: "unix:/b", AcceptQueue: &three}, {Address: "unix:/c"}},
		Workers: &Workers{Scale: "static", Direct: true, Max: 4, States: map[string]int{"starting": 1, "serving": 3}, List: []Worker{{PID: 71, State: "serving"}}},
	}
	if n := pool.Waiting(); n != 5 {
		t.Errorf("%d wait", n)
	}
	var out strings.Builder
	if err := (&Page{Time: time.Now(), Pools: []Pool{pool}}).Print(&out, true); err != nil {
		t.Fatal(err)
	}
	words := strings.Join(strings.Fields(out.String()), " ")
	for _, part := range []string{
		" a worker (direct) serving - - 5 1 starting, 3 serving, 4/4 unix:/a,", "the daemon sees no requests. Connections that wait for a worker (QUEUED): 5", " 71 serving - ",
	} {
		if !strings.Contains(words, part) {
			t.Errorf("%q is not in\n%s", part, out.String())
		}
	}
	words = strings.Join(strings.Fields(pool.Text(time.Now())), " ")
	for part, want := range map[string]bool{"listen queue: 5 total processes: 4 ": true, "requests": false, "accepted conn": false, "idle": false} {
		if strings.Contains(words, part) != want {
			t.Errorf("%q in %s is %t", part, words, !want)
		}
	}
}

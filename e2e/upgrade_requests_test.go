//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// An openRequest is one of `fcgid requests --json`.
type openRequest struct {
	Pool    string
	Number  uint64 `json:"request"`
	URI     string
	Stage   string
	PID     int
	Leaving int `json:"leaving_pid"`
}

// requests are the open ones of both daemons.
func (u *upgradable) requests(args ...string) (all []openRequest) {
	u.t.Helper()
	code, out, stderr := fcgid(u.t, "/", nil, append([]string{"requests", "--json", "--control", u.dir + "/control"}, args...)...)
	if err := json.Unmarshal([]byte(out), &all); err != nil || code != 0 {
		u.t.Fatalf("requests: %d %v %s%s", code, err, out, stderr)
	}
	return all
}

// What runs under daemons that were replaced is shown and can be killed as what runs under the
// last one, by numbers that no two requests have.
func TestUpgradeReachesRequests(t *testing.T) { inBoth(t, testUpgradeReachesRequests) }

func testUpgradeReachesRequests(t *testing.T, isApart bool) {
	u := newUpgradable(t, isApart, "- {name: cgi, listen: 'unix:DIR/s', process: {root: [DIR/cgi]}}\n")
	sleeps := script(t, u.dir+"/cgi/sleep.sh", "#!/bin/sh\necho x >>"+u.dir+"/runs\nwhile [ ! -e "+u.dir+"/go ]; do sleep 0.02; done\nprintf 'Content-Type: text/plain\\n\\nlong'\n")
	clients := make(map[string]*peer)
	var daemons []int
	begin := func(uri string) {
		t.Helper()
		clients[uri] = connect(t, u.dir+"/s")
		clients[uri].send(request(1, params(sleeps, "REQUEST_URI", uri), ""))
		await(t, uri+" to run", func() bool {
			text, _ := os.ReadFile(u.dir + "/runs")
			return len(text) == 2*len(clients)
		})
	}
	begin("/first?secret=1")
	begin("/second?secret=2")
	daemons = append(daemons, u.running())
	u.upgrade().is(t, "upgrade", 0)
	begin("/third?secret=3")
	daemons = append(daemons, u.running())
	u.upgrade().is(t, "upgrade", 0)
	begin("/fourth?secret=4")
	daemons = append(daemons, 0) // it is not leaving

	numbers := make(map[string]uint64)
	check := func(when string, want ...string) {
		t.Helper()
		var got []string
		for _, r := range u.requests("cgi", "--stage", "running") {
			if numbers[r.URI] != 0 && numbers[r.URI] != r.Number || r.Pool != "cgi" || !alive(r.PID) {
				t.Errorf("%s: %+v", when, r)
			}
			numbers[r.URI] = r.Number
			got = append(got, fmt.Sprint(r.URI, " ", slices.Index(daemons, r.Leaving)))
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("%s: there is %q, want %q", when, got, want)
		}
	}
	check("two upgrades", "/first?secret=1 0", "/fourth?secret=4 2", "/second?secret=2 0", "/third?secret=3 1")
	distinct := make(map[uint64]bool)
	for _, n := range numbers {
		distinct[n] = true
	}
	if len(distinct) != 4 {
		t.Fatalf("the numbers are %v", numbers)
	}
	_, out, _ := fcgid(t, "/", nil, "status", "--control", u.dir+"/control")
	if want := fmt.Sprintf("pid %d, which it has replaced, still ends its requests: 3\n", daemons[1]); !strings.Contains(out, want) {
		t.Errorf("status lacks %q:\n%s", want, out)
	}
	if _, page := get(t, "http://"+u.admin+"/status"); !strings.Contains(page, `"/first"`) || strings.Contains(page, "secret") {
		t.Errorf("/status on TCP shows query strings, or not the old requests:\n%s", page)
	}
	if _, out, _ := fcgid(t, "/", nil, "top", "--once", "--control", u.dir+"/control"); !strings.Contains(out, "still ends its requests: 3\n") {
		t.Errorf("top says nothing of them:\n%s", out)
	}
	if !isApart { // the page is the same
		b := harness.NewBrowser(t)
		b.Open("http://"+u.admin+"/", harness.Screen{Width: 800, Height: 600})
		b.Await("the old requests", `document.querySelectorAll('#leaving tbody tr').length == 3`)
		if text := b.Eval(`document.querySelector('#leaving').innerText`); !strings.Contains(text, fmt.Sprintf("pid %d,", daemons[1])) ||
			!strings.Contains(text, "/first") || strings.Contains(text, "secret") {
			t.Errorf("the page has of them:\n%s", text)
		}
	}

	kill := func(uri string) {
		t.Helper()
		number := fmt.Sprint(numbers[uri])
		code, out, stderr := fcgid(t, "/", nil, "kill", number, "--control", u.dir+"/control")
		output{code, out, stderr}.is(t, "kill "+uri, 0, "request "+number+" of pool cgi ended ("+sleeps+")")
		if r := clients[uri].reply(1); r.status() != 503 {
			t.Errorf("%s: %v", uri, r)
		}
		order := fmt.Sprintf(`"verb":"kill","uid":%d,`, os.Geteuid())
		if !strings.Contains(u.log(), order) || !strings.Contains(u.log(), `"request":`+number+`,"pool":"cgi"`) {
			t.Errorf("the log does not have who has killed %s", uri)
		}
	}
	kill("/second?secret=2")
	await(t, "its end", func() bool { return len(u.requests()) == 3 })
	check("one was killed", "/first?secret=1 0", "/fourth?secret=4 2", "/third?secret=3 1")
	kill("/third?secret=3")
	await(t, "its end", func() bool { return len(u.requests()) == 2 })
	code, out, stderr := fcgid(t, "/", nil, "kill", "7", "--control", u.dir+"/control")
	output{code, out, stderr}.is(t, "no request", 1, "request 7: no such request")
	write(t, u.dir+"/go", "")
	for _, uri := range []string{"/first?secret=1", "/fourth?secret=4"} {
		if r := clients[uri].reply(1); r.body() != "long" {
			t.Errorf("%s: %v", uri, r)
		}
	}
	await(t, "the old daemons to end", func() bool { return !alive(daemons[0]) && !alive(daemons[1]) })
	await(t, "no request", func() bool { return len(u.requests()) == 0 })
}

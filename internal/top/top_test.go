package top

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"
	"github.com/charmbracelet/x/ansi"
	"github.com/google/go-cmp/cmp"

	"github.com/fcgid/fcgid/internal/status"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// A fakeSource is a daemon as a test has it.
type fakeSource struct {
	page   func() *status.Page
	err    error
	orders []status.Order
	reply  status.Reply
	denied error
}

func (f *fakeSource) Status(context.Context) (*status.Page, error) {
	if f.err != nil {
		return nil, f.err
	}
	return f.page(), nil
}

func (f *fakeSource) Do(_ context.Context, o status.Order) (*status.Reply, error) {
	f.orders = append(f.orders, o)
	if f.denied != nil {
		return nil, f.denied
	}
	return &f.reply, nil
}

// pageAt is a daemon that serves 40 requests a second in the pool www.
func pageAt(seconds int) *status.Page {
	n := int64(seconds)
	return &status.Page{
		Version: "0.1.0", PID: 71, Started: start, Time: start.Add(time.Duration(seconds) * time.Second), Reload: status.Reload{OK: true},
		Memory: 3 << 20, MemoryLimit: 512 << 20,
		Pools: []status.Pool{
			{
				Name: "www", Runner: "worker", State: status.Serving, Listeners: []status.Listener{{Address: "unix:/run/fcgid/www.sock"}},
				Limits: status.Limits{MaxConns: 1024, MaxReqs: 3, Queue: 1024}, Connections: 6, Running: 3, Queued: 3,
				SentTotal: n << 20, ReceivedTotal: n << 14, Ended: map[string]int64{"ok": n * 39, "error": n},
				Latencies: status.Latencies{{UpTo: .012, N: uint64(n) * 38}, {UpTo: .5, N: uint64(n) * 2}},
				Workers: &status.Workers{Scale: "dynamic", Max: 8, States: map[string]int{"busy": 3, "idle": 1, "starting": 1, "stopping": 1}, List: []status.Worker{
					{PID: 100, State: "busy", Requests: 5, Age: 90, CPU: float64(n) / 2, RSS: 33 << 20, Current: []status.CurrentRequest{{ID: 7, Method: "GET", URI: "/report"}}},
					{PID: 101, State: "idle", Requests: 9, Age: 90, RSS: 31 << 20},
				}},
				Requests: []status.Request{
					{ID: 9, Stage: "queued", Age: .5, Method: "GET", URI: "/next", Script: "/srv/index.php"},
					{ID: 7, Stage: "running", Age: 12, PID: 100, Method: "GET", URI: "/report", Script: "/srv/index.php"},
				},
			},
			{Name: "cgi", Runner: "process", State: status.Drained, Limits: status.Limits{MaxReqs: 4}, Running: 1},
		},
	}
}

// newTest is a model that has looked twice, a second apart.
func newTest(t *testing.T) (*model, *fakeSource) {
	t.Helper()
	seconds := 99
	source := &fakeSource{page: func() *status.Page { seconds++; return pageAt(seconds) }}
	m := newModel(t.Context(), Options{Source: source, Interval: time.Second})
	m.pen = plain
	for range 2 {
		m.see(t)
	}
	return m, source
}

// see has the model look, at the time that the page has or, without one, a second later.
func (m *model) see(t *testing.T) {
	t.Helper()
	msg := m.look()().(pageMsg)
	msg.at = m.now.Add(time.Second)
	if msg.page != nil {
		msg.at = msg.page.Time
	}
	m.Update(msg)
}

// keys presses keys, and has what they order carried out. It reports whether one quits.
func (m *model) keys(t *testing.T, names ...string) (quits bool) {
	t.Helper()
	for _, name := range names {
		key := tea.Key{Text: name, Code: []rune(name)[0]}
		if code, ok := map[string]rune{"enter": tea.KeyEnter, "esc": tea.KeyEscape, "up": tea.KeyUp, "down": tea.KeyDown, "backspace": tea.KeyBackspace, "end": tea.KeyEnd, "home": tea.KeyHome, "pgdown": tea.KeyPgDown, "pgup": tea.KeyPgUp}[name]; ok {
			key = tea.Key{Code: code}
		}
		if name == "ctrl+c" {
			key = tea.Key{Code: 'c', Mod: tea.ModCtrl}
		}
		_, cmd := m.Update(tea.KeyPressMsg(key))
		if cmd == nil {
			continue
		}
		switch msg := cmd().(type) {
		case tea.QuitMsg:
			quits = true
		case repliedMsg:
			m.Update(msg)
		default:
			t.Fatalf("%s: %T", name, msg)
		}
	}
	return quits
}

func (m *model) text() string { return strings.Join(m.frame(), "\n") }

// has checks what is on the screen.
func (m *model) has(t *testing.T, what string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if text := m.text(); !strings.Contains(text, part) {
			t.Errorf("%s: %q is not there:\n%s", what, part, text)
		}
	}
}

// trimmed are lines without the space at their ends.
func trimmed(lines []string) string {
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

func TestPools(t *testing.T) {
	m, _ := newTest(t)
	want := `fcgid 0.1.0  pid 71  up 1m41s  configuration ok  memory 3.0M of 512M
4 running, 3 waiting  40.0 req/s, 1.0 bad/s  6 connections

POOL  STATE    REQ/S  BAD/S   P50   P95    P99  RUN  WAIT  CONNS  WORKERS
www   serving   40.0    1.0  12ms  12ms  492ms  3/3     3      6  bbbisx..
cgi   drained    0.0    0.0     -     -      -  1/4     0      0  b...`
	got, _, _ := strings.Cut(trimmed(m.frame()), "\n\n\n")
	if _, foot, ok := strings.Cut(trimmed(m.frame()), "\n\n\n"); !ok || !strings.HasSuffix(foot, "enter opens  d drains  u resumes  r recycles  / filters  ? helps  q quits") {
		t.Errorf("the keys are not there: %q", foot)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Above the list are the faults of a refused file, a line each, and what an upgrade has left.
func TestHead(t *testing.T) {
	m, source := newTest(t)
	page := pageAt(102)
	page.Reload = status.Reload{Error: "f:1:2: one\nf:2:2: two\nf:3:2: three\nf:4:2: four\nf:5:2: five"}
	page.Leaving, page.LeavingRequests = 70, make([]status.OpenRequest, 2)
	source.page = func() *status.Page { return page }
	m.see(t)
	m.has(t, "five faults", "last reload REFUSED", "\nf:1:2: one\nf:2:2: two\nf:3:2: three\nand 2 more: fcgid status\n",
		"\npid 70, which it has replaced, still ends its requests: 2\n\nPOOL ")
	page.Reload.Error = "f:1:2: one\nf:2:2: two\nf:3:2: three"
	m.has(t, "three faults", "\nf:2:2: two\nf:3:2: three\npid 70")
}

func TestOpenPool(t *testing.T) {
	m, _ := newTest(t)
	m.keys(t, "enter")
	m.has(t, "the pool", "www  serving  worker, dynamic  unix:/run/fcgid/www.sock\n",
		"40.0 req/s, 1.0 bad/s  p50 ", "in 16K/s, out 1.0M/s\n", "3/3 running, 3/1024 waiting, 6/1024 connections\n",
		"bbbisx..  3 busy, 1 idle, 1 starting, 1 stopping of 8\n",
		"100  busy      5  1m30s    50  33M  GET /report", "101  idle      9  1m30s     0  31M",
		"7  12.0s  running  100  GET     /report  /srv/index.php", "9   0.5s  queued     -  GET     /next  /srv/index.php")
	if text := m.text(); strings.Index(text, "/report  /srv") > strings.Index(text, "/next  /srv") {
		t.Errorf("the oldest is not the first:\n%s", text)
	}
	m.keys(t, "esc")
	m.has(t, "back", "\nPOOL ")
}

// Whatever others have written, a frame has nothing in it that acts on a terminal but
// its own looks, no line that is too wide and no more lines than the screen.
func TestHostileText(t *testing.T) {
	evil := "\x1b]0;taken\a\x1b[2J\u009b31m\x9c\r\n\t\u202egnp.exe\u2066\u200b\xff" + strings.Repeat("e\u0301\u0302", 1000) + "日本"
	page := pageAt(1)
	page.Version, page.File, page.Reload = evil, evil, status.Reload{Error: evil}
	p := &page.Pools[0]
	p.Name, p.Runner, p.State, p.Listeners[0].Address, p.Workers.Degraded, p.Workers.Scale = evil, evil, evil, evil, evil, evil
	p.Outdated = &status.Outdated{Workers: 2, Why: evil}
	w := &p.Workers.List[0]
	w.State, w.Leaving, w.Current[0].Method, w.Current[0].URI, w.Current[0].Script = evil, evil, evil, evil, evil
	r := &p.Requests[0]
	r.Stage, r.Method, r.URI, r.Script = evil, evil, evil, evil
	looks := regexp.MustCompile(`\x1b\[(1|2|7|3[1-5]|1;31)?m`)
	for _, size := range [][2]int{{80, 24}, {40, 10}, {13, 5}, {1, 1}} {
		for _, pen := range []pen{plain, mono, colour} {
			m, source := newTest(t)
			source.page = func() *status.Page { return page }
			m.see(t)
			m.Update(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
			m.pen = pen
			source.reply = status.Reply{Text: evil}
			source.denied = errors.New(evil)
			for _, key := range []string{"enter", "down", "k", "y", "d", "y", "?", "?", "/", evil, "enter", "esc", "esc"} {
				if key == evil {
					m.Update(tea.PasteMsg{Content: evil})
				} else {
					m.keys(t, key)
				}
				lines := m.frame()
				if len(lines) > size[1] {
					t.Fatalf("%v, %s: %d lines", size, key, len(lines))
				}
				for _, line := range lines {
					if ansi.StringWidth(line) > size[0] {
						t.Errorf("%v, %s: %d wide: %q", size, key, ansi.StringWidth(line), line)
					}
					if bare := looks.ReplaceAllString(line, ""); status.Printable(bare) != bare || pen == plain && bare != line {
						t.Fatalf("%v, %s: %q", size, key, line)
					}
					if len(line) > 20000 {
						t.Errorf("%v, %s: %d bytes in a line", size, key, len(line))
					}
				}
			}
			source.err = errors.New(evil)
			m.see(t)
			if text := strings.ReplaceAll(looks.ReplaceAllString(m.text(), ""), "\n", ""); status.Printable(text) != text {
				t.Errorf("%v: %q", size, text)
			}
		}
	}
}

func TestMoveAndFilter(t *testing.T) {
	m, source := newTest(t)
	m.keys(t, "down", "enter")
	m.has(t, "the second pool", "cgi  drained  process")
	m.keys(t, "esc")
	if got := m.current().pool; got != "cgi" {
		t.Errorf("back at %s", got)
	}
	m.keys(t, "up", "enter", "end")
	if got := m.current().request; got != 9 {
		t.Errorf("at the end: request %d", got)
	}
	// Those before it end: what is selected stays selected.
	page := pageAt(200)
	page.Pools[0].Requests = page.Pools[0].Requests[:1]
	source.page = func() *status.Page { return page }
	m.see(t)
	if got := m.current().request; got != 9 {
		t.Errorf("after one has ended: request %d", got)
	}
	page.Pools[0].Requests = nil
	m.see(t)
	if got := m.current(); got == nil || got.key != "worker 101" {
		t.Errorf("after all have ended: %+v", got)
	}
	m.keys(t, "/", "1", "0", "x", "backspace", "0", "enter")
	m.has(t, "the filter", "100  busy", "only: 100")
	if strings.Contains(m.text(), "101") {
		t.Errorf("the filter lets 101 through:\n%s", m.text())
	}
	m.keys(t, "esc")
	m.has(t, "no filter", "101  idle")
	m.keys(t, "esc", "/", "q", "W", "backspace", "backspace", "W", "w")
	m.has(t, "typing", "/Ww")
	if got := len(selectable(m.body())); got != 1 {
		t.Errorf("%d pools", got)
	}
	page.Pools = page.Pools[1:]
	m.keys(t, "esc", "home", "enter")
	m.see(t)
	m.has(t, "the pool is gone", "cgi  drained")
	page.Pools = nil
	m.see(t)
	m.has(t, "the pool is gone", "pool cgi is not there any more")
	m.keys(t, "k", "y", "down", "enter", "esc", "enter", "d")
}

// What changes something asks first, and does what was asked for.
func TestOrders(t *testing.T) {
	for _, test := range []struct {
		keys  []string
		asks  string
		order status.Order
	}{
		{[]string{"enter", "k"}, "kill request 7 of pool www", status.Order{Verb: "kill", IDs: []uint64{7}}}, // the worker's
		{[]string{"enter", "end", "k"}, "kill request 9 of pool www", status.Order{Verb: "kill", IDs: []uint64{9}}},
		{[]string{"d"}, "drain pool www?", status.Order{Verb: "drain", Pool: "www", Timeout: orderTime}},
		{[]string{"enter", "d"}, "drain pool www?", status.Order{Verb: "drain", Pool: "www", Timeout: orderTime}},
		{[]string{"down", "u"}, "resume pool cgi?", status.Order{Verb: "resume", Pool: "cgi"}},
		{[]string{"r"}, "replace the workers of pool www", status.Order{Verb: "recycle", Pool: "www", Timeout: orderTime}},
	} {
		for _, answer := range []string{"n", "esc", "enter", "q", "y"} {
			m, source := newTest(t)
			source.reply = status.Reply{Text: "so it is"}
			m.keys(t, test.keys...)
			m.has(t, fmt.Sprint(test.keys), "y or n: "+test.asks)
			if len(source.orders) > 0 {
				t.Fatalf("%v has ordered %v", test.keys, source.orders)
			}
			var want []status.Order
			said := "nothing was done"
			if answer == "y" {
				want, said = []status.Order{test.order}, "so it is"
			}
			if m.keys(t, answer) {
				t.Errorf("%v and %s quits", test.keys, answer)
			}
			if diff := cmp.Diff(want, source.orders); diff != "" {
				t.Errorf("%v and %s: %s", test.keys, answer, diff)
			}
			m.has(t, answer, said)
		}
	}
	m, source := newTest(t)
	m.keys(t, "k")
	m.has(t, "k at the pools", "enter opens it")
	m.keys(t, "enter", "down", "k")
	m.has(t, "k at an idle worker", "no request is selected")
	m.keys(t, "y")
	if len(source.orders) != 0 {
		t.Errorf("ordered %v", source.orders)
	}
}

// What came of an order is told.
func TestReplies(t *testing.T) {
	m, _ := newTest(t)
	for _, test := range []struct {
		reply status.Reply
		err   error
		want  string
		isBad bool
	}{
		{err: errors.New("only root and the daemon's user may"), want: "kill: only root and the daemon's user may", isBad: true},
		{reply: status.Reply{Killed: []status.Killed{{ID: 7, Pool: "www"}}}, want: "request 7 of pool www ended"},
		{reply: status.Reply{Killed: []status.Killed{{ID: 7, Error: "no such request"}}}, want: "request 7: no such request", isBad: true},
		{reply: status.Reply{Workers: &status.Roll{Replaced: 2, Of: 3}}, want: "pool www: workers replaced: 2 of 3"},
		{reply: status.Reply{Workers: &status.Roll{Replaced: 2, Of: 3}, Left: []string{"1 is left"}}, want: "not finished: 1 is left", isBad: true},
	} {
		m.Update(repliedMsg{status.Order{Verb: "kill", Pool: "www"}, &test.reply, test.err})
		m.has(t, test.want, test.want)
		if m.isBad != test.isBad {
			t.Errorf("%s: bad is %v", test.want, m.isBad)
		}
	}
}

// While the daemon is away the last page stays, and it is said that it is old.
func TestDaemonGone(t *testing.T) {
	m, source := newTest(t)
	source.err = errors.New("connection refused")
	for range 7 {
		m.see(t)
	}
	m.has(t, "gone", "no answer for 7.0s, trying again: connection refused", "www   serving")
	m.now = m.answered.Add(time.Hour)
	m.has(t, "gone", "no answer for 1h00m")
	source.err = nil
	next := pageAt(5)
	next.PID, next.Started = 72, start.Add(time.Hour)
	source.page = func() *status.Page { return next }
	m.see(t)
	m.has(t, "back", "pid 72", " 0.0 req/s") // no rates of two daemons
	if strings.Contains(m.text(), "no answer") {
		t.Errorf("it is back:\n%s", m.text())
	}
	m.Update(tickMsg(m.answered.Add(10 * time.Second))) // it takes the question, and says nothing
	m.has(t, "silent", "no answer for 10.0s, still waiting")

	m = newModel(t.Context(), Options{Source: &fakeSource{err: errors.New("it does not run")}, Interval: time.Second})
	m.has(t, "first", "asking the daemon")
	m.see(t)
	m.has(t, "never there", "no answer, trying again: it does not run")
	m.keys(t, "enter", "k", "y", "down", "/", "x", "esc")
	if !m.keys(t, "q") {
		t.Error("q does not quit")
	}
}

// There is one question at a time to the daemon, and always a next one.
func TestLooks(t *testing.T) {
	m, source := newTest(t)
	m.opt.Interval = time.Nanosecond
	count := func(cmd tea.Cmd) (looks, ticks int) {
		msgs := []tea.Msg{cmd()}
		if batch, ok := msgs[0].(tea.BatchMsg); ok {
			msgs = nil
			for _, c := range batch {
				msgs = append(msgs, c())
			}
		}
		for _, msg := range msgs {
			switch msg.(type) {
			case pageMsg:
				looks++
			case tickMsg:
				ticks++
			}
		}
		return looks, ticks
	}
	if looks, ticks := count(m.Init()); looks != 1 || ticks != 1 {
		t.Errorf("at first %d looks and %d ticks", looks, ticks)
	}
	_, cmd := m.Update(tickMsg(start))
	if looks, ticks := count(cmd); looks != 0 || ticks != 1 {
		t.Errorf("while it is being asked %d looks and %d ticks", looks, ticks)
	}
	m.Update(pageMsg{source.page(), nil, start})
	_, cmd = m.Update(tickMsg(start))
	if looks, ticks := count(cmd); looks != 1 || ticks != 1 {
		t.Errorf("then %d looks and %d ticks", looks, ticks)
	}
}

func TestKeysAndHelp(t *testing.T) {
	m, _ := newTest(t)
	m.keys(t, "?")
	text := m.text()
	m.has(t, "help", "kills the selected request", ". room for more")
	if strings.Contains(text, "POOL  STATE") {
		t.Errorf("the list is seen through the help:\n%s", text)
	}
	m.keys(t, "d")
	m.has(t, "any key", "POOL  STATE")
	for _, keys := range [][]string{{"q"}, {"ctrl+c"}, {"?", "q"}, {"/", "ctrl+c"}, {"d", "ctrl+c"}} {
		m, _ := newTest(t)
		if !m.keys(t, keys...) {
			t.Errorf("%v does not quit", keys)
		}
	}
}

// A long list is scrolled, with the selected line and the first heading in sight.
func TestScroll(t *testing.T) {
	m, source := newTest(t)
	page := pageAt(300)
	for i := range 100 {
		page.Pools[0].Requests = append(page.Pools[0].Requests, status.Request{ID: uint64(1000 + i), Stage: "queued", Age: float64(-i)})
	}
	source.page = func() *status.Page { return page }
	m.see(t)
	m.keys(t, "enter", "end")
	m.has(t, "the end", " 1099 ")
	m.keys(t, "pgup")
	if got := m.current().request; got != 1085 {
		t.Errorf("a page up: %d", got)
	}
	m.keys(t, "home")
	m.has(t, "the beginning", "PID  STATE", "100  busy")
	m.Update(tea.WindowSizeMsg{Width: 80, Height: 12})
	m.keys(t, "end")
	m.has(t, "on a small screen", " 1099 ")
}

func TestBar(t *testing.T) {
	m, _ := newTest(t)
	for _, test := range []struct {
		busy, idle, starting, stopping, max, width int
		want                                       string
	}{
		{0, 0, 0, 0, 3, 10, "...       "},
		{1, 1, 1, 1, 6, 10, "bisx..    "},
		{2, 0, 0, 3, 2, 10, "bbxxx     "}, // those that leave are more than there may be
		{50, 0, 0, 0, 100, 10, "bbbbb....."},
		{97, 1, 1, 1, 100, 10, "bbbbbbbisx"},
		{1, 0, 0, 0, 1000, 10, "b........."},
		{1, 1, 1, 1, 100, 3, "bis"},
		{5, 0, 0, 0, 5, 0, ""},
	} {
		pool := &status.Pool{Workers: &status.Workers{Max: test.max, States: map[string]int{"busy": test.busy, "idle": test.idle, "starting": test.starting, "stopping": test.stopping}}}
		for _, m.pen = range []pen{plain, colour} {
			got := m.bar(pool, test.width)
			if got.bare != test.want || ansi.Strip(got.text) != test.want {
				t.Errorf("%+v: got %q and %q", test, got.bare, got.text)
			}
		}
	}
}

// Without colours the frame says the same.
func TestPens(t *testing.T) {
	m, _ := newTest(t)
	want := m.text()
	m.Update(tea.ColorProfileMsg{Profile: colorprofile.ASCII})
	if got := m.text(); ansi.Strip(got) != want || regexp.MustCompile(`\x1b\[[0-9;]*3\d`).MatchString(got) {
		t.Errorf("with NO_COLOR: %q", got)
	}
	m.Update(tea.ColorProfileMsg{Profile: colorprofile.TrueColor})
	if got := m.text(); ansi.Strip(got) != want || !strings.Contains(got, "\x1b[34mb\x1b[m\x1b[2m...") {
		t.Errorf("with colours: %q", got)
	}
}

func TestOnce(t *testing.T) {
	seconds := 99
	source := &fakeSource{page: func() *status.Page { seconds++; return pageAt(seconds) }}
	var out bytes.Buffer
	o := Options{Source: source, Interval: time.Nanosecond, Output: &out, Environ: []string{"COLUMNS=200", "TERM=xterm-256color"}}
	if err := Once(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); !strings.Contains(text, "40.0 req/s") || !strings.Contains(text, "IN/S") || strings.Contains(text, "\x1b") || strings.Contains(text, "quits") {
		t.Errorf("got %s", text)
	}
	out.Reset()
	o.Pool = "www"
	if err := Once(t.Context(), o); err != nil || !strings.Contains(out.String(), "/report") {
		t.Errorf("%v: %s", err, &out)
	}
	o.Pool = "nix"
	if err := Once(t.Context(), o); err == nil || err.Error() != `no pool "nix"; there is www, cgi` {
		t.Errorf("of a pool that is not there: %v", err)
	}
	source.err = errors.New("it does not run")
	if err := Once(t.Context(), o); !errors.Is(err, source.err) {
		t.Errorf("without a daemon: %v", err)
	}
	source.err = nil
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	o.Interval = time.Hour
	if err := Once(ctx, o); err == nil || err.Error() != "enough" {
		t.Errorf("cancelled: %v", err)
	}
}

// Who minds colours gets none, whatever they write.
func TestOnceWithoutColours(t *testing.T) {
	for variable, want := range map[string]bool{"NO_COLOR=": true, "X=": true, "NO_COLOR=1": false, "NO_COLOR=0": false, "NO_COLOR=yes": false} {
		var out bytes.Buffer
		o := Options{Source: &fakeSource{page: func() *status.Page { return pageAt(100) }}, Output: &out,
			Environ: []string{"TERM=xterm-256color", "TTY_FORCE=1", variable}}
		if err := Once(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(out.String(), "\x1b[1m"); got != want {
			t.Errorf("%s: colours: %v", variable, got)
		}
	}
}

// What cannot be drawn on is told in words, and what can be done instead.
func TestNoTerminal(t *testing.T) {
	pipe, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer in.Close()
	for want, o := range map[string]Options{
		`TERM is "dumb"`:            {Environ: []string{"TERM=dumb"}},
		`TERM is ""`:                {},
		"the output is no terminal": {Environ: []string{"TERM=xterm"}, Output: io.Discard},
	} {
		o.Input = pipe
		if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--once") {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestWords(t *testing.T) {
	for want, d := range map[string]time.Duration{"0.0s": -time.Second, "9.5s": 9500 * time.Millisecond, "1m05s": 65 * time.Second, "2h03m": 123 * time.Minute, "3d": 73 * time.Hour} {
		if got := span(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
	for want, s := range map[string]float64{"-": 0, "0.5ms": .0005, "12ms": .012, "1.50s": 1.5, "120s": 120} {
		if got := latency(s); got != want {
			t.Errorf("%g: %s, want %s", s, got, want)
		}
	}
	for want, n := range map[string]float64{"0B": 0, "999B": 999, "1.0K": 1024, "15K": 15 << 10, "1.5M": 1.5 * (1 << 20), "3.0G": 3 << 30} {
		if got := size(n); got != want {
			t.Errorf("%g: %s, want %s", n, got, want)
		}
	}
}

// What nobody sees of direct workers is not shown as if it were nothing.
func TestDirectWorkers(t *testing.T) {
	waiting := uint32(3)
	page := pageAt(1)
	page.Pools = []status.Pool{{
		Name: "own", Runner: "worker", State: status.Serving, Listeners: []status.Listener{{Address: "unix:/own", AcceptQueue: &waiting}},
		Workers: &status.Workers{Scale: "static", Direct: true, Max: 4, States: map[string]int{"serving": 2, "starting": 1}, List: []status.Worker{{PID: 71, State: "serving", RSS: 1 << 20}}},
	}}
	m := newModel(t.Context(), Options{Source: &fakeSource{page: func() *status.Page { return page }}, Interval: time.Second})
	m.pen = plain
	m.see(t)
	var row string
	for line := range strings.Lines(m.text()) {
		if strings.Contains(line, "own") {
			row = strings.Join(strings.Fields(line), " ")
		}
	}
	if !strings.Contains(row, "own serving - - - - - - 3 - ") || !strings.Contains(row, "dds.") {
		t.Errorf("the pool is %q in\n%s", row, m.text())
	}
	m.keys(t, "enter")
	m.has(t, "the open pool", "worker, static, direct", "connections: direct: 3 wait in the kernel", "2 serving, 1 starting of 4", "71")
}

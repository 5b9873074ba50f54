package top

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/fcgid/fcgid/internal/status"
)

var workerColumns = []column{
	{title: "PID", isRight: true}, {title: "STATE", max: 24}, {title: "REQS", isRight: true, spare: 2}, {title: "AGE", isRight: true, spare: 1},
	{title: "CPU%", isRight: true}, {title: "RSS", isRight: true}, {title: "REQUEST"},
}

var requestColumns = []column{
	{title: "REQUEST", isRight: true}, {title: "AGE", isRight: true}, {title: "STAGE"}, {title: "PID", isRight: true, spare: 1},
	{title: "METHOD", max: 8}, {title: "URI AND SCRIPT"},
}

// textWidth is the least room for what a request is.
const textWidth = 24

// summary are lines about a pool.
func (m *model) summary(pool *status.Pool) []string {
	runs := pool.Runner
	if pool.Workers != nil {
		runs += ", " + pool.Workers.Scale
	}
	if pool.IsDirect() {
		runs += ", direct"
	}
	var addresses []string
	for _, l := range pool.Listeners {
		addresses = append(addresses, clean(l.Address))
	}
	state := stateOf(pool)
	lines := []string{
		m.pen.paint(strong, clean(pool.Name)) + gap + m.pen.paint(state.look, state.text) + gap + clean(runs) + gap + strings.Join(addresses, ", "),
	}
	lines = append(lines, m.load(pool)...)
	if pool.Workers != nil {
		lines = append(lines, m.workerBar(pool))
		if pool.Workers.Degraded != "" {
			lines = append(lines, m.pen.paint(alarm, "degraded: "+clean(pool.Workers.Degraded)))
		}
	}
	if o := pool.Outdated; o != nil {
		lines = append(lines, fmt.Sprintf("workers still to be replaced: %d (%s)", o.Workers, clean(o.Why)))
	}
	if pool.Overdue > 0 {
		lines = append(lines, m.pen.paint(alarm, fmt.Sprintf("functions that do not return though their requests have ended: %d", pool.Overdue)))
	}
	return lines
}

// load are lines about what a pool does.
func (m *model) load(pool *status.Pool) []string {
	if pool.IsDirect() {
		return []string{fmt.Sprintf("connections: direct: %d wait in the kernel; requests are not seen", pool.Waiting())}
	}
	r := m.rate(pool)
	return []string{
		fmt.Sprintf("%s req/s, %s bad/s  p50 %s, p95 %s, p99 %s  in %s/s, out %s/s",
			rate(r.Requests), rate(r.Failed), latency(r.P50), latency(r.P95), latency(r.P99), size(r.Received), size(r.Sent)),
		fmt.Sprintf("%s running, %s waiting, %s connections",
			outOf(pool.Running, pool.Limits.MaxReqs), outOf(pool.Waiting(), pool.Limits.Queue), outOf(pool.Connections, pool.Limits.MaxConns)),
	}
}

// workerBar is the bar of a pool, and what it says in words.
func (m *model) workerBar(pool *status.Pool) string {
	var words []string
	for _, state := range []string{"busy", "idle", "serving", "starting", "stopping"} {
		if n := pool.Workers.States[state]; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, state))
		}
	}
	text := fmt.Sprintf("%s of %d", cmp.Or(strings.Join(words, ", "), "0"), pool.Workers.Max)
	room := max(barWidth, m.width-len(text)-len(gap))
	return strings.TrimRight(m.bar(pool, min(room, 40)).text, " ") + gap + text
}

// openLines are the workers and the requests of the pool that is open.
func (m *model) openLines(pool *status.Pool) []line {
	var lines []line
	if pool.Workers != nil {
		lines = m.workerLines(pool)
	}
	return append(lines, m.requestLines(pool)...)
}

func (m *model) workerLines(pool *status.Pool) []line {
	used := m.rate(pool).CPU
	var rows [][]cell
	var found []*status.Worker
	for i := range pool.Workers.List {
		w := &pool.Workers.List[i]
		does, cpu := "", "-"
		if len(w.Current) > 0 {
			r := w.Current[0]
			does = clean(strings.TrimSpace(r.Method + " " + cmp.Or(r.URI, r.Script)))
			if more := len(w.Current) - 1; more > 0 {
				does = fmt.Sprintf("(and %d more) %s", more, does)
			}
		}
		if n, ok := used[w.PID]; ok {
			cpu = fmt.Sprintf("%.0f", n*100)
		}
		requests := fmt.Sprint(w.Requests)
		if pool.IsDirect() {
			requests = "-"
		}
		state := cell{text: clean(w.State), look: map[string]look{"busy": busy, "idle": idle, "serving": idle, "starting": starting, "stopping": stopping}[w.State]}
		if w.Leaving != "" {
			state.text += ", " + clean(w.Leaving)
		}
		if m.lets(fmt.Sprint(w.PID), state.text, does) {
			found = append(found, w)
			rows = append(rows, []cell{
				{text: fmt.Sprint(w.PID)}, state, {text: requests}, {text: span(inSeconds(w.Age))},
				{text: cpu}, {text: size(float64(w.RSS))}, {text: does},
			})
		}
	}
	widths := columnWidths(workerColumns, rows, m.width, textWidth)
	lines := []line{m.pen.heading(workerColumns, widths)}
	for i, w := range found {
		l := line{key: fmt.Sprint("worker ", w.PID), pool: pool.Key()}
		if len(w.Current) > 0 {
			l.request = w.Current[0].ID
		}
		l.text, l.bare = m.pen.tableRow(workerColumns, widths, rows[i])
		lines = append(lines, l)
	}
	return append(lines, line{})
}

func (m *model) requestLines(pool *status.Pool) []line {
	open := slices.Clone(pool.Requests)
	slices.SortStableFunc(open, func(a, b status.Request) int { return cmp.Compare(b.Age, a.Age) })
	var rows [][]cell
	var found []uint64
	for _, r := range open {
		pid, method := orDash(fmt.Sprint(r.PID)), orDash(clean(r.Method))
		what := strings.TrimSpace(clean(r.URI) + gap + clean(r.Script))
		if m.lets(fmt.Sprint(r.ID), r.Stage, pid, method, what) {
			found = append(found, r.ID)
			rows = append(rows, []cell{
				{text: fmt.Sprint(r.ID)}, {text: span(inSeconds(r.Age))}, {text: clean(r.Stage)}, {text: pid}, {text: method}, {text: orDash(what)},
			})
		}
	}
	widths := columnWidths(requestColumns, rows, m.width, textWidth)
	lines := []line{m.pen.heading(requestColumns, widths)}
	for i, id := range found {
		l := line{key: fmt.Sprint("request ", id), pool: pool.Key(), request: id}
		l.text, l.bare = m.pen.tableRow(requestColumns, widths, rows[i])
		lines = append(lines, l)
	}
	return lines
}

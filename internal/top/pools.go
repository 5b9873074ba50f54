package top

import (
	"fmt"
	"strings"

	"github.com/fcgid/fcgid/internal/status"
)

// barWidth is the least room for a bar.
const barWidth = 10

var poolColumns = []column{
	{title: "POOL", max: 20}, {title: "STATE"}, {title: "REQ/S", isRight: true}, {title: "BAD/S", isRight: true, spare: 2},
	{title: "P50", isRight: true, spare: 1}, {title: "P95", isRight: true}, {title: "P99", isRight: true},
	{title: "RUN", isRight: true}, {title: "WAIT", isRight: true},
	{title: "CONNS", isRight: true, spare: 3}, {title: "IN/S", isRight: true, spare: 5}, {title: "OUT/S", isRight: true, spare: 4},
	{title: "WORKERS"},
}

// poolLines are the list of pools.
func (m *model) poolLines() []line {
	var rows [][]cell
	var pools []*status.Pool
	for i := range m.page.Pools {
		pool := &m.page.Pools[i]
		if m.lets(pool.Name, pool.Runner, pool.State) {
			pools = append(pools, pool)
			rows = append(rows, m.poolCells(pool))
		}
	}
	widths := columnWidths(poolColumns, rows, m.width, barWidth)
	lines := []line{m.pen.heading(poolColumns, widths)}
	for i, pool := range pools {
		row := rows[i]
		row[len(row)-1] = m.bar(pool, widths[len(widths)-1])
		l := line{key: pool.Key(), pool: pool.Key()}
		l.text, l.bare = m.pen.tableRow(poolColumns, widths, row)
		lines = append(lines, l)
	}
	return lines
}

func (m *model) poolCells(pool *status.Pool) []cell {
	r := m.rate(pool)
	bad, waits := normal, normal
	if r.Failed > 0 {
		bad = alarm
	}
	if pool.Waiting() > 0 {
		waits = alarm
	}
	state := stateOf(pool)
	if pool.IsDirect() {
		none := cell{text: "-"}
		return []cell{
			{text: clean(pool.Name), look: strong}, state, none, none, none, none, none, none,
			{text: fmt.Sprint(pool.Waiting()), look: waits}, none, none, none, {},
		}
	}
	return []cell{
		{text: clean(pool.Name), look: strong}, state, {text: rate(r.Requests)}, {text: rate(r.Failed), look: bad},
		{text: latency(r.P50)}, {text: latency(r.P95)}, {text: latency(r.P99)},
		{text: outOf(pool.Running, pool.Limits.MaxReqs)}, {text: fmt.Sprint(pool.Waiting()), look: waits},
		{text: fmt.Sprint(pool.Connections)}, {text: size(r.Received)}, {text: size(r.Sent)}, {},
	}
}

// stateOf is the state of a pool in a word.
func stateOf(pool *status.Pool) cell {
	switch {
	case pool.Workers != nil && pool.Workers.Degraded != "":
		return cell{text: "degraded", look: alarm}
	case pool.State != status.Serving:
		return cell{text: clean(pool.State), look: alarm}
	}
	return cell{text: pool.State, look: idle}
}

// A part of a bar are those workers that are in one state.
type part struct {
	letter string
	look   look
	n      int
}

// parts are the workers of a pool by state, or the places that its requests have taken,
// and at last the room for more.
func parts(pool *status.Pool) []part {
	if pool.Workers == nil {
		return []part{{"b", busy, pool.Running}, {".", dim, max(0, pool.Limits.MaxReqs-pool.Running)}}
	}
	var all []part
	total := 0
	for _, p := range []part{{"b", busy, pool.Workers.States["busy"]}, {"i", idle, pool.Workers.States["idle"]}, {"d", idle, pool.Workers.States["serving"]},
		{"s", starting, pool.Workers.States["starting"]}, {"x", stopping, pool.Workers.States["stopping"]}} {
		all = append(all, p)
		total += p.n
	}
	return append(all, part{".", dim, max(0, pool.Workers.Max-total)})
}

// bar draws the workers of a pool, a letter for each, or for several where there is no
// room. Whatever there is has one letter at least.
func (m *model) bar(pool *status.Pool, width int) cell {
	all := parts(pool)
	total, others := 0, 0 // others: states that are still to be drawn
	for _, p := range all {
		total += p.n
		if p.n > 0 {
			others++
		}
	}
	left := width
	var text, bare strings.Builder
	for i, p := range all {
		if p.n == 0 {
			continue
		}
		others--
		n := p.n
		if total > width {
			n = max(1, p.n*width/total)
		}
		if i == len(all)-1 { // the room takes what rounding has left
			n = p.n
		}
		n = min(n, max(left-others, min(1, left)))
		left -= n
		letters := strings.Repeat(p.letter, n)
		text.WriteString(m.pen.paint(p.look, letters))
		bare.WriteString(letters)
	}
	space := strings.Repeat(" ", left)
	return cell{text: text.String() + space, bare: bare.String() + space}
}

// lets reports whether one of the texts has the filter in it.
func (m *model) lets(texts ...string) bool {
	wanted := strings.ToLower(m.filter)
	for _, text := range texts {
		if strings.Contains(strings.ToLower(text), wanted) {
			return true
		}
	}
	return false
}

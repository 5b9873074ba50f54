package top

import (
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/fcgid/fcgid/internal/plural"
	"github.com/fcgid/fcgid/internal/status"
)

// View is the whole screen.
func (m *model) View() tea.View {
	v := tea.NewView(strings.Join(m.frame(), "\n"))
	v.AltScreen = true
	return v
}

// frame are the lines of the screen, none wider and no more than it has room for; or, to
// be printed, all that there are.
func (m *model) frame() []string {
	lines := m.head()
	body := m.body()
	if m.isHelp {
		body = helpLines()
	}
	room := max(1, m.height-len(lines)-1)
	if m.isPrinted {
		room = len(body)
	}
	lines = append(lines, m.window(body, room)...)
	if !m.isPrinted {
		for len(lines) < m.height-1 {
			lines = append(lines, "")
		}
		lines = append(lines[:max(0, m.height-1)], m.foot())
	}
	for i := range lines {
		lines[i] = ansi.Truncate(lines[i], m.width, "")
	}
	return lines
}

// body is the list that the user moves in.
func (m *model) body() []line {
	switch {
	case m.page == nil:
		return nil
	case m.pool == "":
		return m.poolLines()
	}
	pool := m.find(m.pool)
	if pool == nil {
		return nil
	}
	return m.openLines(pool)
}

// window are the lines of the list that there is room for, with the selected one.
func (m *model) window(body []line, room int) []string {
	key := ""
	if lines := selectable(body); len(lines) > 0 && !m.isHelp && !m.isPrinted {
		key = lines[m.indexIn(lines)].key
	}
	selected := 0
	for i, l := range body {
		if l.key == key && key != "" {
			selected = i
		}
	}
	switch {
	case selected < m.top+1: // with its heading
		m.top = max(0, selected-1)
	case selected >= m.top+room:
		m.top = selected - room + 1
	}
	m.top = max(0, min(m.top, len(body)-room))
	var lines []string
	for i := m.top; i < len(body) && len(lines) < room; i++ {
		if body[i].key == key && key != "" {
			lines = append(lines, m.pen.paint(chosen, fit(body[i].bare, m.width, false)))
			continue
		}
		lines = append(lines, body[i].text)
	}
	return lines
}

// head are the lines above the list.
func (m *model) head() []string {
	if m.page == nil {
		return []string{m.pen.paint(strong, "fcgid top"), m.missing(), ""}
	}
	p := m.page
	reload := "configuration ok"
	if !p.Reload.OK {
		reload = m.pen.paint(alarm, "last reload REFUSED")
	}
	running, waiting, conns, requests, failed := 0, 0, 0, 0., 0.
	for i := range p.Pools {
		running += p.Pools[i].Running
		waiting += p.Pools[i].Waiting()
		conns += p.Pools[i].Connections
		if i < len(m.rates) {
			requests += m.rates[i].Requests
			failed += m.rates[i].Failed
		}
	}
	lines := []string{
		m.pen.paint(strong, "fcgid "+clean(p.Version)) + fmt.Sprintf("  pid %d  up %s  %s  memory %s of %s",
			p.PID, span(p.Time.Sub(p.Started)), reload, size(float64(p.Memory)), size(float64(p.MemoryLimit))),
		fmt.Sprintf("%d running, %d waiting  %s req/s, %s bad/s  %s", running, waiting, rate(requests), rate(failed), plural.Of(conns, "connection")),
	}
	for _, fault := range faults(p) {
		lines = append(lines, m.pen.paint(alarm, clean(fault)))
	}
	if p.Leaving != 0 {
		lines = append(lines, fmt.Sprintf("pid %d, which it has replaced, still ends its requests: %d", p.Leaving, len(p.LeavingRequests)))
	}
	if m.isLost() {
		lines = append(lines, m.missing())
	}
	lines = append(lines, "")
	if m.pool == "" {
		return lines
	}
	pool := m.find(m.pool)
	if pool == nil {
		return append(lines, m.pen.paint(alarm, "pool "+clean(m.pool)+" is not there any more")+gap+"esc: back")
	}
	return append(append(lines, m.summary(pool)...), "")
}

// maxFaults is how many faults of a refused file are shown: the list below has more to say.
const maxFaults = 3

// faults are those of a refused file, a line each.
func faults(p *status.Page) []string {
	if p.Reload.OK || p.Reload.Error == "" {
		return nil
	}
	all := strings.Split(p.Reload.Error, "\n")
	if more := len(all) - maxFaults; more > 0 {
		return append(all[:maxFaults], fmt.Sprintf("and %d more: fcgid status", more))
	}
	return all
}

// missing says that the daemon does not answer.
func (m *model) missing() string {
	text := "asking the daemon ..."
	switch {
	case m.err != nil && m.page != nil:
		text = fmt.Sprintf("no answer for %s, trying again: %s", span(m.now.Sub(m.answered)), clean(m.err.Error()))
	case m.err != nil:
		text = "no answer, trying again: " + clean(m.err.Error())
	case m.page != nil:
		text = fmt.Sprintf("no answer for %s, still waiting for one", span(m.now.Sub(m.answered)))
	default:
		return text
	}
	return m.pen.paint(chosen, fit(text, m.width, false))
}

// foot is the last line: what is asked, what came of it, or the keys.
func (m *model) foot() string {
	switch {
	case m.question != nil:
		return m.pen.paint(chosen, fit("y or n: "+clean(m.question.text), m.width, false))
	case m.isTyping:
		return "/" + m.filter + m.pen.paint(chosen, " ") + gap + m.pen.paint(dim, "enter: keep, esc: none")
	case m.note != "" && m.isBad:
		return m.pen.paint(alarm, clean(m.note))
	case m.note != "":
		return clean(m.note)
	case m.isHelp:
		return "any key: back"
	}
	keys := "enter opens  d drains  u resumes  r recycles  / filters  ? helps  q quits"
	if m.pool != "" {
		keys = "k kills  d drains  u resumes  r recycles  / filters  esc back  ? helps  q quits"
	}
	if m.filter != "" {
		return "only: " + m.pen.paint(strong, m.filter) + gap + "esc: all" + gap + m.pen.paint(dim, keys)
	}
	return m.pen.paint(dim, keys)
}

// helpLines are the help. It has room on 80 by 24.
func helpLines() (lines []line) {
	for text := range strings.Lines(help) {
		lines = append(lines, line{text: strings.TrimSuffix(text, "\n")})
	}
	return lines
}

const help = `up, down, page, home, end   select a line
enter                       opens a pool: its workers and open requests
esc                         ends the filter, goes back to the pools
k                           kills the selected request, or that of the worker
d                           drains the pool: new requests get 503
u                           resumes it
r                           replaces its workers by new ones
/                           shows only lines that have a text in them
q                           quits. What has been ordered goes on

k, d, u and r ask first. They are orders by the control socket, and logged.

REQ/S requests that ended; BAD/S those that did not end well; P50, P95, P99
      within which time half, 95 and 99 percent were done; by the last second
RUN   requests that run, of so many that may; WAIT those that wait
WORKERS  b busy, i idle, d direct, s starting, x stopping, . room for more
`

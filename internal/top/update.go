package top

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"

	"github.com/fcgid/fcgid/internal/status"
)

// Update is what something that happens makes of the model.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.ColorProfileMsg:
		m.pen = mono
		if msg.Profile >= colorprofile.ANSI {
			m.pen = colour
		}
	case tickMsg:
		m.now = time.Time(msg)
		if m.isLooking {
			return m, m.tick()
		}
		m.isLooking = true
		return m, tea.Batch(m.look(), m.tick())
	case pageMsg:
		m.take(msg)
	case repliedMsg:
		m.tell(msg)
		return m, m.look() // to show what it has changed
	case tea.PasteMsg:
		if m.isTyping {
			m.filter += printable(msg.Content)
		}
	case tea.KeyPressMsg:
		return m, m.press(msg)
	}
	return m, nil
}

// press is what a key does.
func (m *model) press(key tea.KeyPressMsg) tea.Cmd {
	name := key.String()
	switch {
	case name == "ctrl+c":
		return tea.Quit
	case name == "ctrl+z":
		return tea.Suspend
	case m.question != nil:
		return m.decide(name)
	case m.isTyping:
		m.typed(name, key.Text)
		return nil
	case m.isHelp:
		m.isHelp = false
		if name == "q" {
			return tea.Quit
		}
		return nil
	}
	m.note = ""
	switch name {
	case "q":
		return tea.Quit
	case "?", "h", "f1":
		m.isHelp = true
	case "/":
		m.isTyping = true
	case "enter", "right":
		m.open()
	case "esc", "backspace", "left":
		m.leave()
	case "k", "d", "u", "r":
		m.ask(name)
	default:
		m.move(name)
	}
	return nil
}

// decide gives the order that was asked for, or not.
func (m *model) decide(name string) tea.Cmd {
	order := m.question.order
	m.question = nil
	if name != "y" {
		m.note, m.isBad = "nothing was done", false
		return nil
	}
	m.note, m.isBad = order.Verb+" ...", false
	return m.give(order)
}

// typed is a key while the filter is being written.
func (m *model) typed(name, text string) {
	switch name {
	case "enter":
		m.isTyping = false
	case "esc":
		m.isTyping, m.filter = false, ""
	case "backspace":
		_, size := utf8.DecodeLastRuneInString(m.filter)
		m.filter = m.filter[:len(m.filter)-size]
	default:
		m.filter += printable(text)
	}
}

// open opens the pool that is selected.
func (m *model) open() {
	if m.pool != "" {
		return
	}
	if line := m.current(); line != nil {
		m.pool, m.filter, m.selected, m.at, m.top = line.pool, "", "", 0, 0
	}
}

// leave undoes the filter, or else goes back to the list of pools.
func (m *model) leave() {
	switch {
	case m.filter != "":
		m.filter = ""
	case m.pool != "":
		m.selected, m.pool, m.top = m.pool, "", 0
	}
}

// ask asks whether what a key does is meant.
func (m *model) ask(name string) {
	line := m.current()
	pool := m.pool
	if line != nil {
		pool = line.pool
	}
	p := m.find(pool)
	m.isBad = true
	switch {
	case p == nil:
		m.note = "no pool is selected"
	case name == "k" && m.pool == "":
		m.note = "requests are in a pool: enter opens it"
	case name == "k" && (line == nil || line.request == 0):
		m.note = "no request is selected"
	case name == "k":
		m.question = &question{fmt.Sprintf("kill request %d of pool %s, with all that runs for it?", line.request, p.Name),
			status.Order{Verb: status.VerbKill, IDs: []uint64{line.request}}}
	case name == "d":
		m.question = &question{fmt.Sprintf("drain pool %s? New requests get 503 until it is resumed", p.Name),
			status.Order{Verb: status.VerbDrain, Pool: p.Name, Timeout: orderTime}}
	case name == "u":
		m.question = &question{fmt.Sprintf("resume pool %s?", p.Name), status.Order{Verb: status.VerbResume, Pool: p.Name}}
	case name == "r":
		m.question = &question{fmt.Sprintf("replace the workers of pool %s, one after the other?", p.Name),
			status.Order{Verb: status.VerbRecycle, Pool: p.Name, Timeout: orderTime}}
	}
}

// move selects another line.
func (m *model) move(name string) {
	lines := selectable(m.body())
	if len(lines) == 0 {
		return
	}
	at, page := m.indexIn(lines), max(1, m.height-10)
	switch name {
	case "up":
		at--
	case "down", "j":
		at++
	case "pgup":
		at -= page
	case "pgdown", "space":
		at += page
	case "home", "g":
		at = 0
	case "end", "G":
		at = len(lines) - 1
	default:
		return
	}
	at = max(0, min(at, len(lines)-1))
	m.at, m.selected = at, lines[at].key
}

// current is the line that is selected, or nil.
func (m *model) current() *line {
	lines := selectable(m.body())
	if len(lines) == 0 {
		return nil
	}
	return &lines[m.indexIn(lines)]
}

// indexIn finds the selected line; if it has gone, the one that is in its place.
func (m *model) indexIn(lines []line) int {
	for i := range lines {
		if lines[i].key == m.selected {
			m.at = i
			return i
		}
	}
	return max(0, min(m.at, len(lines)-1))
}

// printable is a text without what is not seen.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if status.Printable(string(r)) != string(r) {
			return -1
		}
		return r
	}, text)
}

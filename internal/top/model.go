package top

import (
	"context"
	"fmt"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/fcgid/fcgid/internal/status"
)

// A model is what is known of the daemon, and where in it the user is. It belongs to the
// goroutine of the program.
type model struct {
	ctx context.Context
	opt Options

	page      *status.Page // nil before the first answer
	rates     []status.Rates
	answered  time.Time // when page came
	now       time.Time
	isLooking bool
	err       error // why the last look had no answer

	width, height int
	pen           pen
	isPrinted     bool // and not on a screen: all lines, and no keys

	pool     string // Key of the pool that is open; "" is the list of all
	selected string // key of a line of the list
	at       int    // where it was last
	top      int    // the first line of the list that is seen
	filter   string
	isTyping bool
	isHelp   bool
	question *question
	note     string // what came of the last order
	isBad    bool   // it was refused
}

// A question is asked before an order is given.
type question struct {
	text  string
	order status.Order
}

// What happens beside keys.
type (
	// tickMsg is the time for the next look.
	tickMsg time.Time
	// pageMsg is what came of a look.
	pageMsg struct {
		page *status.Page
		err  error
		at   time.Time
	}
	// repliedMsg is what came of an order.
	repliedMsg struct {
		order status.Order
		reply *status.Reply
		err   error
	}
)

func newModel(ctx context.Context, o Options) *model {
	return &model{ctx: ctx, opt: o, pool: o.Pool, width: defaultWidth, height: defaultHeight, now: time.Now(), pen: mono}
}

// Init begins to look.
func (m *model) Init() tea.Cmd {
	m.isLooking = true
	return tea.Batch(m.look(), m.tick())
}

func (m *model) tick() tea.Cmd {
	return tea.Tick(m.opt.Interval, func(t time.Time) tea.Msg { return tickMsg(t) })
}

// look asks the daemon what it does.
func (m *model) look() tea.Cmd {
	source, parent := m.opt.Source, m.ctx
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(parent, statusTime)
		defer cancel()
		page, err := source.Status(ctx)
		return pageMsg{page, err, time.Now()}
	}
}

// give has an order carried out.
func (m *model) give(o status.Order) tea.Cmd {
	source, ctx := m.opt.Source, m.ctx
	return func() tea.Msg {
		reply, err := source.Do(ctx, o)
		return repliedMsg{o, reply, err}
	}
}

// take notes what came of a look.
func (m *model) take(msg pageMsg) {
	m.isLooking, m.now, m.err = false, msg.at, msg.err
	if msg.err != nil {
		return
	}
	m.rates = msg.page.Rates(m.page)
	m.page, m.answered = msg.page, msg.at
}

// isLost reports whether what is shown is old.
func (m *model) isLost() bool {
	return m.err != nil || m.page != nil && m.now.Sub(m.answered) > max(3*time.Second, 3*m.opt.Interval)
}

// find is the pool of a key, or nil.
func (m *model) find(key string) *status.Pool {
	if m.page == nil {
		return nil
	}
	for i := range m.page.Pools {
		if m.page.Pools[i].Key() == key {
			return &m.page.Pools[i]
		}
	}
	return nil
}

// rate are the rates of a pool of the page.
func (m *model) rate(pool *status.Pool) status.Rates {
	for i := range m.page.Pools {
		if &m.page.Pools[i] == pool && i < len(m.rates) {
			return m.rates[i]
		}
	}
	return status.Rates{}
}

// tell notes what came of an order.
func (m *model) tell(msg repliedMsg) {
	m.note, m.isBad = "", true
	switch {
	case msg.err != nil:
		m.note = fmt.Sprintf("%s: %v", msg.order.Verb, msg.err)
	case len(msg.reply.Killed) > 0 && msg.reply.Killed[0].Error != "":
		m.note = fmt.Sprintf("request %d: %s", msg.reply.Killed[0].ID, msg.reply.Killed[0].Error)
	case len(msg.reply.Left) > 0:
		m.note = fmt.Sprintf("%s of pool %s is not finished: %s", msg.order.Verb, msg.order.Pool, msg.reply.Left[0])
	case len(msg.reply.Killed) > 0:
		m.note, m.isBad = fmt.Sprintf("request %d of pool %s ended", msg.reply.Killed[0].ID, msg.reply.Killed[0].Pool), false
	case msg.reply.Workers != nil:
		m.note, m.isBad = fmt.Sprintf("pool %s: workers replaced: %s", msg.order.Pool, msg.reply.Workers), false
	default:
		m.note, m.isBad = msg.reply.Text, false
	}
}

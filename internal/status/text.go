package status

import (
	"fmt"
	"strings"
	"time"
)

// Text has the names of php-fpm's page where it has the thing, so that what
// reads one can read the other.
func (s *Pool) Text(now time.Time) string {
	var page textPage
	page.line("pool", s.Name)
	page.line("process manager", s.manager())
	page.since(s.Started, now)
	if s.IsDirect() {
		page.line("listen queue", s.acceptQueue())
		page.line("total processes", s.Workers.total())
		page.workers(s, now)
		return page.String()
	}
	page.line("accepted conn", s.ConnectionsTotal)
	page.line("listen queue", s.acceptQueue())
	if w := s.Workers; w != nil {
		page.line("idle processes", w.States["idle"])
		page.line("active processes", w.States["busy"])
		page.line("total processes", w.total())
		page.line("max children reached", w.AtMax)
	} else {
		page.line("active processes", s.Running)
	}
	page.line("connections", s.Connections)
	page.line("requests queued", s.Waiting())
	page.line("max requests", s.Limits.MaxReqs)
	page.workers(s, now)
	for _, r := range s.Requests {
		page.request(r)
	}
	return page.String()
}

// manager is what php-fpm calls pm, or what the pool runs.
func (s *Pool) manager() string {
	if s.Workers != nil {
		return s.Workers.Scale
	}
	return s.Runner
}

// A textPage is a page of names and values.
type textPage struct{ strings.Builder }

func (p *textPage) line(name string, value any) { fmt.Fprintf(p, "%-22s%v\n", name+":", value) }

func (p *textPage) since(started, now time.Time) {
	p.line("start time", started.Format("02/Jan/2006:15:04:05 -0700"))
	p.line("start since", int(now.Sub(started).Seconds()))
}

// part begins what is told of one worker or one request.
func (p *textPage) part() { p.WriteString("\n************************\n") }

func (p *textPage) workers(s *Pool, now time.Time) {
	if s.Workers == nil {
		return
	}
	for _, w := range s.Workers.List {
		p.worker(w, s.IsDirect(), now)
	}
}

// worker tells of a worker, with the requests that it has.
func (p *textPage) worker(w Worker, direct bool, now time.Time) {
	p.part()
	p.line("pid", w.PID)
	p.line("state", w.State)
	p.since(w.Started, now)
	if !direct {
		p.line("requests", w.Requests)
	}
	p.line("cpu seconds", fmt.Sprintf("%.2f", w.CPU))
	p.line("memory", w.RSS)
	if w.Leaving != "" {
		p.line("leaving", w.Leaving)
	}
	if w.Requests > 0 && !w.LastUsed.IsZero() {
		p.line("last request since", int(now.Sub(w.LastUsed).Seconds()))
	}
	for _, r := range w.Current {
		p.asked(Request{Age: r.Age, Method: r.Method, URI: r.URI, Script: r.Script})
	}
}

func (p *textPage) request(r Request) {
	p.part()
	if r.PID != 0 {
		p.line("pid", r.PID)
	}
	p.line("state", r.Stage)
	p.asked(r)
}

// asked tells what a request asks for.
func (p *textPage) asked(r Request) {
	p.line("request duration", time.Duration(r.Age*float64(time.Second)).Microseconds())
	p.line("request method", Printable(r.Method))
	p.line("request URI", Printable(r.URI))
	p.line("script", Printable(r.Script))
}

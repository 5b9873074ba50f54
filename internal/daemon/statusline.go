package daemon

import (
	"cmp"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/fcgid/fcgid/internal/plural"
	"github.com/fcgid/fcgid/internal/pool"
	"github.com/fcgid/fcgid/internal/status"
)

// How often systemd is told what the daemon does, if that has changed: a stop is
// something that people wait for.
const (
	statusEvery   = 5 * time.Second
	stoppingEvery = time.Second
)

// A statusLine is the line that systemctl status shows.
type statusLine struct {
	text     func() string
	tell     func(line string)
	stopping <-chan struct{} // closed when a stop begins
}

// startStatusLine begins, if anybody wants to know, and ends when stop is called.
func (d *daemon) startStatusLine() (stop func()) {
	if !isHeard() {
		return func() {}
	}
	l := &statusLine{text: d.line, stopping: d.ending,
		tell: func(line string) { d.notify("STATUS=" + line) }}
	over := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { l.run(over) })
	return func() {
		close(over)
		running.Wait()
	}
}

func (l *statusLine) run(over <-chan struct{}) {
	ticker := time.NewTicker(statusEvery)
	defer ticker.Stop()
	last, stopping := "", l.stopping
	for {
		if text := l.text(); text != last {
			l.tell(text)
			last = text
		}
		select {
		case <-ticker.C:
		case <-stopping:
			stopping = nil
			ticker.Reset(stoppingEvery)
		case <-over:
			return
		}
	}
}

// line is what the daemon does, in a line.
func (d *daemon) line() string {
	pools := d.pools.Briefs()
	if d.IsStopping() {
		return stoppingLine(pools, d.pools.Oldest)
	}
	d.mu.Lock()
	reload := d.lastReload
	d.mu.Unlock()
	line := servingLine(pools)
	if !reload.OK {
		line += "; the last reload was refused"
	}
	return line
}

// servingLine is what pools do. Numbers of all that served and wait are theirs together,
// and of those in trouble there are the names.
func servingLine(pools []pool.Brief) string {
	var running, waiting, n int
	var served int64
	states := make(map[string][]string)
	for _, p := range pools {
		running, waiting, served = running+p.Running, waiting+p.Waiting, served+p.Served
		if p.State != status.Draining {
			n++
		}
		if p.State != status.Serving {
			states[p.State] = append(states[p.State], p.Name)
		}
		if p.Degraded {
			states["degraded"] = append(states["degraded"], p.Name)
		}
	}
	var line strings.Builder
	fmt.Fprintf(&line, "%s; requests: %d running, %d waiting, %d served", plural.Of(n, "pool"), running, waiting, served)
	for _, state := range []string{"degraded", status.Leaving, status.Paused, status.Drained, status.Draining} {
		if names := states[state]; len(names) > 0 {
			fmt.Fprintf(&line, "; %s: %s", state, strings.Join(names, ", "))
		}
	}
	return line.String()
}

// stoppingLine is what a stop waits for: of each pool how many requests, and the oldest.
func stoppingLine(pools []pool.Brief, oldest func(pool string) (status.Request, int)) string {
	var waits []string
	for _, p := range pools {
		r, open := oldest(p.Name)
		switch {
		case open > 0:
			waits = append(waits, fmt.Sprintf("pool %s: %s, the oldest %s", p.Name, plural.Of(open, "request"), oldestText(&r)))
		case p.Workers > 0:
			waits = append(waits, fmt.Sprintf("pool %s: %s", p.Name, plural.Of(p.Workers, "worker")))
		}
	}
	if len(waits) == 0 {
		return "stopping"
	}
	return "stopping, waits for " + strings.Join(waits, "; ")
}

func oldestText(r *status.Request) string {
	text := fmt.Sprintf("%s for %s", r.Stage, time.Duration(r.Age*float64(time.Second)).Truncate(time.Second))
	if r.PID != 0 {
		text = fmt.Sprintf("pid %d, %s", r.PID, text)
	}
	return fmt.Sprintf("%s (%s)", status.Printable(cmp.Or(r.Script, r.URI, fmt.Sprintf("request %d", r.ID))), text)
}

package status

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Print writes the page for a person: a line for each pool, and with details
// what the pools do at this moment.
func (p *Page) Print(w io.Writer, details bool) error {
	fmt.Fprintf(w, "fcgid %s, pid %d, up %s, configuration %s", p.Version, p.PID, age(time.Since(p.Started)), Printable(p.File))
	p.Reload.print(w)
	if p.Leaving != 0 {
		fmt.Fprintf(w, "pid %d, which it has replaced, still ends its requests: %d\n", p.Leaving, len(p.LeavingRequests))
	}
	fmt.Fprintln(w)
	table(w, []string{"POOL", "RUNS", "STATE", "CONNS", "RUNNING", "QUEUED", "WORKERS", "LISTEN"}, func(row func(...any)) {
		for i := range p.Pools {
			s := &p.Pools[i]
			row(s.Name, s.runs(), s.state(), s.seen(s.Connections), s.seen(outOf(s.Running, s.Limits.MaxReqs)), s.Waiting(), s.workers(), s.listeners())
		}
	})
	if !details {
		return nil
	}
	for i := range p.Pools {
		p.Pools[i].printDetails(w, p.Time)
	}
	return nil
}

// print ends a line that names the file.
func (r Reload) print(w io.Writer) {
	if r.OK {
		fmt.Fprintf(w, " read %s ago: ok\n", age(time.Since(r.Time)))
		return
	}
	fmt.Fprintf(w, "\nthe file of %s ago was refused, the configuration of %s ago stays:\n", age(time.Since(r.Time)), age(time.Since(r.InForce)))
	for line := range strings.SplitSeq(r.Error, "\n") {
		fmt.Fprintln(w, Printable(line))
	}
}

func (s *Pool) printDetails(w io.Writer, now time.Time) {
	if s.IsDirect() {
		fmt.Fprintf(w, "\nconnections: direct: the daemon sees no requests. Connections that wait for a worker (QUEUED): %d\n", s.acceptQueue())
	} else {
		fmt.Fprintf(w, "\nrequests that have ended: %s\n", s.ended())
	}
	if f := s.LastFailure; f != nil {
		fmt.Fprintf(w, "last failure: %s ago (%s), %s: %s\n  request %d: %s %s, %s\n", age(now.Sub(f.Time)), f.Time.Format(time.DateTime),
			f.Outcome, Printable(f.Reason), f.ID, Printable(f.Method), Printable(f.URI), Printable(f.Script))
	}
	if g := s.Cgroup; g != nil {
		fmt.Fprintf(w, "cgroup: %s%s\n", Printable(g.Path), g.usage())
	}
	if o := s.Outdated; o != nil {
		fmt.Fprintf(w, "\nworkers still to be replaced: %d (%s)\n", o.Workers, Printable(o.Why))
	}
	if s.Overdue > 0 {
		fmt.Fprintf(w, "\nfunctions that do not return though their requests have ended: %d\n", s.Overdue)
	}
	if s.Workers != nil {
		if s.Workers.Degraded != "" {
			fmt.Fprintf(w, "\ndegraded: %s\n", Printable(s.Workers.Degraded))
		}
		fmt.Fprintln(w)
		table(w, []string{"PID", "STATE", "REQUESTS", "AGE", "CPU", "RSS", "REQUEST"}, func(row func(...any)) {
			for _, x := range s.Workers.List {
				row(x.PID, x.State, s.seen(x.Requests), age(seconds(x.Age)), seconds(x.CPU).Round(10*time.Millisecond), mebibytes(x.RSS), x.current())
			}
		})
	}
	if len(s.Requests) == 0 {
		return
	}
	fmt.Fprintln(w)
	table(w, []string{"REQUEST", "STAGE", "AGE", "PID", "METHOD", "URI", "SCRIPT"}, func(row func(...any)) {
		for _, r := range s.Requests {
			row(r.ID, r.Stage, age(seconds(r.Age)), orDash(r.PID), orDash(r.Method), orDash(r.URI), orDash(r.Script))
		}
	})
}

// usage is like ": 12.0MiB of 64.0MiB, 3 tasks".
func (g *Cgroup) usage() string {
	var parts []string
	if g.Memory != nil {
		parts = append(parts, mebibytes(*g.Memory))
		if g.MemoryLimit != nil {
			parts[0] += " of " + mebibytes(*g.MemoryLimit)
		}
	}
	if g.Pids != nil {
		parts = append(parts, fmt.Sprint(*g.Pids, " tasks"))
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}

// ended is like "12: 10 ok, 2 timeout".
func (s *Pool) ended() string {
	all, parts := int64(0), []string{}
	for _, outcome := range slices.Sorted(maps.Keys(s.Ended)) {
		n := s.Ended[outcome]
		all += n
		switch part := fmt.Sprintf("%d %s", n, outcome); {
		case outcome == "ok":
			parts = slices.Insert(parts, 0, part)
		case n > 0:
			parts = append(parts, part)
		}
	}
	if all == 0 {
		return "0"
	}
	return fmt.Sprintf("%d: %s", all, strings.Join(parts, ", "))
}

// table writes rows in columns. What stands in a cell is not ours to trust: it
// is shown without control characters.
func table(w io.Writer, head []string, rows func(row func(...any))) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(head, "\t"))
	rows(func(cells ...any) {
		text := make([]string, len(cells))
		for i, c := range cells {
			text[i] = Printable(fmt.Sprint(c))
		}
		fmt.Fprintln(t, strings.Join(text, "\t"))
	})
	t.Flush()
}

func (s *Pool) runs() string {
	runs := s.Runner
	switch {
	case s.IsDirect():
		runs += " (direct)"
	case s.Workers != nil:
		runs += " (" + s.Workers.Scale + ")"
	}
	if s.User != "" {
		runs += " as " + s.User
	}
	return runs
}

// seen is a value, where the daemon sees what it is.
func (s *Pool) seen(value any) any {
	if s.IsDirect() {
		return "-"
	}
	return value
}

func (s *Pool) state() string {
	if s.Workers != nil && s.Workers.Degraded != "" {
		return "degraded"
	}
	return s.State
}

// workers is like "3 busy, 1 idle, 4/8". No more than all places are taken.
func (s *Pool) workers() string {
	if s.Workers == nil {
		return "-"
	}
	var parts []string
	for _, state := range WorkerStates {
		if n := s.Workers.States[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	n := 0 // those that leave take no place, and one more may start while others are replaced
	for _, state := range []string{"starting", "idle", "busy", "serving"} {
		n += s.Workers.States[state]
	}
	return strings.Join(append(parts, outOf(min(n, s.Workers.Max), s.Workers.Max)), ", ")
}

func (s *Pool) listeners() string {
	var addresses []string
	for _, l := range s.Listeners {
		addresses = append(addresses, l.Address)
	}
	return strings.Join(addresses, ", ")
}

func outOf(n, limit int) string {
	if limit == 0 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d/%d", n, limit)
}

func orDash[T comparable](value T) any {
	var none T
	if value == none {
		return "-"
	}
	return value
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// age is a duration as short as it makes sense.
func age(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1fMiB", float64(n)/(1<<20)) }

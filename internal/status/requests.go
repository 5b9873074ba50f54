package status

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// A RequestFilter says which requests are wanted; what is zero is not looked at.
type RequestFilter struct {
	Pool, Stage string
	Older       time.Duration
	URI, Script string // parts
}

// Stages are those of a request, in the order of its life.
var Stages = []string{"params", "body", "queued", "running", "ending"}

// An OpenRequest is a request with its pool.
type OpenRequest struct {
	Pool    string `json:"pool"`
	Leaving int    `json:"leaving_pid,omitempty"` // of the daemon that has it, if that was replaced
	Request
}

// Open are the requests that a filter lets through, the oldest first.
func (p *Page) Open(f RequestFilter) ([]OpenRequest, error) {
	if f.Stage != "" && !slices.Contains(Stages, f.Stage) {
		return nil, fmt.Errorf("no stage %q; there is %s", f.Stage, strings.Join(Stages, ", "))
	}
	all := slices.Clone(p.LeavingRequests)
	for _, pool := range p.Pools {
		for _, r := range pool.Requests {
			all = append(all, OpenRequest{Pool: pool.Name, Request: r})
		}
	}
	found := []OpenRequest{}
	for _, r := range all {
		if (f.Pool == "" || r.Pool == f.Pool) && f.lets(&r.Request) {
			found = append(found, r)
		}
	}
	// A pool that has gone with an upgrade may have some; one that there never was is an error.
	if f.Pool != "" && !slices.ContainsFunc(all, func(r OpenRequest) bool { return r.Pool == f.Pool }) {
		if _, err := p.Named(f.Pool); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(found, func(a, b OpenRequest) int { return cmp.Compare(b.Age, a.Age) })
	return found, nil
}

func (f *RequestFilter) lets(r *Request) bool {
	return (f.Stage == "" || r.Stage == f.Stage) && seconds(r.Age) >= f.Older &&
		strings.Contains(r.URI, f.URI) && strings.Contains(r.Script, f.Script)
}

// PrintRequests writes them for a person.
func PrintRequests(w io.Writer, requests []OpenRequest) error {
	table(w, []string{"REQUEST", "AGE", "STAGE", "PID", "POOL", "METHOD", "URI", "SCRIPT", "ID"}, func(row func(...any)) {
		for _, r := range requests {
			row(r.ID, age(seconds(r.Age)), r.Stage, orDash(r.PID), r.Pool, orDash(r.Method), orDash(r.URI), orDash(r.Script), orDash(r.Name))
		}
	})
	return nil
}

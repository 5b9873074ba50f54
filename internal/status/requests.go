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
	Pool string `json:"pool"`
	Request
}

// Open are the requests that a filter lets through, the oldest first.
func (p *Page) Open(f RequestFilter) ([]OpenRequest, error) {
	if f.Stage != "" && !slices.Contains(Stages, f.Stage) {
		return nil, fmt.Errorf("no stage %q; there is %s", f.Stage, strings.Join(Stages, ", "))
	}
	pools := p.Pools
	if f.Pool != "" {
		var err error
		if pools, err = p.Named(f.Pool); err != nil {
			return nil, err
		}
	}
	found := []OpenRequest{}
	for _, pool := range pools {
		for _, r := range pool.Requests {
			if f.lets(&r) {
				found = append(found, OpenRequest{pool.Name, r})
			}
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

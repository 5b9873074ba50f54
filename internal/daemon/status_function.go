package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/fcgid/fcgid/fcgi"
)

// statusFunction answers with the state of a pool, of its own or of the one that
// the query names, as php-fpm's status page does: text, or JSON for ?json, and
// with ?full each open request too.
func (d *daemon) statusFunction(pool string) fcgi.HandlerFunc {
	return func(_ context.Context, req *fcgi.Request) (uint32, error) {
		query, err := url.ParseQuery(req.Params.Get("QUERY_STRING"))
		if err != nil {
			return 0, &fcgi.StatusError{Status: http.StatusBadRequest, Err: err}
		}
		name := pool
		if query.Has("pool") {
			name = query.Get("pool")
		}
		p := d.running()[name]
		if p == nil {
			return 0, &fcgi.StatusError{Status: http.StatusNotFound, Err: fmt.Errorf("no pool %q", name)}
		}
		status := p.status()
		if !query.Has("full") {
			status.Requests = nil
		}
		if query.Has("json") {
			return 0, writeStatusJSON(req.Stdout, status)
		}
		_, err = io.WriteString(req.Stdout, plainHeader+status.text(p.started, time.Now()))
		return 0, err
	}
}

func writeStatusJSON(w io.Writer, status poolStatus) error {
	page, err := json.MarshalIndent(status, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\r\n%s\n", page)
	return err
}

// text has the names of php-fpm's page where it has the thing, so that what
// reads one can read the other.
func (s poolStatus) text(started, now time.Time) string {
	var listenQueue uint32
	for _, l := range s.Listeners {
		if l.AcceptQueue != nil {
			listenQueue += *l.AcceptQueue
		}
	}
	var page strings.Builder
	line := func(name string, value any) { fmt.Fprintf(&page, "%-22s%v\n", name+":", value) }
	line("pool", s.Name)
	line("process manager", s.Runner)
	line("start time", started.Format("02/Jan/2006:15:04:05 -0700"))
	line("start since", int(now.Sub(started).Seconds()))
	line("accepted conn", s.ConnectionsTotal)
	line("listen queue", listenQueue)
	line("active processes", s.Running)
	line("connections", s.Connections)
	line("requests queued", s.Queued)
	line("max requests", s.Limits.MaxReqs)
	for _, r := range s.Requests {
		page.WriteString("\n************************\n")
		if r.PID != 0 {
			line("pid", r.PID)
		}
		line("state", r.Stage)
		line("request duration", time.Duration(r.Age*float64(time.Second)).Microseconds())
		line("request method", printable(r.Method))
		line("request URI", printable(r.URI))
		line("script", printable(r.Script))
	}
	return page.String()
}

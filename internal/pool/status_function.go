package pool

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/status"
)

// statusFunction answers with the state of a pool, of its own or of the one that
// the query names, as php-fpm's status page does: text, or fcgid's own JSON for
// ?json, and with ?full each worker and each open request too.
func (s *Set) statusFunction(pool string) fcgi.Handler {
	return fcgi.HandlerFunc(func(_ context.Context, req *fcgi.Request) (uint32, error) {
		query, err := url.ParseQuery(req.Params.Get("QUERY_STRING"))
		if err != nil {
			return 0, &fcgi.StatusError{Status: http.StatusBadRequest, Err: err}
		}
		name := pool
		if query.Has("pool") {
			name = query.Get("pool")
		}
		p := s.running()[name]
		if p == nil {
			return 0, &fcgi.StatusError{Status: http.StatusNotFound, Err: fmt.Errorf("no pool %q", name)}
		}
		state := p.status(query.Has("full"))
		if query.Has("json") {
			return 0, writeStatusJSON(req.Stdout, &state)
		}
		_, err = io.WriteString(req.Stdout, plainHeader+state.Text(time.Now()))
		return 0, err
	})
}

func writeStatusJSON(w io.Writer, state *status.Pool) error {
	page, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\r\n%s\n", page)
	return err
}

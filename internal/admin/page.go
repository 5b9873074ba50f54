package admin

import (
	"cmp"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fcgid/fcgid/internal/status"
)

// The status page is one file. It shows what GET /events sends: text as text (no markup
// is ever made of it), so what clients and programs have written stays what it is.
//
//go:embed page.html
var statusPage string

// pagePolicy lets the page run its own script, use its own style and ask its own server,
// and nothing else.
var pagePolicy = sync.OnceValue(func() string {
	return fmt.Sprintf("default-src 'none'; script-src '%s'; style-src '%s'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		hashOf("script"), hashOf("style"))
})

// hashOf is the hash of the content of the page's one element of that name, as a policy
// has it (https://www.w3.org/TR/CSP3/#grammardef-hash-source).
func hashOf(element string) string {
	_, content, _ := strings.Cut(statusPage, "<"+element+">")
	content, _, _ = strings.Cut(content, "</"+element+">")
	sum := sha256.Sum256([]byte(content))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

func showPage(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", pagePolicy())
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache")
	w.Write([]byte(statusPage))
}

const (
	// eventTime is how often a client of /events is told.
	eventTime = time.Second
	// maxEventClients is how many clients /events has at once, since each has the daemon
	// look at itself.
	maxEventClients = 8
	// eventRequests is how many open requests of a pool, and of daemons that were replaced, an
	// event has: the oldest.
	eventRequests = 100
)

// An event is what a client of /events is told: the status, without what only rates are
// made of, and the rates.
type event struct {
	*status.Page

	Rates []status.Rates `json:"rates"` // by pool, since the event before
	More  []int          `json:"more"`  // by pool: open requests that are not there
	// MoreLeaving are those of daemons that were replaced.
	MoreLeaving int `json:"more_leaving,omitempty"`
}

// newEvent makes an event of a page, whose requests it sorts, and of an earlier one.
func newEvent(page, before *status.Page) event {
	shown := *page
	shown.Pools = slices.Clone(page.Pools)
	e := event{Page: &shown, Rates: page.Rates(before), More: make([]int, len(page.Pools))}
	for i := range shown.Pools {
		pool := &shown.Pools[i]
		pool.Latencies = nil
		pool.Requests, e.More[i] = oldest(pool.Requests, func(r *status.Request) float64 { return r.Age })
	}
	shown.LeavingRequests, e.MoreLeaving = oldest(page.LeavingRequests, func(r *status.OpenRequest) float64 { return r.Age })
	return e
}

// oldest sorts requests and returns those that an event has, and how many it has not.
func oldest[R any](all []R, age func(*R) float64) (shown []R, more int) {
	slices.SortStableFunc(all, func(a, b R) int { return cmp.Compare(age(&b), age(&a)) })
	n := min(len(all), eventRequests)
	return all[:n], len(all) - n
}

// events tells a client of the status, at once and then every eventTime, until the client
// leaves or takes nothing, the server ends (closing is done) or its settings change:
// then the client comes again, and is let in or not by the new ones.
func (s *Server) events(closing context.Context, w http.ResponseWriter, r *http.Request) {
	// A page of another site may not take the places, nor learn that we are here.
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		plain(w, http.StatusForbidden, "only for the page of this server")
		return
	}
	select {
	case s.eventClients <- struct{}{}:
		defer func() { <-s.eventClients }()
	default:
		w.Header().Set("Retry-After", "10")
		plain(w, http.StatusServiceUnavailable, fmt.Sprintf("%d clients look already", maxEventClients))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx in between
	h.Set("Connection", "close")
	settings, ticker := s.settings.Load(), time.NewTicker(s.eventTime)
	defer ticker.Stop()
	var before *status.Page
	for s.settings.Load() == settings {
		page := s.page()
		if err := sendEvent(w, newEvent(page, before)); err != nil {
			return
		}
		before = page
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		case <-closing.Done():
			return
		}
	}
}

// sendEvent sends one event, to a client that takes it
// (https://html.spec.whatwg.org/multipage/server-sent-events.html).
func sendEvent(w http.ResponseWriter, e event) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	control := http.NewResponseController(w)
	control.SetWriteDeadline(time.Now().Add(clientTime))
	if _, err := fmt.Fprintf(w, "retry: 1000\ndata: %s\n\n", text); err != nil {
		return err
	}
	return control.Flush()
}

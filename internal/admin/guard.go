package admin

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/fcgid/fcgid/internal/status"
)

// Settings are what the configuration says of the server.
type Settings struct {
	Address string         // "" is off
	Allow   []netip.Prefix // client networks of a TCP address; empty: all
	// Hosts are names that it answers to on TCP, besides localhost and IP addresses. A
	// browser that was told another name for our address (DNS rebinding) sends that.
	Hosts []string
	// FullURIs has the status on TCP show query strings, which may hold secrets.
	FullURIs bool
}

// isTCP reports whether others than users whom a file's mode lets in can connect.
func (s *Settings) isTCP() bool { return strings.HasPrefix(s.Address, "tcp:") }

// answersTo reports whether a Host field names this server. One that is not there names no
// other: it is a health check by HTTP/1.0, and no browser leaves it out.
func (s *Settings) answersTo(host string) bool {
	if host == "" {
		return true
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil || host == "localhost" {
		return true
	}
	return slices.ContainsFunc(s.Hosts, func(h string) bool { return strings.EqualFold(h, host) })
}

// guard lets through what is meant for this server.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if settings := s.settings.Load(); settings.isTCP() && !settings.answersTo(r.Host) {
			plain(w, http.StatusMisdirectedRequest, "not a name of this server: see admin.hosts")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// page is what the status shows.
func (s *Server) page() *status.Page {
	page := s.opt.Daemon.Status()
	if settings := s.settings.Load(); !settings.isTCP() || settings.FullURIs {
		return page
	}
	for i := range page.LeavingRequests {
		hideQuery(&page.LeavingRequests[i].URI)
	}
	for i := range page.Pools {
		pool := &page.Pools[i]
		if pool.LastFailure != nil {
			failure := *pool.LastFailure // which others have too
			hideQuery(&failure.URI)
			pool.LastFailure = &failure
		}
		for i := range pool.Requests {
			hideQuery(&pool.Requests[i].URI)
		}
		if pool.Workers == nil {
			continue
		}
		for _, worker := range pool.Workers.List {
			for i := range worker.Current {
				hideQuery(&worker.Current[i].URI)
			}
		}
	}
	return page
}

func hideQuery(uri *string) { *uri, _, _ = strings.Cut(*uri, "?") }

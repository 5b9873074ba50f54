package admin

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// ready answers with 200 if requests should be sent to the daemon, and else with 503 and the
// reason. With ?pool=NAME that is asked of a pool, and with &room=N whether N requests more
// would run there at once.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	pool, room, err := readinessAsked(r.URL.RawQuery)
	if err != nil {
		plain(w, http.StatusBadRequest, err.Error())
		return
	}
	reason, err := s.opt.Daemon.Ready(pool, room)
	switch {
	case err != nil:
		plain(w, http.StatusNotFound, err.Error())
	case reason != "":
		plain(w, http.StatusServiceUnavailable, reason)
	default:
		plain(w, http.StatusOK, "ready")
	}
}

// readinessAsked reads a query. What is not understood is an error: to ignore it would
// answer another question.
func readinessAsked(query string) (pool string, room int, err error) {
	asked, err := url.ParseQuery(query)
	if err != nil {
		return "", 0, fmt.Errorf("the query cannot be read: %v", err)
	}
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		switch values := asked[name]; {
		case name != "pool" && name != "room":
			return "", 0, fmt.Errorf("%q is unknown: there are pool=NAME and room=N", name)
		case len(values) != 1 || values[0] == "":
			return "", 0, fmt.Errorf("%s must be given once, with a value", name)
		}
	}
	if pool = asked.Get("pool"); !asked.Has("room") {
		return pool, 0, nil
	}
	number, err := strconv.ParseUint(asked.Get("room"), 10, 31)
	switch {
	case pool == "":
		return "", 0, fmt.Errorf("room is that of a pool: pool=NAME is missing")
	case err != nil || number == 0:
		return "", 0, fmt.Errorf("room must be a number of requests, 1 or more")
	}
	return pool, int(number), nil
}

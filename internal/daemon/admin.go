package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/server"
)

// adminServer is the HTTP server for metrics, status and health.
type adminServer struct {
	daemon  *daemon
	address string // "" is off
	srv     *http.Server
	done    chan struct{} // closed when srv has ended
}

func newAdminServer(d *daemon) *adminServer { return &adminServer{daemon: d} }

// adminChange is a new address that has been opened and is not yet served.
type adminChange struct {
	server  *adminServer
	address string
	l       net.Listener // nil: none is wanted
	none    bool         // nothing changes
}

// listen opens address, unless it is the one that is served.
func (a *adminServer) listen(ctx context.Context, address string) (adminChange, error) {
	if address == a.address {
		return adminChange{none: true}, nil
	}
	change := adminChange{server: a, address: address}
	if address == "" {
		return change, nil
	}
	l, err := listen.Open(ctx, listen.Options{Address: address, Mode: 0o660})
	if err != nil {
		return change, err
	}
	change.l = l
	return change, nil
}

func (c adminChange) undo() {
	if c.l != nil {
		c.l.Close()
	}
}

func (c adminChange) commit() {
	if c.none {
		return
	}
	a := c.server
	a.close()
	a.address = c.address
	if c.l == nil {
		return
	}
	a.srv = &http.Server{
		Handler:           a.daemon.adminHandler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          zap.NewStdLog(a.daemon.logs.Logger),
	}
	done := make(chan struct{})
	a.done = done
	srv := a.srv
	go func() {
		defer close(done)
		if err := srv.Serve(c.l); !errors.Is(err, http.ErrServerClosed) {
			a.daemon.broken(err)
		}
	}()
	a.daemon.logs.Info("listening", zap.String("admin", c.address))
}

// close ends the server that runs, if one does.
func (a *adminServer) close() {
	if a.srv == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if a.srv.Shutdown(ctx) != nil {
		a.srv.Close()
	}
	<-a.done
	a.srv = nil
}

func (d *daemon) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.metrics.registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.HandleFunc("GET /status", d.serveStatus)
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "healthy") })
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		d.mu.Lock()
		stopping := d.stopping
		d.mu.Unlock()
		if stopping {
			plain(w, http.StatusServiceUnavailable, "stopping")
			return
		}
		plain(w, http.StatusOK, "ready")
	})
	return mux
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	w.Write([]byte(text + "\n"))
}

// The JSON of /status.
type (
	statusPage struct {
		Version string       `json:"version"`
		PID     int          `json:"pid"`
		Started time.Time    `json:"started"`
		File    string       `json:"config_file"`
		Reload  reloadStatus `json:"last_reload"`
		Pools   []poolStatus `json:"pools"`
	}
	poolStatus struct {
		Name             string          `json:"name"`
		Runner           string          `json:"runner"`
		State            string          `json:"state"` // serving or draining
		Listeners        []listenStatus  `json:"listeners"`
		Limits           limitStatus     `json:"limits"`
		Connections      int             `json:"connections"`
		ConnectionsTotal int64           `json:"connections_total"`
		Workers          *workersStatus  `json:"workers,omitempty"`
		Running          int             `json:"requests_running"`
		Queued           int             `json:"requests_queued"`
		Requests         []requestStatus `json:"requests,omitzero"`
	}
	listenStatus struct {
		Address     string  `json:"address"`
		AcceptQueue *uint32 `json:"accept_queue,omitempty"`
	}
	limitStatus struct {
		MaxConns  int  `json:"max_conns"`
		MaxReqs   int  `json:"max_reqs"`
		Multiplex bool `json:"multiplex"`
		Queue     int  `json:"queue"`
	}
	requestStatus struct {
		ID     uint64  `json:"id"`
		Stage  string  `json:"stage"` // params, body, queued, running or ending
		Age    float64 `json:"age_seconds"`
		PID    int     `json:"pid,omitempty"`
		Script string  `json:"script,omitempty"`
		Method string  `json:"method,omitempty"`
		URI    string  `json:"uri,omitempty"`
		Remote string  `json:"remote,omitempty"`
	}
)

func (d *daemon) serveStatus(w http.ResponseWriter, _ *http.Request) {
	d.mu.Lock()
	page := statusPage{
		Version: version, PID: os.Getpid(), Started: d.started, File: d.file, Reload: d.lastReload,
		Pools: []poolStatus{},
	}
	draining := append([]*pool(nil), d.draining...)
	d.mu.Unlock()
	seen := make(map[*pool]bool)
	for _, p := range append(d.list(), draining...) {
		if !seen[p] {
			seen[p] = true
			page.Pools = append(page.Pools, p.status())
		}
	}
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.Encode(page)
}

func (p *pool) status() poolStatus {
	s := p.server.Snapshot()
	status := poolStatus{
		Name: p.name, State: "serving", Listeners: []listenStatus{},
		Limits:      limitStatus{s.Limits.MaxConns, s.Limits.MaxReqs, s.Limits.Multiplex, s.Limits.Queue},
		Connections: s.Connections, ConnectionsTotal: s.ConnectionsTotal,
		Running: s.InFlight, Queued: s.Queued, Requests: []requestStatus{},
	}
	waiting := p.acceptQueues()
	p.mu.Lock()
	status.Runner = runnerKind(&p.cfg)
	workers := p.workers
	if p.draining {
		status.State = "draining"
	}
	for _, l := range p.cfg.Listen {
		ls := listenStatus{Address: l.Address}
		if n, ok := waiting[l.Address]; ok {
			ls.AcceptQueue = &n
		}
		status.Listeners = append(status.Listeners, ls)
	}
	p.mu.Unlock()
	if workers != nil {
		status.Workers = workers.status()
	}
	for _, r := range p.server.Requests() {
		status.Requests = append(status.Requests, describeRequest(r))
	}
	return status
}

func describeRequest(r server.RequestInfo) requestStatus {
	s := requestStatus{ID: r.Serial, Stage: r.Stage, Age: r.Age.Seconds(), PID: r.PID, Remote: r.Remote}
	if r.Params != nil {
		s.Script = r.Params.Get("SCRIPT_FILENAME")
		s.Method = r.Params.Get("REQUEST_METHOD")
		s.URI = r.Params.Get("REQUEST_URI")
	}
	return s
}

package pool

import (
	"context"
	"os"
	"strconv"
	"time"

	"github.com/fcgid/fcgid/internal/access"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/phpfpm"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/worker"
	"github.com/fcgid/fcgid/internal/server"
)

// A page is what the daemon itself answers with: a server.Runner.
type page func(query string) ([]byte, error)

// Run answers.
func (p page) Run(_ context.Context, req *protocol.Request) (uint32, error) {
	answer, err := p(req.Params.Get("QUERY_STRING"))
	if err == nil {
		_, err = req.Stdout.Write(answer)
	}
	return 0, err
}

// ownPages has the pool's requests for status_path and ping_path answered here. Nil: the
// pool has neither. The path is SCRIPT_NAME, as for php-fpm, and never REQUEST_URI or
// PATH_INFO: of those clients say what they like where all goes to one script.
func (p *pool) ownPages(cfg *config.Pool) func(*protocol.Params) server.Runner {
	if cfg.StatusPath == "" && cfg.PingPath == "" {
		return nil
	}
	statusPath, pingPath, pong := cfg.StatusPath, cfg.PingPath, phpfpm.Ping(cfg.PingResponse)
	status := page(func(query string) ([]byte, error) {
		q := phpfpm.ParseQuery(query)
		return q.Answer(p.phpfpm(q.Full))
	})
	ping := page(func(string) ([]byte, error) { return pong, nil })
	return func(params *protocol.Params) server.Runner {
		switch params.Get("SCRIPT_NAME") {
		case "":
		case statusPath:
			return status
		case pingPath:
			return ping
		}
		return nil
	}
}

// phpfpm is what is told of the pool in php-fpm's words.
func (p *pool) phpfpm(full bool) *phpfpm.Page {
	now, s := time.Now(), p.server.Snapshot()
	page := &phpfpm.Page{
		Pool: p.name, StartTime: phpfpm.Time{Time: p.started}, StartSince: int64(now.Sub(p.started).Seconds()),
		AcceptedConn: s.Tally.Admitted, ListenQueue: s.Queued, MaxListenQueue: s.Tally.MostQueued, ListenQueueLen: s.Limits.Queue,
		SlowRequests: p.slowed.Load(),
	}
	for _, n := range p.acceptQueues() {
		page.ListenQueue += int(n)
	}
	p.mu.Lock()
	page.ProcessManager = p.cfg.Runner()
	workers := p.workers
	p.mu.Unlock()
	if workers != nil {
		workers.phpfpm(page, full, now)
	} else {
		p.programs(page, &s, full, now)
	}
	for { // the most that any page has seen
		most := p.queued.Load()
		page.MaxListenQueue = max(page.MaxListenQueue, page.ListenQueue, int(most))
		if p.queued.CompareAndSwap(most, int64(page.MaxListenQueue)) {
			return page
		}
	}
}

// programs fills in what is told of a pool that starts a program for each request, or calls
// a function: there is one for each request that runs, and none that is idle.
func (p *pool) programs(page *phpfpm.Page, s *server.Snapshot, full bool, now time.Time) {
	page.ActiveProcesses, page.TotalProcesses = s.InFlight, s.InFlight
	page.MaxActiveProcesses, page.MaxChildrenReached = s.Tally.MostRunning, s.Tally.AtMax
	if !full {
		return
	}
	page.Processes = []phpfpm.Process{}
	for _, r := range p.server.Requests() {
		if r.Stage != "running" || r.IsOwn || r.Params == nil {
			continue
		}
		x := phpfpm.Process{
			PID: r.PID, State: phpfpm.Running, StartTime: phpfpm.Time{Time: now.Add(-r.Run)}, StartSince: int64(r.Run.Seconds()),
			Requests: 1, RequestDuration: r.Run.Microseconds(),
		}
		if x.PID == 0 { // a function
			x.PID = os.Getpid()
		}
		x.RequestMethod, x.RequestURI = phpfpm.Text(r.Params.Get("REQUEST_METHOD")), phpfpm.Text(r.Params.Get("REQUEST_URI"))
		x.Script, x.ContentLength = phpfpm.Text(r.Params.Get("SCRIPT_FILENAME")), contentLength(r.Params.Get("CONTENT_LENGTH"))
		x.User = remoteUser(r.Params.Get("REMOTE_USER"), r.Params.Get("HTTP_AUTHORIZATION"))
		page.Processes = append(page.Processes, x)
	}
}

// phpfpm fills in what is told of workers.
func (w *workerPool) phpfpm(page *phpfpm.Page, full bool, now time.Time) {
	var s worker.Snapshot
	if full {
		s = w.Snapshot()
		page.Processes = []phpfpm.Process{}
	} else {
		s.Numbers = w.Numbers()
	}
	page.ProcessManager = s.Scale
	page.IdleProcesses, page.ActiveProcesses = s.Idle, s.Busy
	page.TotalProcesses = s.Total()
	page.MaxActiveProcesses, page.MaxChildrenReached = s.MostBusy, int64(s.AtMax)
	page.ListenQueue += s.Waiting
	page.MaxListenQueue = max(page.MaxListenQueue, s.MostWaiting)
	for _, x := range s.Workers {
		page.Processes = append(page.Processes, describeProcess(&x, now))
	}
}

// describeProcess tells of a worker, and of the first request that it has.
func describeProcess(x *worker.Info, now time.Time) phpfpm.Process {
	p := phpfpm.Process{
		PID: x.PID, State: phpfpm.Idle, StartTime: phpfpm.Time{Time: x.Started}, StartSince: int64(now.Sub(x.Started).Seconds()),
		Requests: x.Requests, LastRequestMemory: x.RSS,
	}
	switch {
	case len(x.Current) > 0:
		r := x.Current[0]
		p.State, p.LastRequestMemory = phpfpm.Running, 0
		p.RequestDuration = now.Sub(r.Since).Microseconds()
		p.RequestMethod, p.RequestURI, p.Script = phpfpm.Text(r.Method), phpfpm.Text(r.URI), phpfpm.Text(r.Script)
		p.User, p.ContentLength = remoteUser(r.User, r.Authorization), contentLength(r.Length)
	case x.State == "stopping":
		p.State, p.LastRequestMemory = phpfpm.Ending, 0
	}
	return p
}

// remoteUser is who the web server or the client says.
func remoteUser(user, authorization string) phpfpm.Text {
	if user == "" {
		user = access.BasicUser(authorization)
	}
	return phpfpm.Text(user)
}

// contentLength is what CONTENT_LENGTH says; 0 where that is no number.
func contentLength(text string) int64 {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0
	}
	return int64(n)
}

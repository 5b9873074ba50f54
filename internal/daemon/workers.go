package daemon

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/runner/worker"
)

// A workerPool is the workers of a pool while they are supervised, until stop.
type workerPool struct {
	*worker.Pool
	end        context.CancelFunc
	supervised sync.WaitGroup
}

// startWorkers starts the workers of a pool.
func (d *daemon) startWorkers(cfg *config.Pool) *workerPool {
	ctx, end := context.WithCancel(context.Background())
	w := &workerPool{Pool: worker.New(d.workerOptions(cfg)), end: end}
	log := d.logs.With(zap.String("pool", cfg.Name))
	w.supervised.Go(func() {
		if err := w.Supervise(ctx); err != nil {
			log.Error("workers are not supervised", zap.Error(err))
		}
	})
	return w
}

// stop ends the workers, each after its requests, and returns when they have ended.
func (w *workerPool) stop() {
	w.end()
	w.supervised.Wait()
}

func (d *daemon) workerOptions(cfg *config.Pool) worker.Options {
	c := cfg.Worker
	return worker.Options{
		Command: c.Command, Dir: c.Dir, Env: cfg.Env, PassEnv: cfg.PassEnv, WarmUp: c.WarmUp,
		Software: "fcgid/" + version,
		Scale:    c.Scale, Max: c.Max, Min: c.Min, MinSpare: c.MinSpare, MaxSpare: c.MaxSpare,
		Concurrency: c.Concurrency, SpawnRate: c.SpawnRate, Dispatch: c.Dispatch,
		IdleTimeout: c.IdleTimeout, MaxLifetime: c.MaxLifetime,
		MaxRequests: c.MaxRequests, MaxMemory: c.MaxMemory,
		StartTimeout: c.StartTimeout, StopSignal: c.StopSignal, StopGrace: c.StopGrace,
		Stderr:  c.Stderr,
		RunDir:  runtimeFolder(),
		Log:     d.logs.ofPool(cfg.Name),
		Hooks:   d.metrics.workerHooks(cfg.Name),
		Spawner: &d.programs,
	}
}

// runtimeFolder is where the folders of workers are made: the first of those that
// systemd names, see systemd.exec(5); "" is os.TempDir.
func runtimeFolder() string {
	first, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":")
	return first
}

// checkRuntimeFolder tells whether a folder can be made there, if cfg has a pool
// of workers.
func checkRuntimeFolder(cfg *config.Config) error {
	for _, p := range cfg.Pools {
		if p.Worker == nil {
			continue
		}
		folder, err := os.MkdirTemp(runtimeFolder(), "fcgid-workers-")
		if err == nil {
			err = os.Remove(folder)
		}
		if err != nil {
			return fmt.Errorf("pool %s: folder for the workers' sockets ($RUNTIME_DIRECTORY or $TMPDIR): %w", p.Name, err)
		}
		return nil
	}
	return nil
}

// workerStates are the states of a worker, in the order of its life.
var workerStates = []string{"starting", "idle", "busy", "stopping"}

func workerCounts(s *worker.Snapshot) map[string]int {
	return map[string]int{"starting": s.Starting, "idle": s.Idle, "busy": s.Busy, "stopping": s.Stopping}
}

// total is how many workers there are, in all states.
func (s *workersStatus) total() (n int) {
	for _, in := range s.States {
		n += in
	}
	return n
}

// status is what /status tells of the workers.
func (w *workerPool) status() *workersStatus {
	s, now := w.Snapshot(), time.Now()
	status := &workersStatus{
		Scale: s.Scale, Max: s.Max, States: workerCounts(&s), Waiting: s.Waiting, Starts: s.Starts, Exits: s.Exits,
		AtMax: s.AtMax, AtMaxSeconds: s.AtMaxTime.Seconds(), List: []workerStatus{},
	}
	if s.Degraded {
		status.Degraded = s.Why
	}
	for _, x := range s.Workers {
		ws := workerStatus{
			PID: x.PID, State: x.State, Leaving: x.Leaving, Requests: x.Requests, LastUsed: x.LastUsed,
			Started: x.Started, Age: now.Sub(x.Started).Seconds(), CPU: x.CPU.Seconds(), RSS: x.RSS,
		}
		for _, r := range x.Current {
			ws.Current = append(ws.Current, currentRequest{r.Serial, r.Method, r.URI, r.Script, now.Sub(r.Since).Seconds()})
		}
		status.List = append(status.List, ws)
	}
	return status
}

// The JSON of a pool's workers.
type (
	workersStatus struct {
		Scale        string            `json:"scale"`
		Max          int               `json:"max"`
		States       map[string]int    `json:"states"`
		Waiting      int               `json:"requests_waiting"` // for a worker
		Degraded     string            `json:"degraded,omitempty"`
		Starts       uint64            `json:"starts_total"`
		Exits        map[string]uint64 `json:"exits_total"` // by reason
		AtMax        uint64            `json:"at_max_total"`
		AtMaxSeconds float64           `json:"at_max_seconds_total"`
		List         []workerStatus    `json:"list,omitzero"`
	}
	workerStatus struct {
		PID      int              `json:"pid"`
		State    string           `json:"state"` // starting, idle, busy or stopping
		Leaving  string           `json:"leaving,omitempty"`
		Requests int              `json:"requests"`
		Age      float64          `json:"age_seconds"`
		CPU      float64          `json:"cpu_seconds"`
		RSS      int64            `json:"rss_bytes"`
		Current  []currentRequest `json:"current,omitempty"`

		Started, LastUsed time.Time `json:"-"`
	}
	currentRequest struct {
		ID     uint64  `json:"id"`
		Method string  `json:"method,omitempty"`
		URI    string  `json:"uri,omitempty"`
		Script string  `json:"script,omitempty"`
		Age    float64 `json:"age_seconds"`
	}
)

// current are the requests that the worker has, for a person: the first, and how
// many more.
func (w workerStatus) current() string {
	if len(w.Current) == 0 {
		return ""
	}
	first := w.Current[0].Method + " " + w.Current[0].URI
	if more := len(w.Current) - 1; more > 0 {
		return fmt.Sprintf("%s and %d more", first, more)
	}
	return first
}

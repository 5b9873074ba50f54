package status

// Rates are what a pool has done between two pages, by the second.
type Rates struct {
	Requests float64 `json:"requests"`       // that have ended
	Failed   float64 `json:"failed"`         // of these: whose outcome was not ok
	Received float64 `json:"received_bytes"` // from web servers
	Sent     float64 `json:"sent_bytes"`
	// Within these times half, 95 and 99 percent of the requests were done; 0 if none ended.
	P50 float64 `json:"p50_seconds"`
	P95 float64 `json:"p95_seconds"`
	P99 float64 `json:"p99_seconds"`
	// CPU is how many processors each worker has kept busy, by pid.
	CPU map[int]float64 `json:"cpu,omitempty"`
}

// outcomeOK is the outcome of a request that had a whole answer.
const outcomeOK = "ok"

// Rates are those of the pools, in their order, since an earlier page. Of a daemon that
// is another one there are none, nor of a pool that was not there.
func (p *Page) Rates(before *Page) []Rates {
	rates := make([]Rates, len(p.Pools))
	if before == nil || before.PID != p.PID || !before.Started.Equal(p.Started) {
		return rates
	}
	took := p.Time.Sub(before.Time).Seconds()
	if took <= 0 {
		return rates
	}
	earlier := make(map[string]*Pool)
	for i := range before.Pools {
		earlier[before.Pools[i].Key()] = &before.Pools[i]
	}
	for i := range p.Pools {
		if from := earlier[p.Pools[i].Key()]; from != nil {
			rates[i] = p.Pools[i].rates(from, took)
		}
	}
	return rates
}

// Key tells pools of one name apart, of which one drains. What has been counted for that
// name is shown at the other.
func (s *Pool) Key() string {
	if s.State == Draining {
		return Draining + " " + s.Name
	}
	return s.Name
}

func (s *Pool) rates(before *Pool, took float64) Rates {
	r := Rates{
		Received: float64(max(0, s.ReceivedTotal-before.ReceivedTotal)) / took,
		Sent:     float64(max(0, s.SentTotal-before.SentTotal)) / took,
		CPU:      s.cpuSince(before, took),
	}
	for outcome, n := range s.Ended {
		grown := float64(max(0, n-before.Ended[outcome])) / took
		r.Requests += grown
		if outcome != outcomeOK {
			r.Failed += grown
		}
	}
	latencies := s.Latencies.Since(before.Latencies)
	r.P50, r.P95, r.P99 = latencies.Quantile(.5), latencies.Quantile(.95), latencies.Quantile(.99)
	return r
}

func (s *Pool) cpuSince(before *Pool, took float64) map[int]float64 {
	if s.Workers == nil || before.Workers == nil {
		return nil
	}
	used := make(map[int]float64)
	for _, w := range before.Workers.List {
		used[w.PID] = w.CPU
	}
	grown := make(map[int]float64)
	for _, w := range s.Workers.List {
		grown[w.PID] = max(0, w.CPU-used[w.PID]) / took
	}
	return grown
}

// Waiting is how many requests wait for their turn, or for a worker; for direct workers, how
// many connections do.
func (s *Pool) Waiting() int {
	switch {
	case s.Workers == nil:
		return s.Queued
	case s.Workers.Direct:
		return s.acceptQueue()
	}
	return s.Queued + s.Workers.Waiting
}

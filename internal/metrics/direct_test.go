package metrics

import "testing"

// A pool whose workers accept connections themselves has no numbers of what nobody sees.
func TestDirectNumbers(t *testing.T) {
	m := made(Numbers{
		Pool: "a", Connections: 1, Serving: true, MaxConns: 7, AcceptQueues: map[string]uint32{"unix:/s": 3},
		Workers: &WorkerNumbers{States: map[string]int{"serving": 2}, Direct: true, Max: 2, AtMax: 1},
	})
	for name, want := range map[string]float64{
		"fcgid_accept_queue": 3, "fcgid_workers": 2, "fcgid_workers_max": 2, "fcgid_workers_degraded": 0, "fcgid_workers_resident_bytes": 0,
		"fcgid_connections": -1, "fcgid_connections_total": -1, "fcgid_requests_in_flight": -1, "fcgid_requests_queued": -1, "fcgid_limit": -1,
		"fcgid_pool_serving": -1, "fcgid_spool_bytes": -1, "fcgid_worker_requests_waiting": -1, "fcgid_workers_at_max_total": -1,
	} {
		if got := value(t, m, name, "a"); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}

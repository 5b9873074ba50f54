package config

import (
	"runtime"
	"testing"
)

// The key that bounds a pool of workers is worker.max, unless limits.max_reqs is set.
func TestPlacesKey(t *testing.T) {
	for runs, want := range map[string]string{
		"worker: {command: [/x], max: 7}}\n":                        "worker.max",
		"worker: {command: [/x], max: 7}, limits: {max_reqs: 7}}\n": "limits.max_reqs",
		"process: {root: [/srv]}}\n":                                "limits.max_reqs",
	} {
		if got := mustLoad(t, "pools:\n- {name: a, listen: unix:/a, "+runs).Pools[0].PlacesKey(); got != want {
			t.Errorf("%s: %s, want %s", runs, got, want)
		}
	}
}

// What pools may hold is known from their limits.
func TestDescriptors(t *testing.T) {
	const limits = ", limits: {max_conns: 100, queue: 10, max_reqs: 5}}\n"
	base := ofDaemon + 1 + 100 + 10
	for runs, want := range map[string]int{
		"process: {root: [/srv]}" + limits:               base + 5*ofProcess,
		"worker: {command: [/x], max: 7}" + limits:       base + 7*(ofWorker+1),
		"function: {}" + limits:                          base + 5,
		"process: {root: [/srv]}, limits: {queue: 0}}\n": ofDaemon + 1 + 1024 + 4*runtime.GOMAXPROCS(0)*ofProcess,
		"function: {}, limits: {queue: 0}}\n":            ofDaemon + 1 + 1024 + 1024,
	} {
		one := "- {name: a, listen: unix:/a, " + runs
		if got := mustLoad(t, "pools:\n"+one).Descriptors(); got != want {
			t.Errorf("%s: %d, want %d", one, got, want)
		}
		if got := mustLoad(t, "pools:\n"+one+"- {name: b, listen: unix:/b, "+runs).Descriptors(); got != 2*want-ofDaemon {
			t.Errorf("twice: %d, want %d", got, 2*want-ofDaemon)
		}
	}
}

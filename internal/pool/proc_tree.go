package pool

import (
	"cmp"
	"slices"

	"github.com/prometheus/procfs"
)

// A processInfo is what the slow log tells of a process (proc(5)).
type processInfo struct {
	PID     int    `json:"pid"`
	Parent  int    `json:"ppid"`
	Command string `json:"command"`
	State   string `json:"state"`           // R, S, D, T, Z, …
	Wchan   string `json:"wchan,omitempty"` // where in the kernel it sleeps; needs the right to see it
	RSS     int    `json:"rss_bytes"`
}

// processTree are the process pid, what it and its children have started, and
// the rest of its process group. It is empty when none is there any more.
func processTree(pid int) []processInfo {
	all, err := procfs.AllProcs()
	if err != nil {
		return nil
	}
	stats := make(map[int]procfs.ProcStat, len(all))
	for _, p := range all {
		if stat, err := p.Stat(); err == nil {
			stats[p.PID] = stat
		}
	}
	var tree []processInfo
	for _, p := range all {
		stat, ok := stats[p.PID]
		if !ok || stat.PGRP != pid && !descends(stats, p.PID, pid) {
			continue
		}
		wchan, _ := p.Wchan()
		tree = append(tree, processInfo{
			PID: p.PID, Parent: stat.PPID, Command: stat.Comm, State: stat.State, Wchan: wchan, RSS: stat.ResidentMemory(),
		})
	}
	slices.SortFunc(tree, func(a, b processInfo) int { return cmp.Compare(a.PID, b.PID) })
	return tree
}

// descends reports whether pid is ancestor or comes of it.
func descends(stats map[int]procfs.ProcStat, pid, ancestor int) bool {
	for range len(stats) { // pids that are used again could make a circle
		if pid == ancestor {
			return true
		}
		stat, ok := stats[pid]
		if !ok {
			return false
		}
		pid = stat.PPID
	}
	return false
}

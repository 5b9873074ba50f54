//go:build race

package runnertest

// Race tells whether the race detector is at work, which allocates too.
const Race = true

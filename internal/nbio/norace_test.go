//go:build !race

package nbio_test

const raceEnabled = false

//go:build race

package fcgi_test

const raceEnabled = true

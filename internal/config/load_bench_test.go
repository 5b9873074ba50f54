package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// manyPools is a file with n pools, of all kinds.
func manyPools(tb testing.TB, n int) string {
	tb.Helper()
	dir := tb.TempDir()
	kinds := []string{"process: {root: [DIR]}", "worker: {command: [/bin/cat], scale: ondemand, max: 4, root: [DIR]}", "function: {}"}
	text := "pools:\n"
	for i := range n {
		text += fmt.Sprintf("- {name: site%d, listen: 'unix:DIR/site%[1]d.sock', timeout: 45s, %s}\n", i, kinds[i%len(kinds)])
	}
	file := filepath.Join(dir, "fcgid.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
		tb.Fatal(err)
	}
	return file
}

// What a file takes to load grows with the number of its pools, and no faster.
func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{1, 300, 1200} {
		b.Run(fmt.Sprint(n, " pools"), func(b *testing.B) {
			file := manyPools(b, n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := LoadAndCheck(file, nil, []string{"hello"}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/pool")
		})
	}
}

// Nor with the number of pools that have a user and a group each, which may reach one another's
// sockets.
func BenchmarkLoadOfUsers(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("only root's daemon starts programs as others")
	}
	for _, n := range []int{1, 300} {
		b.Run(fmt.Sprint(n, " pools"), func(b *testing.B) {
			text := "user: nobody\npools:\n"
			for i := range n {
				text += fmt.Sprintf("- {name: site%d, listen: {address: 'unix:/run/site%[1]d.sock', group: www-data}, user: '%d', group: '%[2]d', timeout: 45s, process: {root: [/]}}\n", i, 20_000+i)
			}
			file := filepath.Join(b.TempDir(), "fcgid.yaml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := LoadAndCheck(file, nil, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/pool")
		})
	}
}

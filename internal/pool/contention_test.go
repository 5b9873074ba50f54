package pool

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/fcgid/fcgid/internal/logs"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// BenchmarkContention asks pools as a daemon has them, and tells for how long threads have
// waited for locks, in all and by who held them, for each request: docs/performance.md.
func BenchmarkContention(b *testing.B) {
	function := "{name: %s, listen: unix:%%D/%[1]s, function: {names: [one]}}"
	for _, test := range []struct {
		name    string
		pools   []string
		conns   int // of each
		scripts []string
		logs    bool
	}{
		{name: "function", pools: []string{function}, conns: 64, scripts: []string{"/one"}},
		{name: "function with access log", pools: []string{function}, conns: 64, scripts: []string{"/one"}, logs: true},
		{name: "8 functions", pools: slices.Repeat([]string{function}, 8), conns: 8, scripts: slices.Repeat([]string{"/one"}, 8)},
		{name: "worker", pools: []string{workers(16)}, conns: 32, scripts: []string{"/page"}},
		{name: "CGI", pools: []string{"{name: %s, listen: unix:%%D/%[1]s, process: {root: [%%D]}}"}, conns: 32, scripts: []string{"%D/hello"}},
		{name: "one of each", pools: []string{function, workers(16), "{name: %s, listen: unix:%%D/%[1]s, process: {root: [%%D]}}"}, conns: 16, scripts: []string{"/one", "/page", "%D/hello"}},
	} {
		b.Run(test.name, func(b *testing.B) {
			s := newTestSet(b)
			if slices.Contains(test.scripts, "%D/hello") {
				s.compileHello(b)
			}
			if test.logs {
				commit, _, err := s.opt.Logs.Prepare(logs.Options{Level: "info", Format: "json", Access: logs.AccessOptions{Output: filepath.Join(s.dir, "access")}})
				if err != nil {
					b.Fatal(err)
				}
				commit()
			}
			var pools []string
			for i, text := range test.pools {
				pools = append(pools, fmt.Sprintf(text, fmt.Sprint("p", i)))
			}
			s.configure(pools...)
			s.contend(b, test.conns, test.scripts)
		})
	}
}

// workers is the text of a pool of so many.
func workers(n int) string {
	text := strings.Replace(workerText("%s", "%[1]s", "hello"), "max: 1", fmt.Sprint("max: ", n), 1)
	return strings.ReplaceAll(text, "%D", "%%D")
}

func (s *testSet) compileHello(b *testing.B) {
	runnertest.Compile(b, filepath.Join(s.dir, "hello"), `#include <unistd.h>
int main(void) { static const char s[] = "Content-Type: text/plain\r\n\r\nhello\n"; return write(1, s, sizeof s - 1) < 0; }`)
}

// contend asks each pool on so many connections at once, for b.N requests in all.
func (s *testSet) contend(b *testing.B, conns int, scripts []string) {
	type asking struct {
		client *wiretest.Client
		wire   []byte
	}
	var all []asking
	for i, script := range scripts {
		params := append([]string{"SCRIPT_FILENAME", s.expand(script)}, wiretest.TypicalParams[2:]...)
		wire := wiretest.Get(1, true, params...)
		for range conns {
			c := wiretest.Dial(b, &net.UnixAddr{Net: "unix", Name: filepath.Join(s.dir, fmt.Sprint("p", i))})
			c.GetMany(b, wire, 1)
			all = append(all, asking{c, wire})
		}
	}
	defer runtime.SetMutexProfileFraction(runtime.SetMutexProfileFraction(1))
	before := contended()
	b.ResetTimer()
	var wait sync.WaitGroup
	for i, a := range all {
		wait.Go(func() {
			for n := i; n < b.N; n += len(all) {
				a.client.GetMany(b, a.wire, 1)
			}
		})
	}
	wait.Wait()
	b.StopTimer()
	var sum float64
	waited := contended()
	for who, ns := range before {
		waited[who] -= ns
	}
	delete(waited, "")
	for _, ns := range waited {
		sum += ns
	}
	b.ReportMetric(sum/float64(b.N), "contended-ns/op")
	if b.N < 1000 {
		return
	}
	for _, who := range slices.SortedFunc(maps.Keys(waited), func(x, y string) int { return cmp.Compare(waited[y], waited[x]) }) {
		if each := waited[who] / float64(b.N); each >= 1 {
			b.Logf("%8.0f ns/request %s", each, who)
		}
	}
}

var cyclesPerSecond = regexp.MustCompile(`cycles/second=(\d+)`)

// contended are the nanoseconds that goroutines have waited for locks so far, by the
// function of this module that held them; "" are those of the client, "runtime" are Go's own.
func contended() map[string]float64 {
	var text bytes.Buffer
	pprof.Lookup("mutex").WriteTo(&text, 1)
	rate, _ := strconv.ParseFloat(cyclesPerSecond.FindStringSubmatch(text.String())[1], 64)
	records := make([]runtime.BlockProfileRecord, 10_000)
	n, _ := runtime.MutexProfile(records)
	all := make(map[string]float64)
	for _, r := range records[:n] {
		all[holder(r.Stack())] += float64(r.Cycles) / rate * 1e9
	}
	return all
}

// holder is the function of this module that is nearest to the lock.
func holder(stack []uintptr) string {
	const module = "github.com/fcgid/fcgid/"
	frames := runtime.CallersFrames(stack)
	isLock := false // and not one of Go's own, on behalf of who allocates or starts a goroutine
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		isLock = isLock || strings.HasPrefix(f.Function, "sync.") || strings.HasPrefix(f.Function, "internal/sync.")
		switch name, isOurs := strings.CutPrefix(f.Function, module); {
		case strings.Contains(name, "wiretest"), isOurs && strings.HasSuffix(f.File, "_test.go"):
			return ""
		case isOurs && isLock:
			return strings.TrimPrefix(name, "internal/")
		}
	}
	return "runtime"
}

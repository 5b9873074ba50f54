package worker

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// The numbers are those of the snapshot, and nothing is read for them: only a
// snapshot looks at each worker's process, once.
func TestNumbersReadNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := fakeWorkers(t, Options{Scale: ScaleStatic, Max: 100, SpawnRate: 1000}, launchFakes)
		defer stop()
		synctest.Wait()
		time.Sleep(time.Second)
		measured := 0
		p.measure = func(int) (time.Duration, int64) {
			measured++
			return time.Second, 4096
		}
		n := p.Numbers()
		if measured != 0 || n.Idle != 100 || n.Starts != 100 || n.Max != 100 {
			t.Errorf("%d processes were measured for %+v", measured, n)
		}
		s := p.Snapshot()
		if fmt.Sprint(s.Numbers) != fmt.Sprint(n) {
			t.Errorf("the snapshot has %+v, the numbers are %+v", s.Numbers, n)
		}
		if measured != 100 || len(s.Workers) != 100 || s.Workers[7].CPU != time.Second || s.Workers[7].RSS != 4096 {
			t.Errorf("%d of %d workers were measured", measured, len(s.Workers))
		}
	})
}

// All CPU time is counted, each part once, however often it is looked at.
func TestMeasure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var used atomic.Int64
		hooks := Hooks{Used: func(cpu time.Duration) { used.Add(int64(cpu)) }}
		p, stop := fakeWorkers(t, Options{Scale: ScaleStatic, Max: 3, SpawnRate: 1000, Hooks: hooks}, launchFakes)
		defer stop()
		synctest.Wait()
		time.Sleep(time.Second)
		for _, cpu := range []time.Duration{2 * time.Second, 2 * time.Second, time.Second, 5 * time.Second} {
			p.measure = func(int) (time.Duration, int64) { return cpu, 4096 }
			if rss := p.Measure(); rss != 3*4096 {
				t.Errorf("%d bytes", rss)
			}
			if want := max(cpu, 2*time.Second); used.Load() != int64(3*want) {
				t.Errorf("%v were used, want 3 times %v", time.Duration(used.Load()), want)
			}
		}
		var last exit // of one of them
		last.Usage.Utime.Sec, last.Usage.Stime.Sec = 5, 1
		p.mu.Lock()
		p.countLocked(p.all[0], last.cpu())
		p.unlock()
		if got := time.Duration(used.Load()); got != 16*time.Second {
			t.Errorf("%v were used when one has ended, want 16s", got)
		}
	})
}

package worker

import (
	"fmt"
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

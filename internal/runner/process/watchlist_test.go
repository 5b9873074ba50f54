package process

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Each program is watched when its time has come, not before, whichever others are over by then.
func TestWatchlist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l watchlist
		var all [6]run
		left := func() (unwatched []int) {
			synctest.Wait()
			l.mu.Lock()
			defer l.mu.Unlock()
			for i := range all {
				if all[i].watching.isListed {
					unwatched = append(unwatched, i)
				}
			}
			return unwatched
		}
		for i := range all {
			all[i].watched.Do(func() {}) // there is no program
			l.add(&all[i])
			time.Sleep(time.Millisecond)
		}
		for _, i := range []int{0, 2, 5} { // the first, one between, the last
			if !l.remove(&all[i]) || l.remove(&all[i]) {
				t.Errorf("program %d was not in the list, or twice", i)
			}
		}
		time.Sleep(watchAfter - 6*time.Millisecond - time.Nanosecond) // just before the first one's time
		for ms, want := range [][]int{{1, 3, 4}, {1, 3, 4}, {3, 4}, {3, 4}, {4}, {}} {
			if got := left(); !slices.Equal(got, want) {
				t.Errorf("after %d ms more %d are unwatched, want %d", ms, got, want)
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		l.add(&all[0]) // when the timer has found none
		time.Sleep(watchAfter)
		if got := left(); len(got) > 0 || l.first != nil || l.last != nil {
			t.Errorf("%d are unwatched, which came later", got)
		}
	})
}

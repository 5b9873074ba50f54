package later

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Each is done when its time has come, not before, whichever others are over by then.
func TestList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const after = 10 * time.Millisecond
		did := make(chan int, 10)
		var all []int
		done := func() []int {
			synctest.Wait()
			for len(did) > 0 {
				all = append(all, <-did)
			}
			return all
		}
		l := List[int]{After: after, Do: func(i int) { did <- i }}
		var places [6]Place[int]
		for i := range places {
			l.Add(&places[i], i, time.Now())
			time.Sleep(time.Millisecond)
		}
		for _, i := range []int{0, 2, 5} { // the first, one between, the last
			if !l.Remove(&places[i]) || l.Remove(&places[i]) {
				t.Errorf("%d was not in the list, or twice", i)
			}
		}
		time.Sleep(after - 6*time.Millisecond - time.Nanosecond) // just before the first one's time
		for ms, want := range [][]int{{}, {}, {1}, {1}, {1, 3}, {1, 3, 4}} {
			if got := done(); !slices.Equal(got, want) {
				t.Errorf("after %d ms more %d are done, want %d", ms, got, want)
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		l.Add(&places[0], 0, time.Now()) // when the timer has found none
		l.Add(&places[1], 1, time.Now().Add(-time.Hour))
		time.Sleep(after)
		if got, want := done(), []int{1, 3, 4, 0, 1}; !slices.Equal(got, want) || l.first != nil || l.last != nil || l.Remove(&places[0]) {
			t.Errorf("%d are done, want %d", got, want)
		}
	})
}

package daemon

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A fakeHeap is one that a test fills, and of which it says when it was collected.
type fakeHeap struct {
	allocated, live, percent, rests, forgotten atomic.Int64
	collected                                  atomic.Pointer[chan struct{}]
}

const fakeRoots = 1 << 20

func newFakeHeap() *fakeHeap {
	f := new(fakeHeap)
	f.live.Store(1 << 20)
	f.percent.Store(goPercent)
	return f
}

func (f *fakeHeap) pacer() *pacer {
	return &pacer{
		percent: goPercent,
		read: func() heap {
			return heap{time.Now(), uint64(f.allocated.Load()), uint64(f.live.Load()), fakeRoots}
		},
		set: func(percent int) int { return int(f.percent.Swap(int64(percent))) },
		next: func() <-chan struct{} {
			c := make(chan struct{})
			f.collected.Store(&c)
			return c
		},
		free:   func() { f.rests.Add(1) },
		forget: func() { f.forgotten.Add(1) },
	}
}

// goal is how large the heap is when it is collected next.
func (f *fakeHeap) goal() int64 {
	percent, live := f.percent.Load(), f.live.Load()
	return max(goLeastHeap*percent/100, live+(live+fakeRoots)*percent/100)
}

// load has so many bytes a second be allocated for a while.
func (f *fakeHeap) load(perSecond int64, seconds float64) (collections int) {
	for end := time.Now().Add(time.Duration(seconds * float64(time.Second))); time.Now().Before(end); collections++ {
		room := f.goal() - f.live.Load()
		time.Sleep(time.Duration(float64(room) / float64(perSecond) * float64(time.Second)))
		f.allocated.Add(room)
		close(*f.collected.Load())
		synctest.Wait()
	}
	return collections
}

// While much is allocated there is room for it, else there is little, and what nobody needs
// is given back.
func TestPacer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeHeap()
		p := f.pacer()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); p.run(ctx) }()
		synctest.Wait()
		if n := f.rests.Load(); n != 1 {
			t.Errorf("what the start has left is given back %d times", n)
		}

		if f.load(4<<20, 4); f.goal() > 5<<19 {
			t.Errorf("with 4 MiB/s the heap grows to %d", f.goal())
		}
		f.load(30<<20, 4)
		if n := f.load(30<<20, 4); n < 12 || n > 22 || f.goal() > 11<<20 {
			t.Errorf("with 30 MiB/s %d collections in four seconds, and a heap of %d", n, f.goal())
		}
		if f.load(400<<20, 1); f.goal() < 20<<20 || f.goal() > 22<<20 {
			t.Errorf("with 400 MiB/s the heap grows to %d", f.goal())
		}
		f.live.Store(90 << 20)
		if f.load(400<<20, 2); f.percent.Load() != goPercent {
			t.Errorf("a heap with 90 MiB has %d %%", f.percent.Load())
		}
		f.live.Store(1 << 20)
		f.load(400<<20, 1)

		rests := f.rests.Load()
		time.Sleep(restAfter - time.Millisecond)
		synctest.Wait()
		if f.rests.Load() != rests {
			t.Error("it rests too soon")
		}
		if f.forgotten.Load() < rests+10 {
			t.Errorf("the program's pages were forgotten %d times", f.forgotten.Load())
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if rests, percent := f.rests.Load()-rests, f.percent.Load(); rests != 1 || percent != goPercent/2 {
			t.Errorf("after an hour of nothing it has rested %d times, and has %d %%", rests, percent)
		}
		if f.load(400<<20, 1); f.goal() < 16<<20 {
			t.Errorf("with 400 MiB/s after an hour of nothing the heap grows to %d", f.goal())
		}
		cancel()
		<-ended
	})
}

// Who sets the percentage himself keeps it.
func TestPacerYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeHeap()
		p := f.pacer()
		ended := make(chan struct{})
		go func() { defer close(ended); p.run(t.Context()) }()
		synctest.Wait()
		f.percent.Store(70)
		f.load(400<<20, 0.001)
		<-ended
		if percent := f.percent.Load(); percent != 70 {
			t.Errorf("70 %% became %d", percent)
		}
	})
	t.Setenv("GOGC", "50")
	if newPacer() != nil {
		t.Error("GOGC is not heeded")
	}
}

// The real ones are what is said of them.
func TestHeapOfThisProcess(t *testing.T) {
	before := readHeap()
	collected := afterCollection()
	runtime.GC()
	<-collected
	if after := readHeap(); after.allocated <= before.allocated || after.live == 0 || after.roots == 0 || !after.at.After(before.at) {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

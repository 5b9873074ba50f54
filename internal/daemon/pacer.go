package daemon

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	// collectEvery is how long garbage may come before it is collected, unless that is too
	// much. A collection takes a millisecond or two of CPU time, and empties pools of buffers.
	collectEvery = 250 * time.Millisecond
	// mostGarbage is how much of it may come where the heap holds less than that.
	mostGarbage = 20 << 20
	// restAfter is how long there has to be no collection until free memory is given back.
	restAfter = 5 * time.Second

	// goPercent is GOGC where nobody has set it, and goLeastHeap how large a heap grows with
	// it in any case. That is in proportion to GOGC (heapMinimum in package runtime).
	goPercent   = 100
	goLeastHeap = 4 << 20
	// startPercent is for the daemon's start, which is to end without a collection.
	startPercent = 4 * goPercent
)

// A pacer sets how much garbage there may be before it is collected. Go has it be as much as
// the heap holds, which is next to nothing: functions would have dozens of collections a
// second, for a tenth of their CPU time. With room for them a daemon that passes on a few
// hundred pages a second would be full of garbage. So it goes by how much comes in
// collectEvery.
type pacer struct {
	read   func() heap
	set    func(percent int) (before int)
	next   func() <-chan struct{} // closed after the next collection
	free   func()                 // collects, and gives free memory back to the kernel
	forget func()                 // has the program's own pages be mapped anew

	percent int  // what was set
	last    heap // when there was a collection
}

// A heap is what the runtime tells of its memory.
type heap struct {
	at        time.Time
	allocated uint64 // in all
	live      uint64 // what the last collection has left
	roots     uint64 // stacks and globals, of which GOGC is a percentage as well
}

// newPacer returns a pacer that leaves the garbage of the daemon's start alone; or nil if
// somebody else has set when it is collected.
func newPacer() *pacer {
	p := &pacer{
		read: readHeap, set: debug.SetGCPercent, next: afterCollection, free: debug.FreeOSMemory, forget: programPages().forget,
		percent: goPercent,
	}
	if os.Getenv("GOGC") != "" || !p.change(startPercent) {
		return nil
	}
	return p
}

// start has the pacer follow what the daemon does, until stop is called. First it gives back
// what the daemon's start has left.
func (p *pacer) start() (stop func()) {
	if p == nil {
		programPages().forget()
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { p.run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// run ends when ctx does, or when somebody else has set when garbage is collected.
func (p *pacer) run(ctx context.Context) {
	ours := p.rest()
	idle := time.NewTimer(restAfter) // some of the start comes late
	defer idle.Stop()
	for ours {
		collected := p.next()
		select {
		case <-ctx.Done():
			return
		case <-collected:
			ours = p.follow()
			idle.Reset(restAfter)
		case <-idle.C: // which is not set again: who has nothing to do has no timer
			ours = p.rest()
		}
	}
}

// follow is for after a collection.
func (p *pacer) follow() (ours bool) {
	now := p.read()
	elapsed := now.at.Sub(p.last.at)
	room := float64(now.allocated-p.last.allocated) / float64(max(1, elapsed)) * float64(collectEvery)
	if room > mostGarbage/2 {
		room = mostGarbage // there may have been a pause, and to find the right one takes collections
	}
	p.last = now
	ours = p.change(now.percentFor(int(room)))
	if elapsed > collectEvery/2 { // else what is mapped anew costs more than it takes
		p.forget()
	}
	return ours
}

// rest is for when there is little to do.
func (p *pacer) rest() (ours bool) {
	p.last = p.read()
	ours = p.change(p.last.percentFor(0))
	p.free()
	p.forget()
	return ours
}

// change sets the percentage. That stops all goroutines for a moment, and is not done for
// little. If the one that is set is not the pacer's, that remains.
func (p *pacer) change(percent int) (ours bool) {
	if percent > p.percent*4/5 && percent < p.percent*5/4 {
		return true
	}
	if before := p.set(percent); before != p.percent {
		p.set(before)
		return false
	}
	p.percent = percent
	return true
}

// percentFor is the GOGC with which there is room for so much garbage; and for as much as
// there is of all else, where that is more than next to nothing.
func (h *heap) percentFor(room int) int {
	all := int(h.live + h.roots)
	least := goPercent
	if all < goLeastHeap {
		least = goPercent / 2
	}
	return max(least, min(goPercent*room/max(1, all), goPercent*(int(h.live)+room)/goLeastHeap))
}

// readHeap reads what the runtime tells now.
func readHeap() heap {
	s := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"},
	}
	metrics.Read(s)
	return heap{time.Now(), s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64() + s[3].Value.Uint64()}
}

// afterCollection returns a channel that is closed after the next collection.
func afterCollection() <-chan struct{} {
	collected := make(chan struct{})
	runtime.AddCleanup(new([64]byte), func(c chan struct{}) { close(c) }, collected)
	return collected
}

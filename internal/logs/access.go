package logs

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/cpu"

	"github.com/fcgid/fcgid/internal/access"
)

const (
	// accessDelay is how long a line may stand in memory before it is written.
	accessDelay = 100 * time.Millisecond
	// accessFull is how much of lines is written without that delay.
	accessFull = 64 << 10
	// accessRoom is how much waits while the log takes nothing; more is dropped.
	accessRoom = 4 << 20
)

// An AccessOptions says what of requests is logged, and how.
type AccessOptions struct {
	Output   string // stderr, stdout or a file; "" is off
	Format   access.Format
	Suppress []string // paths of which a request that went well is not logged
}

// An accessLog takes lines and writes them a moment later, many at once, from a goroutine
// of its own. Who has a line to log waits for no disk and no reader: while what it writes
// to takes nothing, lines wait, and are dropped when there is no room. Nor does it wait for
// others who have one: a lock that all requests of all pools take would let a million of them
// through in a second, on however many CPUs.
type accessLog struct {
	complain func(level slog.Level, message string, fields ...any)
	write    func(*os.File, []byte, time.Duration) (int, error) // writeLines, but for tests

	options atomic.Pointer[AccessOptions] // nil while it is off
	lost    atomic.Int64                  // lines, since the start

	_       cpu.CacheLinePad
	newest  atomic.Pointer[accessLine] // of those that are in no batch yet; nil: none
	waiting atomic.Int64               // bytes of them and of pending
	works   atomic.Bool                // run looks for them before it ends
	_       cpu.CacheLinePad

	mu      sync.Mutex // guards the fields below
	output  string
	file    *os.File    // nil: lines are dropped
	pending []byte      // whole lines, which nobody writes yet
	spare   []byte      // what pending was before, empty; nil while it is written
	timer   *time.Timer // starts run; nil until the first line
	running bool        // run has been started, or is about to be
	old     []*os.File  // that run closes, since it may write to one
	drops   int         // lines, since the log took some
	idle    sync.Cond   // of mu: running has become false

	isStuck  bool // the last write took nothing in logPatience
	isBroken bool // the last write failed

	// Owned by run.
	cutIn os.FileInfo // the file whose last line is not whole; nil: it is, or there is none
	cut   int         // bytes of the first of pending that it has; 0: the rest of its last line is lost
}

// An accessLine is a line, or several, that somebody has added.
type accessLine struct {
	text   []byte
	before *accessLine // that was added before it
}

var accessLines = sync.Pool{New: func() any { return &accessLine{text: make([]byte, 0, 1<<10)} }}

func newAccessLog(complain func(slog.Level, string, ...any)) *accessLog {
	l := &accessLog{complain: complain, write: writeLines}
	l.idle.L = &l.mu
	return l
}

// set has lines go to f, which open has opened for o.Output, from now on.
func (l *accessLog) set(o *AccessOptions, f *os.File) {
	l.setFile(o.Output, f)
	if f == nil {
		o = nil
	}
	l.options.Store(o)
}

func (l *accessLog) setFile(output string, f *os.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.file
	l.output, l.file = output, f
	if l.running {
		l.old = append(l.old, old)
	} else {
		closeFile(old)
	}
}

func (l *accessLog) reopen() (output string, err error) {
	l.mu.Lock()
	output = l.output
	l.mu.Unlock()
	f, err := open(output)
	if err == nil {
		l.setFile(output, f)
	}
	return output, err
}

// push takes lines, or drops them. a is not the caller's any more.
func (l *accessLog) push(a *accessLine) {
	size := int64(len(a.text))
	waiting := l.waiting.Add(size)
	if waiting > accessRoom {
		l.waiting.Add(-size)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.file != nil {
			l.dropLocked(a.text)
		}
		accessLines.Put(a)
		return
	}
	var before *accessLine
	for isIn := false; !isIn; isIn = l.newest.CompareAndSwap(before, a) {
		before = l.newest.Load()
		a.before = before
	}
	switch { // a is run's now
	case l.works.Load():
	case before == nil:
		l.start(accessDelay)
	case waiting >= accessFull && waiting-size < accessFull:
		l.start(0)
	}
}

// start has run come in time.
func (l *accessLog) start(after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.startLocked(after)
}

func (l *accessLog) startLocked(after time.Duration) {
	switch {
	case l.timer == nil:
		l.timer = time.AfterFunc(after, l.run)
	case !l.running:
		l.timer.Reset(after)
	case after == 0 && l.timer.Stop():
		l.timer.Reset(0)
	}
	l.running = true
}

// gatherLocked makes what was added a part of the next batch, in its order.
func (l *accessLog) gatherLocked() {
	var first *accessLine
	for a := l.newest.Swap(nil); a != nil; {
		before := a.before
		a.before, first, a = first, a, before
	}
	for a := first; a != nil; {
		next := a.before
		l.pending = append(l.pending, a.text...)
		a.before = nil
		accessLines.Put(a)
		a = next
	}
}

func (l *accessLog) dropLocked(lines []byte) {
	n := bytes.Count(lines, []byte{'\n'})
	l.drops += n
	l.lost.Add(int64(n))
}

// hasWorkLocked gathers what was added, and reports whether there is something to write.
func (l *accessLog) hasWorkLocked() bool {
	l.works.Store(true)
	if l.gatherLocked(); len(l.pending) == 0 {
		l.works.Store(false)
		l.gatherLocked() // of who has still seen it true
	}
	return len(l.pending) > 0
}

// run writes what waits until nothing does.
func (l *accessLog) run() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.hasWorkLocked() {
		lines := l.pending
		l.pending, l.spare = l.spare, nil
		l.waiting.Add(-int64(len(lines)))
		left := l.deliver(lines)
		switch {
		case len(left) > 0:
			l.pending = append(left, l.pending...) // in their order
			l.waiting.Add(int64(len(left)))
		case cap(lines) <= 4*accessFull && l.pending == nil:
			l.pending = lines[:0]
		case cap(lines) <= 4*accessFull:
			l.spare = lines[:0]
		}
		l.closeOldLocked()
	}
	l.closeOldLocked()
	l.running = false
	l.idle.Broadcast()
}

func (l *accessLog) closeOldLocked() {
	for _, f := range l.old {
		closeFile(f)
	}
	l.old = nil
}

// deliver writes lines, and returns those that are to be written again: what has not been
// taken within logPatience. It is called with mu held, and lets go of it meanwhile.
func (l *accessLog) deliver(lines []byte) (left []byte) {
	f := l.file
	if f == nil {
		return nil
	}
	l.mu.Unlock()
	begun, n, err := l.put(f, lines)
	l.mu.Lock()
	isStuck := errors.Is(err, os.ErrDeadlineExceeded)
	if isStuck {
		left = lines[n-l.cut:]
	} else if err != nil { // such as a full disk: those that follow may find room
		l.dropLocked(lines[n:])
	}
	l.toldLocked(err, isStuck && n == begun)
	return left
}

// put writes lines to f, after what ends a line there of which the rest is lost. It returns
// how many bytes of them f had before, and has now.
func (l *accessLog) put(f *os.File, lines []byte) (begun, n int, err error) {
	ends := 0 // lines of which the rest is lost
	text := lines
	switch isCut := l.isCutIn(f); {
	case isCut && l.cut > 0:
		begun, text = l.cut, lines[l.cut:]
	case isCut:
		ends, text = 1, slices.Concat([]byte{'\n'}, lines)
	}
	wrote, err := l.write(f, text, logPatience)
	n = begun + max(0, wrote-ends)
	part := n - (bytes.LastIndexByte(lines[:n], '\n') + 1)
	l.cut, l.cutIn = 0, nil
	if part > 0 || wrote < ends {
		l.cutIn, _ = f.Stat()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		l.cut = part
	}
	return begun, n, err
}

// isCutIn reports whether the last line of f is not whole.
func (l *accessLog) isCutIn(f *os.File) bool {
	if l.cutIn == nil {
		return false
	}
	info, err := f.Stat()
	return err == nil && os.SameFile(info, l.cutIn)
}

// toldLocked tells the daemon's log, once, that lines are not taken, and how many were
// lost when they are again. It lets go of mu meanwhile.
func (l *accessLog) toldLocked(err error, isStuck bool) {
	isBroken := err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
	wasStuck, wasBroken, output, drops := l.isStuck, l.isBroken, l.output, l.drops
	l.isStuck, l.isBroken = isStuck, isBroken
	if err == nil {
		l.drops = 0
	}
	l.mu.Unlock()
	defer l.mu.Lock()
	switch {
	case isStuck && !wasStuck:
		l.complain(slog.LevelError, "a log takes nothing: its lines wait, and are dropped where there is no room", "output", output)
	case isBroken && !wasBroken:
		l.complain(slog.LevelError, "a log cannot be written: its lines are dropped", "output", output, "error", err)
	case err == nil && drops > 0:
		l.complain(slog.LevelWarn, "a log has dropped records", "output", output, "records", drops)
	}
}

// writeLines is writeWithin of lines: where others write too, as to the standard error,
// it writes whole lines at once that fit into a pipe.
func writeLines(f *os.File, lines []byte, patience time.Duration) (n int, err error) {
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		return writeWithin(f, lines, patience)
	}
	deadline := time.Now().Add(patience)
	for n < len(lines) && err == nil {
		part := lines[n:]
		if len(part) > pipeSize {
			end := bytes.LastIndexByte(part[:pipeSize], '\n') + 1
			if end == 0 {
				end = bytes.IndexByte(part, '\n') + 1
			}
			part = part[:end]
		}
		var k int
		k, err = writeWithin(f, part, time.Until(deadline))
		n += k
	}
	return n, err
}

// flush returns when all lines have been written that were added before, or when they
// have not been within logPatience.
func (l *accessLog) flush() {
	enough := false
	late := time.AfterFunc(logPatience, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		enough = true
		l.idle.Broadcast()
	})
	defer late.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running || l.newest.Load() != nil { // who has added the first of them may not have started it
		l.startLocked(0)
	}
	for l.running && !enough {
		l.idle.Wait()
	}
}

// HasAccess tells whether there is an access log.
func (l *Logs) HasAccess() bool { return l.access.options.Load() != nil }

// Access writes the line of a request. It waits for nothing.
func (l *Logs) Access(line *access.Line) {
	o := l.access.options.Load()
	if o == nil || o.suppresses(line) {
		return
	}
	a := accessLines.Get().(*accessLine)
	a.text = o.Format.Append(a.text[:0], line)
	l.access.push(a)
}

// suppresses reports whether a request is one of those that are not worth a line. As
// php-fpm has it, a client can hide nothing in one: it has neither a body nor a query,
// and went well.
func (o *AccessOptions) suppresses(l *access.Line) bool {
	if len(o.Suppress) == 0 || l.Status < 200 || l.Status > 299 || l.In > 0 || l.Reason != nil {
		return false
	}
	method := l.Params.Get("REQUEST_METHOD")
	if method != "GET" && method != "HEAD" || l.Params.Get("QUERY_STRING") != "" {
		return false
	}
	return slices.Contains(o.Suppress, l.Path()) || slices.Contains(o.Suppress, l.Params.Get("REQUEST_URI"))
}

// Flush sees that what was logged is written, as far as that can be within a second.
func (l *Logs) Flush() { l.access.flush() }

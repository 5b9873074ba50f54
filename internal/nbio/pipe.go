package nbio

import (
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// PipeSize is how many bytes a pipe holds that was made larger.
const PipeSize = 1 << 20

// defaultPipeSize is what a new pipe holds (pipe(7)).
const defaultPipeSize = 64 << 10

// enlarged are the pipes that were made larger. The pages of a user's pipes are
// counted together, and beyond /proc/sys/fs/pipe-user-pages-soft each new pipe of
// that user, in any program, gets one page: so larger pipes have a quarter of that.
var enlarged = pipeBudget{limit: sync.OnceValue(largePipes)}

type pipeBudget struct {
	limit func() int // how many there may be
	count atomic.Int64

	mu     sync.Mutex          // guards the field below
	inodes map[uint64]struct{} // of those that there are
}

// largePipes is how many pipes of this process may be large.
func largePipes() int {
	text, err := os.ReadFile("/proc/sys/fs/pipe-user-pages-soft")
	pages, convErr := strconv.Atoi(strings.TrimSpace(string(text)))
	switch {
	case err != nil || convErr != nil:
		pages = 16384 // the kernel's own
	case pages == 0:
		return math.MaxInt // no bound
	}
	return pages / 4 * os.Getpagesize() / PipeSize
}

// EnlargePipe makes a pipe hold PipeSize bytes, unless so many pipes do that the user
// would have no pages left for others. It stays counted until ForgetPipe.
func EnlargePipe(fd uintptr) bool {
	inode, err := inodeOf(fd)
	if err != nil {
		return false
	}
	b := &enlarged
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.inodes[inode]; known {
		return true
	}
	if len(b.inodes) >= b.limit() {
		return false
	}
	if _, err := unix.FcntlInt(fd, unix.F_SETPIPE_SZ, PipeSize); err != nil {
		return false
	}
	if b.inodes == nil {
		b.inodes = make(map[uint64]struct{})
	}
	b.inodes[inode] = struct{}{}
	b.count.Store(int64(len(b.inodes)))
	return true
}

// A LargePipe is one that was made larger; the zero value is none.
type LargePipe uint64

// Large tells which pipe this is, if it was made larger.
func Large(fd uintptr) LargePipe {
	if enlarged.count.Load() == 0 {
		return 0
	}
	inode, err := inodeOf(fd)
	if err != nil {
		return 0
	}
	enlarged.mu.Lock()
	defer enlarged.mu.Unlock()
	if _, known := enlarged.inodes[inode]; !known {
		return 0
	}
	return LargePipe(inode)
}

// Forget is called when nobody has the pipe open any more.
func (p LargePipe) Forget() {
	if p == 0 {
		return
	}
	enlarged.mu.Lock()
	defer enlarged.mu.Unlock()
	delete(enlarged.inodes, uint64(p))
	enlarged.count.Store(int64(len(enlarged.inodes)))
}

// ShrinkPipe is called by who is about to close a pipe, whoever else has it open: it
// is made as large as others, if it is not too full, and counts no more.
func ShrinkPipe(fd uintptr) {
	p := Large(fd)
	if p != 0 {
		unix.FcntlInt(fd, unix.F_SETPIPE_SZ, defaultPipeSize)
	}
	p.Forget()
}

func inodeOf(fd uintptr) (uint64, error) {
	var st unix.Stat_t
	err := unix.Fstat(int(fd), &st)
	return st.Ino, err
}

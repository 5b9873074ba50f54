package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/address"
)

// A Handed is a listening socket that goes from one process to the next, with the
// connections that wait in it.
type Handed struct {
	// Address is that of the Options it was opened with.
	Address string `json:"address"`
	// Dev and Ino are those of the file of a unix:/path. The socket itself does not tell.
	Dev uint64 `json:"dev,omitempty"`
	Ino uint64 `json:"ino,omitempty"`
	// Passed is the name of a socket that systemd has passed.
	Passed string `json:"passed,omitempty"`
	// Direct says that others accept the connections, now and in the next process.
	Direct bool `json:"direct,omitempty"`
}

// inheritance is what another process has handed to this one. It is the process's, as
// the sockets are that systemd has passed.
var inheritance struct {
	mu     sync.Mutex            // guards the fields below
	left   []*Listener           // that nobody has opened
	taken  map[int]bool          // those that somebody has, by their place among what was handed
	passed map[string][]*os.File // systemd's, if the process before had some
	places map[string]int        // those of systemd's
	stored []string              // names of what systemd has kept for this process
	gate   chan struct{}         // closed when this process may accept; nil: it may
}

// Inherit has Open take a socket that was handed to this process, where it would make a
// new one at that address. The descriptors are Inherit's. Until Begin is called no
// Listener accepts: it is called before the first Open.
func Inherit(handed []Handed, fds []int) error {
	if len(handed) != len(fds) {
		return fmt.Errorf("inherit %d sockets with %d descriptors", len(handed), len(fds))
	}
	in := &inheritance
	in.mu.Lock()
	defer in.mu.Unlock()
	in.gate, in.taken = make(chan struct{}), make(map[int]bool)
	in.passed, in.places = make(map[string][]*os.File), make(map[string]int)
	for i, h := range handed {
		file := os.NewFile(uintptr(fds[i]), h.Address)
		if h.Passed != "" {
			in.passed[h.Passed] = append(in.passed[h.Passed], file)
			in.places[h.Passed] = i
			continue
		}
		ln, err := h.listener(file)
		file.Close()
		if err != nil {
			return fmt.Errorf("inherit %s: %w", h.Address, err)
		}
		l := &Listener{ln: ln, by: Local{}, file: h.file(ln.Addr()), handed: i + 1}
		l.options.Store(&Options{Address: h.Address})
		in.left = append(in.left, l)
	}
	return nil
}

// file is that of the socket that was handed, nil for one that has none.
func (h *Handed) file(local net.Addr) *File {
	a, isUnix := local.(*net.UnixAddr)
	if !isUnix || a.Name == "" || strings.HasPrefix(a.Name, "@") {
		return nil
	}
	return &File{Path: a.Name, Dev: h.Dev, Ino: h.Ino}
}

// Place is that of the socket among what was handed to this process; false if it was not.
func (l *Listener) Place() (place int, ok bool) { return l.handed - 1, l.handed > 0 }

// Begin has all Listeners accept.
func Begin() {
	in := &inheritance
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.gate != nil {
		close(in.gate)
		in.gate = nil
	}
}

// Taken are the sockets that were opened of those that Inherit was given, by their
// places there.
func Taken() (places []int) {
	in := &inheritance
	in.mu.Lock()
	defer in.mu.Unlock()
	for i := range in.taken {
		places = append(places, i)
	}
	slices.Sort(places)
	return places
}

// DropRest closes the sockets that were handed, or come from systemd's store, and that
// nobody has opened. Whoever has handed them has them still; the files of stored ones are
// removed.
func DropRest() error {
	in := &inheritance
	in.mu.Lock()
	left := in.left
	in.left = nil
	in.mu.Unlock()
	var err error
	for _, l := range left {
		if l.recovered {
			err = errors.Join(err, l.removeFile())
		}
		err = errors.Join(err, l.ln.Close())
	}
	return err
}

// takeInherited is what was handed of an address, or nil. What is left is by's from then on.
func takeInherited(by Binder, a address.Address, text string) *Listener {
	left := inherited()
	for _, l := range left {
		l.by = by
	}
	i := slices.IndexFunc(left, func(l *Listener) bool { return l.isFor(a, text) })
	if i < 0 {
		return nil
	}
	in := &inheritance
	in.mu.Lock()
	defer in.mu.Unlock()
	in.left = slices.DeleteFunc(in.left, func(l *Listener) bool { return l == left[i] })
	if handed := left[i].handed; handed > 0 {
		in.taken[handed-1] = true
	}
	return left[i]
}

// inherited are what is left of that.
func inherited() []*Listener {
	in := &inheritance
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Clone(in.left)
}

// isFor tells whether l, which was handed to this process, is what an address means.
func (l *Listener) isFor(a address.Address, text string) bool {
	switch a.Kind {
	case address.Unix:
		return l.file != nil && l.IsAt(text)
	case address.Abstract:
		return l.Addr().Network() == "unix" && l.Addr().String() == a.Name
	case address.TCP:
		own, wanted := l.tcpAddr(), resolve(a.Name)
		if own == nil || wanted == nil || own.Port != wanted.Port {
			return text == l.Options().Address // of a port that the kernel has chosen
		}
		return own.IP.Equal(wanted.IP) || len(wanted.IP) == 0 && own.IP.Equal(net.IPv6unspecified)
	}
	return false
}

// inheritedInTheWay are the sockets that were handed and are not opened, and that are why
// an address is in use. They are about to close: nobody wants them any more.
func inheritedInTheWay(text string) (yielding []*Listener) {
	for _, l := range inherited() {
		if l.IsInTheWay(text) {
			yielding = append(yielding, l)
		}
	}
	return yielding
}

// isBorrowed reports whether the process that has handed l to this one has not left it yet.
func (l *Listener) isBorrowed() bool {
	if l.handed == 0 || l.gate == nil {
		return false
	}
	select {
	case <-l.gate:
		return false
	default:
		return true
	}
}

// takePassed is the place of one of systemd's sockets, from 1, and 0 if no other process has
// handed it to this one.
func takePassed(name string) int {
	in := &inheritance
	in.mu.Lock()
	defer in.mu.Unlock()
	place, ok := in.places[name]
	if !ok {
		return 0
	}
	in.taken[place] = true
	return place + 1
}

// theGate is what a new Listener waits for, nil for nothing.
func theGate() <-chan struct{} {
	in := &inheritance
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.gate
}

// inheritedPassed are systemd's sockets that the process before had, or nil.
func inheritedPassed() map[string][]*os.File {
	in := &inheritance
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.passed
}

// Hand returns what the next process has to know of the socket, and a descriptor of it that
// is the caller's. It is not for one that IsLost, nor for one of systemd's: HandPassed has
// those.
func (l *Listener) Hand() (h Handed, fd int, err error) {
	h.Address, h.Direct = l.Options().Address, l.IsDirect()
	if l.file != nil {
		h.Dev, h.Ino = l.file.Dev, l.file.Ino
	}
	fd, err = duplicate(l.ln)
	if err != nil {
		return h, -1, fmt.Errorf("hand over %s: %w", h.Address, err)
	}
	return h, fd, nil
}

// IsPassed reports whether the socket is one that systemd has passed.
func (l *Listener) IsPassed() bool { return l.passed }

// HandPassed is Hand for all that systemd has passed to this process, whether or not
// something listens on it now.
func HandPassed() (handed []Handed, fds []int, err error) {
	for name, files := range passedSockets() {
		for _, f := range files {
			fd, err := duplicate(f)
			if err != nil {
				return handed, fds, fmt.Errorf("hand over systemd:%s: %w", name, err)
			}
			handed = append(handed, Handed{Address: "systemd:" + name, Passed: name})
			fds = append(fds, fd)
		}
	}
	return handed, fds, nil
}

// duplicate leaves O_NONBLOCK as it is, which (*os.File).Fd does not: both descriptors
// share it.
func duplicate(c syscall.Conn) (dup int, err error) {
	err = withFD(c, func(fd int) (err error) {
		dup, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		return err
	})
	return dup, err
}

// Reassert brings the socket's file and queue to its Options again: somebody who had the
// socket too may have changed them.
func (l *Listener) Reassert() error {
	l.applying.Lock()
	defer l.applying.Unlock()
	o := l.Options()
	err := l.change(nil, o)
	if !l.passed {
		err = errors.Join(err, setBacklog(l.ln, o.Backlog))
	}
	if err != nil {
		return fmt.Errorf("restore %s: %w", o.Address, err)
	}
	return nil
}

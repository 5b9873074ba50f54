package listen

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A socket that systemd keeps for the next process (FDSTORE=1 in sd_notify(3)) comes back with
// those of socket units, by the name that it was stored with. Ours say which file is its own,
// since the socket does not: another one may have the path by then.
const (
	storePrefix = "fcgid-socket-"
	storeFile   = storePrefix + "%x-%x"
)

// StoreName is the name of the socket in systemd's store. Of one that is systemd's own it is
// "", and of one that nobody reaches.
func (l *Listener) StoreName() string {
	switch {
	case l.passed || l.IsLost():
		return ""
	case l.file != nil:
		return fmt.Sprintf(storeFile, l.file.Dev, l.file.Ino)
	}
	sum := sha256.Sum256([]byte(l.Addr().Network() + ":" + l.Addr().String()))
	return fmt.Sprintf("%s%x", storePrefix, sum[:8])
}

// IsStoreName reports whether a name is as StoreName makes them.
func IsStoreName(name string) bool {
	rest, ok := strings.CutPrefix(name, storePrefix)
	return ok && rest != "" && strings.Trim(rest, "0123456789abcdef-") == ""
}

// Leave has Drain and Close leave the socket and its file to the next process, which gets
// them from systemd: Drain has Accept return what waits at that moment, and what comes later waits on.
func (l *Listener) Leave() {
	l.left.Store(true)
	l.unlink.Do(func() {})
}

// recoverStored takes what the process before has stored.
func recoverStored(stored map[string][]*os.File) {
	in := &inheritance
	in.mu.Lock()
	defer in.mu.Unlock()
	for name, files := range stored {
		in.stored = append(in.stored, name)
		for _, file := range files {
			if l := recoverOne(name, file); l != nil {
				in.left = append(in.left, l)
			}
			file.Close()
		}
	}
}

// recoverOne is nil for what is no socket that listens.
func recoverOne(name string, file *os.File) *Listener {
	ln, err := fileListener(file)
	if err != nil {
		return nil
	}
	l := &Listener{ln: ln, by: Local{}, recovered: true}
	h := Handed{Address: name}
	fmt.Sscanf(name, storeFile, &h.Dev, &h.Ino)
	l.file = h.file(ln.Addr())
	l.options.Store(&Options{Address: name})
	return l
}

// StoredFile is the file of a socket that was kept by a name; false if it has none.
func StoredFile(name string, fd int) (file File, ok bool) {
	if n, err := fmt.Sscanf(name, storeFile, &file.Dev, &file.Ino); err != nil || n != 2 {
		return File{}, false
	}
	local, err := unix.Getsockname(fd)
	if a, isUnix := local.(*unix.SockaddrUnix); err == nil && isUnix {
		file.Path = a.Name
	}
	return file, file.Path != "" && file.Path[0] != '@'
}

// splitStored takes our own out of what systemd has passed.
func splitStored(passed map[string][]*os.File) (stored map[string][]*os.File) {
	stored = make(map[string][]*os.File)
	for name, files := range passed {
		if strings.HasPrefix(name, storePrefix) {
			stored[name] = files
			delete(passed, name)
		}
	}
	return stored
}

// Stored are the names of what was in systemd's store when this process began.
func Stored() []string {
	passedSockets()
	in := &inheritance
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.stored
}

// drainLeft is Drain of a socket that is left to the next process.
func (l *Listener) drainLeft() error {
	l.draining.Lock()
	defer l.draining.Unlock()
	if l.drainUntil.IsZero() {
		l.drainUntil = passed
		l.deaf = true
		n, err := l.AcceptQueue()
		if err != nil {
			n = unknownQueue
		}
		l.rest = int(n)
		l.unblock()
	}
	return l.ln.SetDeadline(passed)
}

// unknownQueue is how many connections are taken at most from a queue whose length the
// kernel does not tell.
const unknownQueue = 64

// acceptLeft is acceptRest of such a socket.
func (l *Listener) acceptLeft() (net.Conn, error) {
	if l.rest == 0 {
		return nil, net.ErrClosed
	}
	l.rest--
	return l.acceptNow()
}

// Store has systemd keep sockets that it does not have, and drop those that nobody has. It
// knows what systemd has by their names, and sends no more than systemd takes: that refuses
// the others without an answer.
type Store struct {
	// Send sends a message of sd_notify(3), with a descriptor if fd is not negative.
	Send  func(message string, fd int) error
	Most  int      // that systemd keeps
	Names []string // in systemd's store
}

// ErrNoRoom is that of sockets for which systemd's store has no room.
var ErrNoRoom = errors.New("no room in the store (FileDescriptorStoreMax, FDSTORE)")

// Keep brings the store to what listeners there are. What is in it stays, and of the others the
// first ones get the room that is left.
func (s *Store) Keep(listeners []*Listener) error {
	now := make(map[string]*Listener)
	for _, l := range listeners {
		if l != nil {
			now[l.StoreName()] = l
		}
	}
	delete(now, "")
	if err := s.drop(now); err != nil {
		return err
	}
	var refused []string
	for _, l := range listeners {
		if l == nil {
			continue
		}
		switch name := l.StoreName(); {
		case now[name] == nil || slices.Contains(s.Names, name):
		case len(s.Names) >= s.Most:
			refused = append(refused, l.Options().Address)
		default:
			if err := s.add(name, l); err != nil {
				return err
			}
		}
	}
	if len(refused) > 0 {
		return fmt.Errorf("%w for more than %d: not kept: %s", ErrNoRoom, s.Most, strings.Join(refused, " "))
	}
	return nil
}

// drop has systemd drop what is not among the listeners, by their names.
func (s *Store) drop(now map[string]*Listener) error {
	var names []string
	for _, name := range s.Names {
		if now[name] != nil {
			names = append(names, name)
		} else if err := s.Send("FDSTOREREMOVE=1\nFDNAME="+name, -1); err != nil {
			return err
		}
	}
	s.Names = names
	return nil
}

func (s *Store) add(name string, l *Listener) error {
	err := withFD(l.ln, func(fd int) error { return s.Send("FDSTORE=1\nFDPOLL=0\nFDNAME="+name, fd) })
	if err != nil {
		return fmt.Errorf("store %s: %w", l.Options().Address, err)
	}
	s.Names = append(s.Names, name)
	return nil
}

// SendTo sends a message to systemd's socket (NOTIFY_SOCKET), with a descriptor if fd is not negative.
func SendTo(socket, message string, fd int) error {
	own, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	defer unix.Close(own)
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	if err := unix.Sendmsg(own, []byte(message), rights, &unix.SockaddrUnix{Name: socket}, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return nil
}

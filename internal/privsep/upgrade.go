package privsep

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/spawn"
)

// In an upgrade the two daemons speak to each other, over sockets that the old one has made, and the
// old spawner starts the new one, which starts the new daemon:
//
//	old daemon                    old spawner
//	start: their two sockets ─▶          starts the program anew, with these
//	                         ◀─    its pid
//	signal, or discard       ─▶          while it does not serve
//	commit                   ─▶          it serves: the old daemon has no power over it any more
//
// Of these sockets no spawner hears anything, and the new one passes them on.
const (
	upgradeStart   = iota
	upgradeSignal  // a signal
	upgradeDiscard // 1: at once
	upgradeCommit
)

// upgradeFDs are how many sockets the two daemons have between them.
const upgradeFDs = 2

// A legacy is what two spawners tell each other, in a file of memory of which the daemons know
// nothing.
type legacy struct {
	UID  uint32 // of the old one's daemon
	Made []Made // files of sockets that the old one has made

	Kept []string // paths of sockets in the new one's configuration, by which it is to have the files

	IsCommitted bool // by the old one, at last
}

// shared is that file, which one of them writes at a time.
type shared struct{ fd int }

func share(l *legacy) (*shared, error) {
	fd, err := unix.MemfdCreate("fcgid", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	s := &shared{fd}
	if err := s.write(l); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return s, nil
}

func (s *shared) write(l *legacy) error {
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if err := unix.Ftruncate(s.fd, 0); err != nil {
		return err
	}
	_, err = unix.Pwrite(s.fd, text, 0)
	return err
}

func (s *shared) read() (l legacy, err error) { return l, unseal(s.fd, &l) }

// inherit takes over what the spawner before this one has left, as far as the table has it.
func (s *spawner) inherit(t *Table) error {
	if s.before == nil { // it was one process
		return errUserChanges
	}
	l, err := s.before.read()
	switch {
	case err != nil:
		return fmt.Errorf("take over: %w", err)
	case l.UID != t.User.UID:
		return errUserChanges
	}
	for _, e := range t.Listen {
		if e.Path != "" {
			l.Kept = append(l.Kept, filepath.Clean(e.Path))
		}
	}
	s.sockets.adopt(slices.DeleteFunc(l.Made, func(m Made) bool { return !slices.Contains(l.Kept, filepath.Clean(m.Path)) }))
	if err := s.before.write(&l); err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	return nil
}

// isBetween reports whether another spawner, before or after this one, may have its sockets still,
// or by now.
func (s *spawner) isBetween() bool {
	s.succession.mu.Lock()
	defer s.succession.mu.Unlock()
	if s.succession.isTaken && !s.succession.isCommitted {
		return true
	}
	if s.before == nil {
		return false
	}
	l, err := s.before.read()
	return err != nil || !l.IsCommitted
}

// A succession is what becomes of a spawner's place: one successor at a time, and none after one
// that serves.
type succession struct {
	mu          sync.Mutex       // guards the fields below
	isTaken     bool             // there is a successor, or it is being started or ended
	next        *spawn.Successor // that may be discarded; nil: none
	left        *shared          // with next
	isCommitted bool             // it has this process's place
}

var (
	errSuccessor   = errors.New("there is no such upgrade")
	errReplaced    = errors.New("an upgrade has given this process's place to another one")
	errUserChanges = errors.New("user cannot change while the daemon runs: restart it")
)

// upgrade carries out what the daemon asks for in an upgrade.
func (s *spawner) upgrade(m *Message) (*Message, error) {
	d := decoder{b: m.Body}
	order, argument := d.uint(), d.uint()
	if err := d.end(); err != nil {
		return nil, err
	}
	switch {
	case order == upgradeStart && argument == 0 && len(m.FDs) == upgradeFDs:
		return s.startSuccessor(m.FDs)
	case len(m.FDs) > 0:
	case order == upgradeSignal && isPassedOn(unix.Signal(argument)):
		return nil, s.signalSuccessor(unix.Signal(argument))
	case order == upgradeDiscard && argument <= 1:
		return s.discardSuccessor(argument == 1)
	case order == upgradeCommit && argument == 0:
		return nil, s.commitSuccessor()
	}
	return nil, fmt.Errorf("%w: upgrade %d, %d with %d descriptors", ErrBroken, order, argument, len(m.FDs))
}

// isPassedOn reports whether a signal is one that the old daemon gets and the new one is to have.
func isPassedOn(s unix.Signal) bool {
	return s == unix.SIGHUP || s == unix.SIGTERM || s == unix.SIGINT || s == unix.SIGQUIT
}

// startSuccessor starts the program that is in place now, which root has put there, with this
// process's arguments.
func (s *spawner) startSuccessor(fds []int) (*Message, error) {
	for _, fd := range fds {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
			return nil, fmt.Errorf("%w: an upgrade with a descriptor of mode %o, %v", ErrBroken, st.Mode, err)
		}
	}
	if !s.succession.take() {
		return nil, errors.New("another upgrade is being carried out")
	}
	left, err := share(&legacy{UID: s.user.UID, Made: s.sockets.files()})
	if err != nil {
		s.succession.free()
		return nil, fmt.Errorf("hand over: %w", err)
	}
	next, err := s.startProgram(append(fds[:upgradeFDs:upgradeFDs], left.fd))
	if err != nil {
		unix.Close(left.fd)
		s.succession.free()
		return nil, err
	}
	s.succession.mu.Lock()
	defer s.succession.mu.Unlock()
	s.succession.next, s.succession.left = next, left
	return &Message{Body: appendUint(nil, uint64(next.PID))}, nil
}

func (s *spawner) startProgram(fds []int) (*spawn.Successor, error) {
	if err := config.TrustFile(s.Program); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Program, err)
	}
	next, err := s.local.StartSuccessor(s.Program, fds, fmt.Sprintf("%s=%s %d 0", roleVariable, roleSuccessor, 3+upgradeFDs))
	if err == nil {
		s.log.Info("upgrade begun", "program", s.Program, "pid", next.PID)
	}
	return next, err
}

// isReplaced reports whether a successor has this process's place.
func (s *spawner) isReplaced() bool {
	s.succession.mu.Lock()
	defer s.succession.mu.Unlock()
	return s.succession.isCommitted
}

// take reports whether there may be a successor, and that no other one may be then.
func (s *succession) take() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.isTaken
	s.isTaken = true
	return !was
}

func (s *succession) free() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.isTaken = false
}

// signalSuccessor is for what the old daemon has been told and the new one was meant by. Once that
// serves, it is not the old one's to end.
func (s *spawner) signalSuccessor(sig unix.Signal) error {
	s.succession.mu.Lock()
	defer s.succession.mu.Unlock()
	if s.succession.next == nil || s.succession.isCommitted && sig != unix.SIGHUP {
		return errSuccessor
	}
	return s.succession.next.Signal(sig)
}

// discardSuccessor answers how it has ended.
func (s *spawner) discardSuccessor(atOnce bool) (*Message, error) {
	s.succession.mu.Lock()
	next := s.succession.next
	if next == nil || s.succession.isCommitted {
		s.succession.mu.Unlock()
		return nil, errSuccessor
	}
	s.succession.next = nil
	unix.Close(s.succession.left.fd)
	s.succession.mu.Unlock()
	how := next.Discard(atOnce)
	s.succession.free()
	return &Message{Body: []byte(how)}, nil
}

// endSuccessor ends one that has not got this process's place, in order if that is soon: it was to
// replace a daemon that is no more.
func (s *spawner) endSuccessor() {
	s.succession.mu.Lock()
	next, isCommitted := s.succession.next, s.succession.isCommitted
	s.succession.mu.Unlock()
	if next == nil || isCommitted {
		return
	}
	next.Signal(unix.SIGTERM)
	select {
	case <-next.Exited():
	case <-time.After(endTime / 2):
	}
	s.discardSuccessor(true)
}

// commitSuccessor gives this process's place to the successor. The daemon may be there for the
// table's Leave from then on.
func (s *spawner) commitSuccessor() error {
	leave := time.Duration(s.leave.Load()) // without turn, which a reload has for as long as its file hangs
	s.succession.mu.Lock()
	defer s.succession.mu.Unlock()
	if s.succession.next == nil || s.succession.isCommitted {
		return errSuccessor
	}
	s.succession.isCommitted = true
	s.sockets.end()
	expired := s.expired
	time.AfterFunc(leave, func() { close(expired) })
	return errors.Join(s.bequeath(s.succession.left), s.succession.next.Commit())
}

// bequeath leaves the files of sockets to the successor that this one's daemon has given to that.
func (s *spawner) bequeath(to *shared) error {
	defer unix.Close(to.fd)
	l, err := to.read()
	if err == nil {
		l.IsCommitted = true
		err = to.write(&l)
	}
	if err != nil {
		return fmt.Errorf("hand over: %w", err)
	}
	s.sockets.forget(l.Kept)
	return nil
}

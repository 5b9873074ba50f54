package privsep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/launch"
	"github.com/fcgid/fcgid/internal/logs"
	"github.com/fcgid/fcgid/internal/spawn"
)

// ErrTogether is that of a configuration for which there are not to be two processes.
var ErrTogether = errors.New("the daemon is not to be somebody else")

// A spawner is the process that was started, and stays root.
type spawner struct {
	SpawnOptions
	log      *slog.Logger
	local    spawn.Local
	conn     *Conn // to the daemon
	user     config.Identity
	reach    *spawn.Reach // the daemon's
	programs *Programs
	sockets  *listeners
	cgroups  launch.Cgroups

	stopping context.Context // done when somebody has asked for the end, which the daemon is told as well
	begin    func()          // called when the daemon has committed a configuration; closes begun
	begun    chan struct{}

	before     *shared // with the spawner whose place this one takes; nil: there is none
	succession succession
	expired    chan struct{} // closed when a daemon that was replaced has been there for too long

	leave atomic.Int64 // nanoseconds, of the table in force

	turn sync.Mutex // guards the fields below, and is held while the configuration is read or changed
	last uint64     // generation
	next *prepared  // nil: none
}

// programFDs are how many descriptors the daemon may send at once: those of a program.
const programFDs = 3

// A prepared generation is one of which the daemon has not said yet what is to become of it.
type prepared struct {
	number       uint64
	commit, undo func()
	leave        time.Duration
}

// SpawnOptions are what a spawner has for life.
type SpawnOptions struct {
	Program  string // what an upgrade starts
	NotifyFD int    // a descriptor that is the daemon's; 0 is none
	// HasFunctions says that the daemon runs functions of which nobody knows what they need.
	HasFunctions bool
}

// Spawn is the life of a spawner: it returns the exit status when the daemon has ended, and
// ErrTogether if there is to be none.
func Spawn(o SpawnOptions) (status int, err error) {
	signals := catchSignals()
	s := &spawner{SpawnOptions: o, expired: make(chan struct{}), begun: make(chan struct{})}
	s.begin = sync.OnceFunc(func() { close(s.begun) })
	var stop context.CancelFunc
	s.stopping, stop = signal.NotifyContext(context.Background(), stops...)
	defer stop()
	first, err := s.readFirst()
	switch {
	case s.stopping.Err() != nil: // there need be no daemon
		return 0, nil
	case err != nil:
		return 0, unrefuse(err)
	case first == nil:
		signals.release()
		return 0, ErrTogether
	}
	spawn.OutliveStops()
	l, err := logs.New(logs.Options{Level: "info", Format: first.table.LogFormat, Output: "stderr"})
	if err != nil {
		first.close()
		return 0, err
	}
	defer l.Flush()
	s.log, s.local.Log, s.cgroups.Log, s.user = l.Logger, l.Logger, l.Logger, first.table.User
	if err := s.local.Adopt(); err != nil {
		s.log.Warn("programs that leave their process group may outlive their requests", "error", err)
	}
	if s.sockets, err = newListeners(); err == nil && spawn.IsSuccessor() {
		err = s.inherit(first.table)
	}
	if err != nil {
		first.close()
		return 0, err
	}
	s.giveFolders()
	daemon, err := s.start(first)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go s.local.Reap(ctx)
	served := make(chan error, 1)
	// What hangs in an answer, such as a look at a file, is not to keep from it who must end.
	go func() { served <- hear(s.conn, s.handle, newAdmission(s.programs.most), new(sync.WaitGroup)) }()
	return s.attend(daemon, signals, served), nil
}

// readFirst reads the configuration of a start. It is nil where this process is to go on alone, which
// it is not in an upgrade.
func (s *spawner) readFirst() (*reading, error) {
	if IsSuccessor() {
		if !spawn.IsSuccessor() {
			return nil, errors.New("the process whose place this one was to take has ended")
		}
		unix.CloseOnExec(role.numbers[0])
		s.before = &shared{role.numbers[0]}
	}
	return s.read(!IsSuccessor())
}

// start starts the daemon, and takes over what was read for it.
func (s *spawner) start(first *reading) (*spawn.Self, error) {
	defer first.close()
	conn, theirs, err := NewPair()
	if err != nil {
		return nil, err
	}
	defer unix.Close(theirs)
	s.conn = conn
	s.conn.MaxFDs = programFDs
	s.programs = NewPrograms(ProgramsOptions{
		Conn: conn, Spawner: &s.local, User: s.user.UID, Group: s.user.GID, Cgroups: s.cgroups.Open, Log: s.log,
	})
	if err := s.prepare(first.table); err != nil {
		return nil, err
	}
	passed, env := passedToSpawner()
	defer closeAll(passed) // the daemon has them
	s.sockets.recover(stored(passed))
	files := append([]uintptr{0, 1, 2}, passed...)
	isNotified := 0
	socket := len(files)
	files = append(files, uintptr(theirs), uintptr(first.bundle))
	if s.NotifyFD > 0 {
		files, isNotified = append(files, uintptr(s.NotifyFD)), 1
		defer unix.Close(s.NotifyFD)
	}
	env = append(env, fmt.Sprintf("%s=%s %d %d", roleVariable, roleDaemon, socket, isNotified))
	for _, reason := range spawn.Lacks() {
		s.log.Info("the daemon is confined less than it could be", "reason", reason)
	}
	if s.reach, err = s.newReach(first.table); err != nil {
		return nil, fmt.Errorf("bound the daemon's files: %w", err)
	}
	defer s.reach.Close()
	return s.local.StartApart(s.identity(), s.reach, env, files)
}

func (s *spawner) identity() *spawn.Identity {
	return &spawn.Identity{UID: s.user.UID, GID: s.user.GID, Groups: s.user.Groups}
}

// signals are what a spawner hears, for its daemon.
type signals struct {
	end   chan os.Signal // that it is to end, one way or the other
	order chan os.Signal
}

var stops = []os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGQUIT}

// catchSignals catches from now on, and for good.
func catchSignals() *signals {
	s := &signals{make(chan os.Signal, 64), make(chan os.Signal, 64)}
	signal.Notify(s.end, append(stops, unix.SIGABRT, unix.SIGPIPE)...)
	signal.Notify(s.order, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2)
	return s
}

// release leaves them to who goes on in this process.
func (s *signals) release() {
	signal.Stop(s.end)
	signal.Stop(s.order)
}

// attend passes signals on to the daemon until that has ended, and ends what it has left. What is
// no end waits until the daemon is ready to hear it: it would end by that before.
func (s *spawner) attend(daemon *spawn.Self, signals *signals, served <-chan error) (status int) {
	var orders chan os.Signal
	for begun := s.begun; ; {
		select {
		case <-begun:
			begun, orders = nil, signals.order
		case sig := <-orders:
			s.passOn(daemon, sig.(unix.Signal))
		case sig := <-signals.end:
			s.passOn(daemon, sig.(unix.Signal))
		case err := <-served:
			served = nil
			if err != nil {
				s.log.Error("the daemon says what it never would, and is killed", "error", err)
				daemon.Signal(unix.SIGKILL)
			}
			time.AfterFunc(endTime, func() { daemon.Signal(unix.SIGKILL) }) // it has closed its end, and is about to exit
		case <-s.expired:
			s.expired = nil
			s.log.Error("the daemon that was replaced does not end, and is killed")
			daemon.Signal(unix.SIGKILL)
		case <-daemon.Exited():
			s.programs.Kill()
			s.conn.Close()
			awaitAtMost(endTime, s.endSuccessor)
			status := s.conclude(daemon.Status())
			s.awaitPrograms()
			s.cgroups.Close()
			return status
		}
	}
}

const (
	// endTime is how long the daemon may live without a connection to the spawner. Without a daemon
	// the spawner gives half of it to each thing that it ends.
	endTime = time.Second
	// dumpTime is how long a daemon that systemd's watchdog has given up may take to say where
	// it stands.
	dumpTime = 5 * time.Second
)

func (s *spawner) passOn(daemon *spawn.Self, sig unix.Signal) {
	switch sig {
	case unix.SIGPIPE: // nobody reads what we print
		return
	case unix.SIGABRT: // of systemd's watchdog
		time.AfterFunc(dumpTime, func() { daemon.Signal(unix.SIGKILL) })
	}
	daemon.Signal(sig)
	daemon.Signal(unix.SIGCONT) // which systemd sends to the process alone that it has started
}

// awaitPrograms waits for what was killed, but not for ever.
func (s *spawner) awaitPrograms() {
	awaitAtMost(endTime/2, s.programs.Wait)
}

// awaitAtMost waits for f, which goes on by itself if it takes longer.
func awaitAtMost(most time.Duration, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(most):
	}
}

// conclude says how the daemon has ended, and ends what is left of one that was killed.
func (s *spawner) conclude(status unix.WaitStatus) (code int) {
	if !status.Signaled() {
		return status.ExitStatus()
	}
	if !s.isStoppedEarly() {
		s.log.Error("the daemon was killed, and all programs with it", "signal", status.Signal().String())
		code = 1
	}
	s.cgroups.Kill()
	s.local.KillOrphans(endTime / 2)
	if os.Getenv("FDSTORE") == "" && !s.isBetween() { // systemd, or another daemon, has the sockets
		awaitAtMost(endTime/2, s.sockets.removeAll) // whose folder may hang
	}
	return code
}

// isStoppedEarly reports whether the daemon was asked to end before it had begun: it may have been
// too early for it to do so by itself.
func (s *spawner) isStoppedEarly() bool {
	select {
	case <-s.begun:
		return false
	default:
		return s.stopping.Err() != nil
	}
}

// handle answers the daemon.
func (s *spawner) handle(m *Message) (*Message, error) {
	switch m.Kind {
	case KindReload:
		return s.reload()
	case KindCommit, KindAbort:
		return s.settle(m)
	case KindListen:
		answer, err := s.sockets.handle(m)
		return answer, s.judge(err)
	case KindUpgrade:
		answer, err := s.upgrade(m)
		return answer, s.judge(err)
	case KindNotify:
		return nil, s.notify(m)
	}
	return s.programs.Handle(m)
}

// judge ends the session for what is no message.
func (s *spawner) judge(err error) error {
	if errors.Is(err, ErrBroken) {
		s.log.Error("the daemon says what it never would: it is ended", "error", err)
		s.conn.Close()
	}
	return err
}

// reload reads the configuration anew, for the daemon to commit or abort.
func (s *spawner) reload() (*Message, error) {
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.isReplaced() {
		return nil, refuse(errReplaced)
	}
	r, err := s.read(false)
	if err != nil {
		if _, ok := errors.AsType[*Refusal](err); ok {
			return nil, err
		}
		return nil, refuse(err)
	}
	if r.table.User.UID != s.user.UID {
		r.close()
		return nil, refuse(errUserChanges)
	}
	if err = s.outOfReach(r.table); err == nil {
		err = s.prepare(r.table)
	}
	if err != nil {
		r.close()
		return nil, refuse(err)
	}
	return &Message{Body: appendUint(nil, s.last), FDs: []int{r.bundle}}, nil
}

// prepare does what can fail. What was prepared before is undone. The caller holds turn, or is
// alone.
func (s *spawner) prepare(t *Table) error {
	if s.next != nil {
		s.next.undo()
		s.next = nil
	}
	commit, undo, err := s.programs.Prepare(s.last+1, t.Pools, t.Spool)
	if err != nil {
		return err
	}
	s.last++
	commitSockets, undoSockets := s.sockets.prepare(t.Listen)
	s.next = &prepared{
		number: s.last,
		commit: func() { commit(); commitSockets() },
		undo:   func() { undo(); undoSockets() },
		leave:  t.Leave,
	}
	if n := spawn.ReserveThreads(); n < spawn.SpareThreads { // of which sandboxes have taken some for themselves
		s.log.Warn("little room for threads, without which the process that starts programs dies: see ulimit -u and TasksMax", "threads", n)
	}
	return nil
}

// settle carries out what the daemon says of the generation that was prepared. Of one that
// counts from now on it answers where its cgroups are.
func (s *spawner) settle(m *Message) (*Message, error) {
	d := decoder{b: m.Body}
	number := d.uint()
	if err := d.end(); err != nil {
		return nil, err
	}
	s.turn.Lock()
	defer s.turn.Unlock()
	if s.next == nil || s.next.number != number {
		return nil, fmt.Errorf("generation %d is not prepared", number)
	}
	next := s.next
	s.next = nil
	if m.Kind == KindAbort {
		next.undo()
		return nil, nil
	}
	next.commit()
	s.begin()
	s.leave.Store(int64(next.leave))
	return &Message{Body: appendStrings(nil, s.programs.groups())}, nil
}

// giveFolders gives the daemon those that systemd has made for the unit, which are root's. That
// for sockets stays root's, so that nobody puts another socket into the place of one: in it the
// daemon gets a folder of its own.
func (s *spawner) giveFolders() {
	if folder := config.RuntimeFolder(); folder != "" && config.TrustFolder(folder) == nil {
		own := OwnFolder(folder)
		err := os.Mkdir(own, 0o700)
		if err == nil || errors.Is(err, fs.ErrExist) {
			err = s.give(own, true)
		}
		if err != nil {
			s.log.Warn("the daemon has no folder of its own for sockets", "error", err)
		}
	}
	for _, name := range []string{"STATE_DIRECTORY", "LOGS_DIRECTORY"} {
		for path := range strings.SplitSeq(os.Getenv(name), ":") {
			if !filepath.IsAbs(path) {
				continue
			}
			if err := s.give(path, false); err != nil {
				s.log.Warn("the folder of the unit is not the daemon's", "variable", name, "error", err)
			}
		}
	}
}

// give gives a folder of root's, or anybody's, to the daemon.
func (s *spawner) give(path string, anybodys bool) error {
	if err := config.TrustFolder(filepath.Dir(path)); err != nil {
		return err
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("folder %s: %w", path, err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("folder %s: %w", path, err)
	}
	if stat.Uid != 0 && !anybodys || stat.Uid == s.user.UID && stat.Gid == s.user.GID {
		return nil // as who is not to have CAP_CHOWN finds it
	}
	if err := unix.Fchownat(fd, "", int(s.user.UID), int(s.user.GID), unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("chown %s: %w", path, err)
	}
	return nil
}

package privsep

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/spawn"
)

// A Session is a daemon's tie to its spawner.
type Session struct {
	// NotifyFD is what --notify-fd names, in this process; 0 is none.
	NotifyFD int
	// Remote starts the programs, and Binder makes the sockets.
	Remote *Remote
	Binder *Binder

	client *Client
	flags  *pflag.FlagSet

	mu      sync.Mutex // guards the fields below
	bundle  int        // a descriptor of what was read before this process began; -1: Load has read it
	pending uint64     // generation that Load has returned; 0: none
	current uint64     // the last one that was committed

	unreached []string // of the Bundle that Load has read last
}

// NewSession takes over what the spawner has given to this process, and gives up system calls: to
// start processes too, unless there are functions of which nobody knows what they need. Flags
// override keys, as in config.Load. Run is to be called.
func NewSession(flags *pflag.FlagSet, hasFunctions bool) (*Session, error) {
	if err := spawn.RefuseCalls(!hasFunctions); err != nil {
		return nil, err
	}
	first := role.numbers[0]
	conn, err := NewConn(first)
	if err != nil {
		return nil, err
	}
	conn.MaxFDs = 1
	unix.CloseOnExec(first + 1)
	s := &Session{client: NewClient(conn), flags: flags, bundle: first + 1}
	s.Remote, s.Binder = NewRemote(s.client), &Binder{s.client}
	if role.numbers[1] == 1 {
		s.NotifyFD = first + 2
	}
	return s, nil
}

// Run returns why the spawner is no more.
func (s *Session) Run() error {
	err := s.client.Run()
	s.Remote.Gone()
	if err != nil {
		return fmt.Errorf("%w: %v", ErrGone, err)
	}
	return ErrGone
}

// askTime is how long the spawner may take to answer: it reads the configuration meanwhile, and
// may be stopped.
const askTime = readTime + 10*time.Second

// Load returns the configuration as the spawner has read it. Commit or Abort is called next.
func (s *Session) Load() (*config.Config, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bundle >= 0 {
		fd := s.bundle
		s.bundle = -1
		s.begin(1)
		return s.parse(fd)
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), askTime, errors.New("the process that reads the configuration does not answer"))
	defer cancel()
	m, err := s.client.Ask(ctx, KindReload, nil)
	if err != nil {
		return nil, unrefuse(err)
	}
	defer m.Close()
	d := decoder{b: m.Body}
	number := d.uint()
	if err := d.end(); err != nil || len(m.FDs) != 1 {
		return nil, fmt.Errorf("read the configuration: %w", ErrBroken)
	}
	fd := m.FDs[0]
	m.FDs = nil
	s.begin(number)
	c, err := s.parse(fd)
	if err != nil {
		s.settle(KindAbort)
	}
	return c, err
}

// begin has programs that are planned from now on be started under a generation.
func (s *Session) begin(number uint64) {
	s.pending = number
	s.Remote.SetGeneration(number)
}

// parse takes over a descriptor.
func (s *Session) parse(fd int) (*config.Config, error) {
	defer unix.Close(fd)
	var b config.Bundle
	if err := unseal(fd, &b); err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	s.unreached = b.Unreached
	return b.Load(s.flags)
}

// Unreached says what the programs of the configuration that was loaded last cannot go to.
func (s *Session) Unreached() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unreached
}

// Commit has the spawner start programs as the configuration says that Load has returned last,
// from now on. It does nothing if that is so already.
func (s *Session) Commit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settle(KindCommit)
}

// Abort has it forget that configuration, unless Commit was called. An error would be that of
// a spawner that has gone.
func (s *Session) Abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(KindAbort)
}

// settle is called with mu held.
func (s *Session) settle(kind Kind) error {
	if s.pending == 0 {
		return nil
	}
	number := s.pending
	s.pending = 0
	if kind == KindAbort {
		s.Remote.SetGeneration(s.current)
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), askTime, errors.New("the process that starts programs does not answer"))
	defer cancel()
	m, err := s.client.Ask(ctx, kind, appendUint(nil, number))
	if err != nil {
		return err
	}
	m.Close()
	if kind == KindCommit {
		s.current = number
		d := decoder{b: m.Body}
		s.Remote.setCgroups(d.strings())
	}
	return nil
}

// A Successor is another spawner, as the daemon of the one whose place it is to take has it.
type Successor struct {
	PID int

	client *Client
}

// StartSuccessor has the spawner start the program anew, with two sockets for the new daemon.
func (s *Session) StartSuccessor(files []int) (*Successor, error) {
	m, err := askUpgrade(s.client, upgradeStart, 0, files...)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	d := decoder{b: m.Body}
	next := &Successor{PID: int(d.uint()), client: s.client}
	return next, d.end()
}

func askUpgrade(c *Client, order, argument uint64, fds ...int) (*Message, error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), upgradeTime, errors.New("the process that starts the new daemon does not answer"))
	defer cancel()
	return c.Ask(ctx, KindUpgrade, appendUint(appendUint(nil, order), argument), fds...)
}

// upgradeTime is far longer than the spawner takes for an answer, but when it is stopped.
const upgradeTime = time.Minute

// Signal passes a signal on. One that ends is passed on until Commit.
func (s *Successor) Signal(sig unix.Signal) error {
	m, err := askUpgrade(s.client, upgradeSignal, uint64(sig))
	if err == nil {
		m.Close()
	}
	return err
}

// Discard ends it, and tells how it has ended.
func (s *Successor) Discard(atOnce bool) (how string) {
	m, err := askUpgrade(s.client, upgradeDiscard, flags(atOnce))
	if err != nil {
		return err.Error()
	}
	defer m.Close()
	return string(m.Body)
}

// Commit says that it serves, and is the one now.
func (s *Successor) Commit() error {
	m, err := askUpgrade(s.client, upgradeCommit, 0)
	if err == nil {
		m.Close()
	}
	return err
}

// notifyTime is how long the spawner may take to pass on a word.
const notifyTime = 5 * time.Second

// Notify has the spawner tell systemd something (sd_notify(3)), with a descriptor unless fd is
// negative.
func (s *Session) Notify(state string, fd int) error {
	var fds []int
	if fd >= 0 {
		fds = []int{fd}
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), notifyTime, errors.New("the process that speaks to systemd does not answer"))
	defer cancel()
	m, err := s.client.Ask(ctx, KindNotify, []byte(state), fds...)
	if err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	m.Close()
	return nil
}

// SocketFolder is where this process may make sockets that nobody else is to have: the folder
// that a spawner has given to it, or the unit's; "" if there is none.
func SocketFolder() string {
	runtime := config.RuntimeFolder()
	own := OwnFolder(runtime)
	var stat unix.Stat_t
	if runtime != "" && unix.Lstat(own, &stat) == nil && stat.Mode&unix.S_IFMT == unix.S_IFDIR && stat.Uid == uint32(os.Geteuid()) {
		return own
	}
	return runtime
}

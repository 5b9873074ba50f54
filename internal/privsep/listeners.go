package privsep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/spawn"
)

// A Listen is an address of the table, on which the spawner listens for the daemon. It goes by
// what the configuration says of its file: Mode, Owner and Group.
type Listen struct {
	Address      string
	Mode         fs.FileMode
	Owner, Group string

	At    string         // Address with the number of its host in place of a name
	Path  string         // of its file; "": it has none
	By    spawn.Identity // who the file belongs to
	IsOwn bool           // nobody but root can change the folder of the file, or replace it
	Fault string         // why there can be no such socket; "": there can
}

// A Made is the file of a socket that a spawner has made, and by which rights.
type Made struct {
	listen.File
	Of Listen
}

// listeners make the sockets that the table names, give their files mode, owner and group, and
// remove them. The daemon has the sockets; what it has done with them is its own business.
type listeners struct {
	turns chan func() // of the thread that makes files

	mu            sync.Mutex // guards the fields below
	next, current []Listen
	made          []Made
	isReplaced    bool // another process makes the sockets by now
}

// newListeners starts the thread, which has no umask. It ends when turns is closed, as tests do, or with the process.
func newListeners() (*listeners, error) {
	l := &listeners{turns: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			unix.Umask(0)
		}
		ready <- err
		for turn := range l.turns {
			turn()
		}
	}()
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("unshare the umask: %w", err)
	}
	return l, nil
}

// prepare has addresses be those that may be listened on besides the current ones. commit or
// undo is called next.
func (l *listeners) prepare(next []Listen) (commit, undo func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	current := l.current
	l.next = next
	return func() { l.settle(next) }, func() { l.settle(current) }
}

// settle has just these addresses be those that may be listened on.
func (l *listeners) settle(current []Listen) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next, l.current = nil, current
}

// handle answers a KindListen.
func (l *listeners) handle(m *Message) (*Message, error) {
	q, err := parseListen(m)
	if err != nil {
		return nil, err
	}
	var answer *Message
	switch q.what {
	case listenBind, listenBeside:
		answer, err = l.bind(&q)
	case listenPermit:
		err = l.permit(&q)
	case listenFind:
		answer, err = l.find(&q)
	case listenRemove:
		err = l.remove(&q.file)
	default:
		err = dropIncoming(m.FDs[0], q.what == listenDropAll)
	}
	if err != nil {
		return nil, refuseListen(err)
	}
	return answer, nil
}

// entry is what the table has of an address, with just that mode, owner and group.
func (l *listeners) entry(o *listen.Options) (Listen, error) {
	l.mu.Lock()
	isReplaced := l.isReplaced
	l.mu.Unlock()
	if isReplaced {
		return Listen{}, errReplaced
	}
	return l.search(func(e *Listen) bool {
		return e.Address == o.Address && e.Mode == o.Mode && e.Owner == o.Owner && e.Group == o.Group
	}, o.Address)
}

func (l *listeners) search(is func(*Listen) bool, what string) (Listen, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, table := range [][]Listen{l.next, l.current} {
		for i := range table {
			if is(&table[i]) {
				return table[i], nil
			}
		}
	}
	return Listen{}, fmt.Errorf("%.200q is not as the configuration has it", what)
}

// by calls f with the rights that an address has, on the thread that makes files.
func (l *listeners) by(e *Listen, f func(listen.Local) error) (err error) {
	done := make(chan struct{})
	l.turns <- func() {
		defer close(done)
		err = e.with(f)
	}
	<-done
	return err
}

// with calls f with the rights that an address has: root's where nobody else can change the
// folder, and those of the file's owner alone elsewhere.
func (e *Listen) with(f func(listen.Local) error) (err error) {
	binder := listen.Local{}
	if e.Path != "" {
		binder.Owner = &listen.Owner{UID: int(e.By.UID), GID: int(e.By.GID)}
	}
	as := e.By.Look
	if e.IsOwn || e.Path == "" {
		as = e.By.Make
	}
	err = as(func() error { return f(binder) })
	if !e.IsOwn && e.Path != "" && errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w: others than root can change this folder, so only the rights of the socket's owner count there (user %d)", err, e.By.UID)
	}
	return err
}

func (l *listeners) bind(q *listenQuestion) (*Message, error) {
	e, err := l.entry(&q.Options)
	if err != nil {
		return nil, err
	}
	if e.Fault != "" {
		return nil, errors.New(e.Fault)
	}
	var fd int
	var file *listen.File
	o := q.Options
	o.Address = e.At
	err = l.by(&e, func(b listen.Local) (err error) {
		fd, file, err = b.Bind(context.Background(), &o, q.what == listenBeside)
		return err
	})
	if err != nil {
		return nil, err
	}
	if file == nil {
		file = new(listen.File)
	} else {
		l.note(Made{*file, e})
	}
	return &Message{Body: appendFile(nil, file), FDs: []int{fd}}, nil
}

// note remembers a file. Those that had its number or its path before are gone.
func (l *listeners) note(m Made) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made = slices.DeleteFunc(l.made, func(old Made) bool { return old.IsSame(&m.File) || old.Path == m.Path })
	l.made = append(l.made, m)
}

// madeOf is what is remembered of a file. One whose path another one has is gone.
func (l *listeners) madeOf(f *listen.File) (Made, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.made, func(m Made) bool { return m.IsSame(f) })
	if i < 0 && slices.ContainsFunc(l.made, func(m Made) bool { return m.Path == f.Path }) {
		return Made{}, errGone
	}
	if i < 0 {
		return Made{}, fmt.Errorf("%.200q was not made by this process", f.Path)
	}
	return l.made[i], nil
}

var errGone = errors.New("another socket has its place")

// permit gives a file that was made mode, owner and group of an address that leads to it.
func (l *listeners) permit(q *listenQuestion) error {
	e, err := l.entry(&q.Options)
	if err != nil {
		return err
	}
	made, err := l.madeOf(&q.file)
	if err != nil {
		return err
	}
	file := made.File
	file.Path = e.Path
	return l.by(&e, func(b listen.Local) error { return b.Permit(&q.Options, &file) })
}

// find answers which file is at the path of an address.
func (l *listeners) find(q *listenQuestion) (*Message, error) {
	path := q.file.Path
	e, err := l.search(func(e *Listen) bool { return e.Path != "" && e.Path == path }, path)
	if err != nil {
		return nil, err
	}
	var file *listen.File
	err = l.by(&e, func(b listen.Local) (err error) {
		file, err = b.Find(e.Path)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Message{Body: appendFile(nil, file)}, nil
}

// remove removes a file that was made.
func (l *listeners) remove(f *listen.File) error {
	made, err := l.madeOf(f)
	switch {
	case err == errGone:
		return nil
	case err != nil:
		return err
	}
	if err := l.by(&made.Of, func(b listen.Local) error { return b.Remove(&made.File) }); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made = slices.DeleteFunc(l.made, func(m Made) bool { return m.IsSame(f) })
	return nil
}

// dropIncoming is for a socket that listens by TCP. What else it may be is left alone.
func dropIncoming(fd int, all bool) error {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return err
	}
	listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil || protocol != unix.IPPROTO_TCP || listening == 0 {
		return errors.New("it is no socket that listens by tcp")
	}
	return listen.Local{}.DropIncoming(fd, all)
}

// files are those that were made and are there.
func (l *listeners) files() []Made {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.made)
}

// adopt remembers files that a process before this one has made.
func (l *listeners) adopt(files []Made) {
	for _, m := range files {
		l.note(m)
	}
}

// forget leaves files to another process, by their paths.
func (l *listeners) forget(paths []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made = slices.DeleteFunc(l.made, func(m Made) bool { return slices.Contains(paths, filepath.Clean(m.Path)) })
}

// end has no socket be made any more: another process has this one's place.
func (l *listeners) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isReplaced = true
}

// recover remembers the files of sockets that systemd has kept for this process, as far as the
// table has their paths, or they are in the unit's folder, where all sockets are ours: that they are
// what they are called is the word of the daemon before.
func (l *listeners) recover(stored []listen.File) {
	folder := config.RuntimeFolder()
	for _, f := range stored {
		f.Path = filepath.Clean(f.Path) // as it is looked at, and not by links before its dots
		if folder != "" && filepath.Dir(f.Path) == filepath.Clean(folder) && config.TrustFolder(folder) == nil {
			l.note(Made{f, Listen{Path: f.Path, IsOwn: true}})
			continue
		}
		e, err := l.search(func(e *Listen) bool { return e.Path != "" && filepath.Clean(e.Path) == f.Path }, f.Path)
		if err == nil && (!e.IsOwn || config.TrustFolder(filepath.Dir(f.Path)) == nil) {
			l.note(Made{f, e})
		}
	}
}

// removeAll removes what is left, when the daemon was killed.
func (l *listeners) removeAll() {
	for _, m := range l.files() {
		l.remove(&m.File)
	}
}

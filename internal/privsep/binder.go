package privsep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/listen"
)

// A Binder is the listen.Binder of a daemon: it asks the spawner. What takes no right that the
// daemon lacks is done here.
type Binder struct{ client *Client }

// listenTime is how long the spawner may take for what is about a socket. It may be stopped.
const listenTime = 10 * time.Second

func (b *Binder) ask(ctx context.Context, q *listenQuestion, fds ...int) (*Message, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, listenTime, errors.New("the process that makes sockets does not answer"))
	defer cancel()
	m, err := b.client.Ask(ctx, KindListen, q.append(nil), fds...)
	return m, listenErrorOf(err)
}

// Bind is of listen.Binder.
func (b *Binder) Bind(ctx context.Context, o *listen.Options, isBeside bool) (fd int, file *listen.File, err error) {
	what := uint64(listenBind)
	if isBeside {
		what = listenBeside
	}
	m, err := b.ask(ctx, &listenQuestion{what: what, Options: *o})
	if err != nil {
		return -1, nil, err
	}
	defer m.Close()
	d := decoder{b: m.Body}
	made := d.file()
	if err := d.end(); err != nil || len(m.FDs) != 1 {
		return -1, nil, fmt.Errorf("bind: %w", ErrBroken)
	}
	fd = m.FDs[0]
	m.FDs = nil
	if made.Path == "" {
		return fd, nil, nil
	}
	return fd, &made, nil
}

// tell asks for what has no answer.
func (b *Binder) tell(q *listenQuestion, fds ...int) error {
	m, err := b.ask(context.Background(), q, fds...)
	if err == nil {
		m.Close()
	}
	return err
}

// Permit is of listen.Binder.
func (b *Binder) Permit(o *listen.Options, file *listen.File) error {
	return b.tell(&listenQuestion{what: listenPermit, Options: *o, file: *file})
}

// Find is of listen.Binder.
func (b *Binder) Find(path string) (*listen.File, error) {
	found, err := listen.Local{}.Find(path)
	if !errors.Is(err, fs.ErrPermission) {
		return found, err
	}
	m, err := b.ask(context.Background(), &listenQuestion{what: listenFind, file: listen.File{Path: path}})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	d := decoder{b: m.Body}
	file := d.file()
	return &file, d.end()
}

// Remove is of listen.Binder.
func (b *Binder) Remove(file *listen.File) error {
	err := b.tell(&listenQuestion{what: listenRemove, file: *file})
	if errors.Is(err, ErrGone) {
		return nil // the next one finds it stale
	}
	return err
}

// DropIncoming is of listen.Binder.
func (b *Binder) DropIncoming(fd int, all bool) error {
	err := listen.Local{}.DropIncoming(fd, all)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	what := uint64(listenDropNew)
	if all {
		what = listenDropAll
	}
	return b.tell(&listenQuestion{what: what}, fd)
}

func (q *listenQuestion) append(b []byte) []byte {
	b = appendString(appendUint(b, q.what), q.Address)
	b = appendString(appendString(appendUint(b, uint64(q.Mode)), q.Owner), q.Group)
	return appendFile(b, &q.file)
}

// A listenError is what it was.
type listenError struct {
	text    string
	isInUse bool
	errno   unix.Errno
}

func (e *listenError) Error() string { return e.text }

// Is tells what it is, for errors.Is.
func (e *listenError) Is(target error) bool {
	return target == listen.ErrInUse && e.isInUse || e.errno != 0 && (target == e.errno || e.errno.Is(target))
}

// listenErrorOf is an error of a question about a listener.
func listenErrorOf(err error) error {
	ref, ok := errors.AsType[*Refusal](err)
	if !ok {
		return err
	}
	d := decoder{b: ref.Body}
	isInUse, errno, text := d.uint() == 1, unix.Errno(d.uint()), d.string()
	if d.end() != nil {
		return err
	}
	return &listenError{text, isInUse, errno}
}

package privsep

import (
	"errors"
	"syscall"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/spawn"
)

// An exit is what the daemon is told of a program's exit.
type exit struct {
	handle    uint64
	isGivenUp bool // it has not exited: it cannot be signalled
	isReaped  bool // the rest is known, and the spawner has forgotten it
	err       error
	*spawn.Exit
}

func (e *exit) append(b []byte) []byte {
	x, text := e.Exit, ""
	if x == nil {
		x = new(spawn.Exit)
	}
	if e.err != nil {
		text = e.err.Error()
	}
	b = appendUint(b, e.handle)
	b = appendUint(b, flags(e.isGivenUp, e.isReaped, x.GivenUp, x.Full))
	b = appendUint(b, uint64(x.Status))
	b = appendUint(b, uint64(x.Usage.Utime.Nano()))
	b = appendUint(b, uint64(x.Usage.Stime.Nano()))
	b = appendUint(b, uint64(x.Usage.Maxrss))
	return appendString(appendString(b, x.OutOfMemory), text)
}

func flags(all ...bool) (n uint64) {
	for i, is := range all {
		if is {
			n |= 1 << i
		}
	}
	return n
}

func parseExit(body []byte) (e exit, err error) {
	d := decoder{b: body}
	x := new(spawn.Exit)
	e.handle, e.Exit = d.uint(), x
	bits := d.uint()
	e.isGivenUp, e.isReaped, x.GivenUp, x.Full = bits&1 != 0, bits&2 != 0, bits&4 != 0, bits&8 != 0
	x.Status = syscall.WaitStatus(d.uint())
	x.Usage.Utime = syscall.NsecToTimeval(int64(d.uint()))
	x.Usage.Stime = syscall.NsecToTimeval(int64(d.uint()))
	setMaxrss(&x.Usage, int64(d.uint()))
	x.OutOfMemory = d.string()
	if text := d.string(); text != "" {
		e.err = errors.New(text)
	}
	return e, d.end()
}

// setMaxrss writes a field whose type is not the same everywhere.
func setMaxrss(u *syscall.Rusage, kib int64) { assign(&u.Maxrss, kib) }

func assign[T int32 | int64](to *T, n int64) { *to = T(n) }

// result is what Reap returns.
func (e *exit) result(terminated bool) (*spawn.Exit, error) {
	if e.Exit == nil {
		return &spawn.Exit{Terminated: terminated, GivenUp: true}, nil
	}
	e.Terminated = terminated
	return e.Exit, e.err
}

// refusalOf is an error as it crosses: the answer that it has, if it has one, and its text.
func refusalOf(err error) *Refusal {
	var ref *protocol.Refusal
	if errors.As(err, &ref) {
		return &Refusal{appendString(appendUint(appendUint(nil, uint64(ref.HTTPStatus)), uint64(ref.AppStatus)), err.Error())}
	}
	return &Refusal{appendString(appendUint(appendUint(nil, 0), 0), err.Error())}
}

// errorOf is what it was, as far as anybody tells errors of programs apart.
func errorOf(err error) error {
	var ref *Refusal
	if !errors.As(err, &ref) {
		return err
	}
	d := decoder{b: ref.Body}
	status, app, text := d.uint(), d.uint(), d.string()
	switch {
	case d.end() != nil:
		return err
	case status == 0:
		return errors.New(text)
	}
	return &protocol.Refusal{HTTPStatus: int(status), AppStatus: uint32(app), Reason: errors.New(text)}
}

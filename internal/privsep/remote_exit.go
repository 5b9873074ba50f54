package privsep

import (
	"errors"
	"syscall"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/spawn"
)

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

// strings is a list. It takes no more memory than what has come can fill.
func (d *decoder) strings() []string {
	n := d.uint()
	if n > uint64(len(d.b)/4) {
		d.bad = true
	}
	if d.bad || n == 0 {
		return nil
	}
	list := make([]string, 0, n)
	for range n {
		list = append(list, d.string())
	}
	return list
}

package privsep

import (
	"errors"

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

// refusalOf is an error as it crosses: the answer that it has, if it has one, and its text.
func refusalOf(err error) *Refusal {
	var ref *protocol.Refusal
	if errors.As(err, &ref) {
		return &Refusal{appendString(appendUint(appendUint(nil, uint64(ref.HTTPStatus)), uint64(ref.AppStatus)), err.Error())}
	}
	return &Refusal{appendString(appendUint(appendUint(nil, 0), 0), err.Error())}
}

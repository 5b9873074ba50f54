package privsep

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/listen"
)

// What KindListen asks for.
const (
	listenBind      = iota // a socket at an address of the table
	listenBeside           // likewise, beside others of ours that let it
	listenPermit           // mode, owner and group of an address of the table for the file there
	listenFind             // which file is at a path of the table
	listenRemove           // of a file that was made
	listenDropNew          // of the socket that comes along
	listenDropAll          // likewise
	listenQuestions        // how many there are
)

// A listenQuestion is the body of KindListen. Of an address there is what the configuration
// says of its file, as it says it.
type listenQuestion struct {
	what uint64
	listen.Options
	file listen.File
}

// parseListen takes a question off a message, whose descriptor stays there.
func parseListen(m *Message) (q listenQuestion, err error) {
	d := decoder{b: m.Body}
	q.what, q.Address = d.uint(), d.string()
	q.Mode, q.Owner, q.Group = fs.FileMode(d.uint()), d.string(), d.string()
	q.file = d.file()
	fds := 0
	if q.what == listenDropNew || q.what == listenDropAll {
		fds = 1
	}
	switch err := d.end(); {
	case err != nil:
		return q, err
	case q.what >= listenQuestions || len(m.FDs) != fds || strings.ContainsRune(q.file.Path, 0):
		return q, fmt.Errorf("%w: question %d about a listener with %d descriptors", ErrBroken, q.what, len(m.FDs))
	}
	return q, nil
}

func appendFile(b []byte, f *listen.File) []byte {
	return appendUint(appendUint(appendString(b, f.Path), f.Dev), f.Ino)
}

func (d *decoder) file() listen.File {
	return listen.File{Path: d.string(), Dev: d.uint(), Ino: d.uint()}
}

// refuseListen is an error as it crosses: what callers tell apart, and its text.
func refuseListen(err error) *Refusal {
	var errno unix.Errno
	errors.As(err, &errno)
	return &Refusal{appendString(appendUint(appendUint(nil, flags(errors.Is(err, listen.ErrInUse))), uint64(errno)), err.Error())}
}

package server

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// errBodyTooLarge tells that STDIN is longer than limits.body.
var errBodyTooLarge = errors.New("request body is larger than limits.body")

// A body is a request's STDIN on its way from the read loop, which must not wait, to
// a runner, which may be slow. There are two: one that is complete before anybody reads
// it, and one that is read as it comes.
type body interface {
	// Read, WriteTo and Close are the runner's. They fail once the request's context
	// has ended, with its cause; after Close they find the end.
	io.Reader
	io.WriterTo
	io.Closer

	// write takes a part, without waiting for anybody. An error means that the body
	// cannot become whole: no more is to be written.
	write(p []byte) error
	// end tells that all has come.
	end()
	// length is how much has come so far.
	length() int64
	// release gives up what the body holds. Nobody reads it any more.
	release()
}

func newBody(ctx context.Context, s *Settings) body {
	if s.Limits.RequestBuffering {
		return &wholeBody{ctx: ctx, dir: s.SpoolDir, memory: s.Limits.BodyMemory, limit: s.Limits.Body}
	}
	return newLiveBody(s)
}

// openSpool makes a file that no folder names.
func openSpool(dir string) (*os.File, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err == nil {
		return f, nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) {
		return nil, err
	}
	if f, err = os.CreateTemp(dir, "fcgid-spool-"); err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

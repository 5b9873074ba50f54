package server

import (
	"errors"
	"io"
)

// errBodyTooLarge tells that STDIN is longer than limits.body.
var errBodyTooLarge = errors.New("request body is larger than limits.body")

// A body is a request's STDIN on its way from the read loop, which waits for nothing but a
// file that it writes, to a runner, which may be slow. There are two: one that is complete
// before anybody reads it, and one that is read as it comes.
type body interface {
	// Read, WriteTo and Close are the runner's. They fail once the request's context
	// has ended, with its cause; after Close they find the end.
	io.Reader
	io.WriterTo
	io.Closer

	// write takes a part. It waits for a file at the most. An error means that the body
	// cannot become whole: no more is to be written.
	write(p []byte) error
	// complete tells that all has come. An error is that of write.
	complete() error
	// length is how much has come so far.
	length() int64
	// discard gives up what the body holds. Nobody reads it any more.
	discard()
}

func newBody(r *request) body {
	limits := &r.settings.Limits
	if limits.RequestBuffering {
		return &wholeBody{ctx: r.ctx, spool: spool{req: r}, memory: limits.BodyMemory, limit: limits.Body}
	}
	return newLiveBody(r)
}

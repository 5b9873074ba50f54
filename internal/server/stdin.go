package server

import (
	"errors"
	"strconv"
)

// addStdin takes a part of STDIN; an empty one ends it.
func (r *request) addStdin(content []byte) {
	r.received.Add(int64(len(content)))
	switch {
	case len(content) == 0:
		r.consumed.Store(true)
		r.closeStdin()
	case r.stdinClosed || r.refusal != nil:
	default:
		if r.stdin == nil {
			r.stdin = newBody(r)
		}
		if err := r.stdin.write(content); err != nil {
			r.bodyBroke(err)
		}
	}
}

// bodyBroke answers for a body that cannot be taken. The program is told by the end
// of its context, so that what it makes of it cannot come before the reason.
func (r *request) bodyBroke(err error) {
	r.refusal = overload(err)
	if errors.Is(err, errBodyTooLarge) {
		r.refusal = refuse(413, err)
	}
	if !r.launched {
		r.stdin.discard()
	}
	if r.stateNow() != stateParams { // else endParams does it, when it is known what was asked
		r.conn.table.end(r, r.refusal)
	}
}

// closeStdin takes no more of STDIN.
func (r *request) closeStdin() {
	if r.stdinClosed {
		return
	}
	r.stdinClosed = true
	if r.stdin != nil {
		if err := r.stdin.complete(); err != nil && r.refusal == nil {
			r.bodyBroke(err)
		}
	}
	r.silence.note(r)
	r.stdinOver.happen()
}

// dropStdin is closeStdin for what nobody wants.
func (r *request) dropStdin() {
	if r.stdin != nil && !r.launched {
		r.stdin.discard()
	}
	r.closeStdin()
}

// setLength has CONTENT_LENGTH say what came, since a CGI program reads so much and
// php-cgi waits for it.
func (r *request) setLength() {
	var size int64
	if r.stdin != nil {
		size = r.stdin.length()
	}
	declared, given := r.req.Params.Lookup("CONTENT_LENGTH")
	text := strconv.FormatInt(size, 10)
	if declared == text || size == 0 && declared == "" {
		return
	}
	if given && r.hasLength && size > 0 { // web servers that keep the body to themselves send the length all the same
		r.server.opt.Log.Info("CONTENT_LENGTH is not the length of the body that came", "request", r.req.Serial,
			"client", r.req.Client(), "script", r.req.Params.Get("SCRIPT_FILENAME"), "declared", declared, "came", size)
	}
	r.req.Params.Set("CONTENT_LENGTH", text)
}

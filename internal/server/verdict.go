package server

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/http"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/protocol"
)

// A verdict says how a request ends. It may be the cause of its context's end.
type verdict struct {
	httpStatus int // of an answer of our own; 0 is none: what its program has made goes out
	appStatus  uint32
	status     protocol.Status
	outcome    Outcome
	reason     error // why it is not as was asked, or nil
}

// Error is the reason.
func (v *verdict) Error() string { return v.reason.Error() }

func refuse(httpStatus int, reason error) *verdict {
	return &verdict{httpStatus, uint32(httpStatus), protocol.StatusRequestComplete, Rejected, reason}
}

func overload(reason error) *verdict {
	return &verdict{503, 503, protocol.StatusOverloaded, Overloaded, reason}
}

// wireEnd is what END_REQUEST says of it.
func (v *verdict) wireEnd() protocol.End {
	return protocol.End{AppStatus: v.appStatus, Status: v.status}
}

// isOurs reports whether an answer of our own goes out. Where some of the program's is out it can
// only be cut short.
func (v *verdict) isOurs(isOut bool) bool { return v.httpStatus != 0 && !isOut }

// judge decides how a request ends. Where an answer of our own has to be, what its program
// has begun and not sent is dropped.
func (r *request) judge(appStatus uint32, err error, hasHead, isOut bool) verdict {
	if err != nil {
		if v, ok := judgeError(err); ok {
			return v
		}
	}
	if hasHead && (err == nil || isOut) {
		return r.judgeAnswer(appStatus, err)
	}
	var instead []byte // of a header
	if err == nil {
		instead = r.answer.head
		err = cgi.Unfinished(instead)
	}
	if appStatus == 0 {
		appStatus = 500
	} else {
		err = fmt.Errorf("%w (%s)", err, cgi.ExitText(appStatus))
	}
	err = cgi.HeaderError(err, instead)
	return verdict{502, appStatus, 0, Failed, err}
}

// judgeAnswer is the verdict on an answer that its program has begun.
func (r *request) judgeAnswer(appStatus uint32, err error) verdict {
	switch short := r.answer.checkWhole(); {
	case err != nil:
		return verdict{0, cmp.Or(appStatus, 500), 0, Failed, err}
	case short != nil && appStatus != 0:
		return verdict{0, appStatus, 0, Failed, fmt.Errorf("%w (%s)", short, cgi.ExitText(appStatus))}
	case short != nil:
		return verdict{0, appStatus, 0, Failed, short}
	}
	return verdict{0, appStatus, 0, OK, nil}
}

// judgeError is what an error means that says how a request is to end.
func judgeError(err error) (v verdict, ok bool) {
	var ours *verdict
	var refused *protocol.Refusal
	switch {
	case errors.As(err, &ours):
		return *ours, true
	case errors.Is(err, ErrAborted), errors.Is(err, ErrClientGone): // also of a Runner that refuses for it
		return verdict{0, 0, 0, Aborted, err}, true
	case errors.As(err, &refused):
		v := verdict{refused.HTTPStatus, refused.AppStatus, 0, Rejected, err}
		switch {
		case refused.HTTPStatus == http.StatusServiceUnavailable:
			v.status, v.outcome = protocol.StatusOverloaded, Overloaded
		case refused.HTTPStatus == http.StatusRequestTimeout: // a handler has its own idea of how long
			v.outcome = TimedOut
		case refused.HTTPStatus >= 500:
			v.outcome = Failed
		}
		return v, true
	case errors.Is(err, ErrTimeout), errors.Is(err, ErrReadTimeout):
		return verdict{408, 408, 0, TimedOut, err}, true
	case errors.Is(err, ErrShutdown):
		return verdict{503, 503, protocol.StatusOverloaded, Overloaded, err}, true
	}
	return verdict{}, false
}

// ourAnswer is a complete CGI response: web servers look at nothing else.
func ourAnswer(status int, isHead bool) []byte {
	text := fmt.Sprintf("%d %s", status, http.StatusText(status))
	retry := ""
	if status == http.StatusServiceUnavailable {
		retry = "Retry-After: 1\r\n"
	}
	answer := "Status: " + text + "\r\nContent-Type: text/plain\r\n" + retry + "\r\n"
	if !isHead {
		answer += text + "\n"
	}
	return []byte(answer)
}

// ourBody is how long the body of an ourAnswer is.
func ourBody(answer []byte) int {
	return len(answer) - bytes.Index(answer, []byte("\r\n\r\n")) - len("\r\n\r\n")
}

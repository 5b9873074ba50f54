package server

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/protocol"
)

// A refusal is an answer of our own.
type refusal struct {
	httpStatus int
	appStatus  uint32
	status     protocol.Status
	outcome    Outcome
	reason     error
}

// Error is the reason: a refusal may be the cause of a context's end.
func (r *refusal) Error() string { return r.reason.Error() }

func refuse(httpStatus int, reason error) *refusal {
	return &refusal{httpStatus, uint32(httpStatus), protocol.StatusRequestComplete, Rejected, reason}
}

func overload(reason error) *refusal {
	return &refusal{503, 503, protocol.StatusOverloaded, Overloaded, reason}
}

// isOwn reports whether v is an answer of our own. Once some of the program's has left
// it can only be cut short.
func (v *refusal) isOwn(left bool) bool { return v.httpStatus != 0 && !left }

// verdict decides how a request ends. A zero httpStatus is no answer of our
// own; where one has to be, what its program has begun and not sent is dropped.
func (r *request) verdict(appStatus uint32, err error, begun, left bool) refusal {
	if err != nil {
		if v, ok := knownVerdict(err); ok {
			return v
		}
	}
	if begun && (err == nil || left) {
		return r.ended(appStatus, err)
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
	return refusal{502, appStatus, 0, Failed, err}
}

// ended is the verdict on an answer that its program has begun.
func (r *request) ended(appStatus uint32, err error) refusal {
	switch short := r.answer.checkWhole(); {
	case err != nil && appStatus == 0:
		return refusal{0, 500, 0, Failed, err}
	case err != nil:
		return refusal{0, appStatus, 0, Failed, err}
	case short != nil && appStatus != 0:
		return refusal{0, appStatus, 0, Failed, fmt.Errorf("%w (%s)", short, cgi.ExitText(appStatus))}
	case short != nil:
		return refusal{0, appStatus, 0, Failed, short}
	}
	return refusal{0, appStatus, 0, OK, nil}
}

// knownVerdict is what an error means that says how a request is to end.
func knownVerdict(err error) (v refusal, ok bool) {
	var own *refusal
	var refused *protocol.Refusal
	switch {
	case errors.As(err, &own):
		return *own, true
	case errors.Is(err, ErrAborted), errors.Is(err, ErrClientGone): // also of a Runner that refuses for it
		return refusal{0, 0, 0, Aborted, err}, true
	case errors.As(err, &refused):
		v := refusal{refused.HTTPStatus, refused.AppStatus, 0, Rejected, err}
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
		return refusal{408, 408, 0, TimedOut, err}, true
	case errors.Is(err, ErrShutdown):
		return refusal{503, 503, protocol.StatusOverloaded, Overloaded, err}, true
	}
	return refusal{}, false
}

// ownAnswer is a complete CGI response: web servers look at nothing else.
func ownAnswer(status int, isHead bool) []byte {
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

// ownBody is how long the body of an ownAnswer is.
func ownBody(answer []byte) int {
	return len(answer) - bytes.Index(answer, []byte("\r\n\r\n")) - len("\r\n\r\n")
}

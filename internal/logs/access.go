package logs

import (
	"time"

	"go.uber.org/zap"
)

// A Request is a line of the access log.
type Request struct {
	Pool                        string
	ID                          uint64
	Remote                      string // the web server
	Client, Method, URI, Script string // as the web server says
	PID                         int    // of the program; 0 without one
	Outcome                     string
	Status                      int // of the response; 0 without one
	AppStatus                   uint32
	Queue, Run                  time.Duration
	Received, Sent              int64 // bytes of STDIN and of STDOUT
	Reason                      error // why the answer is not its program's, or nil
}

// HasAccess tells whether there is an access log.
func (l *Logs) HasAccess() bool { return l.access.isOn() }

// Access writes the line of a request.
func (l *Logs) Access(r *Request) {
	pid := zap.Skip()
	if r.PID != 0 {
		pid = zap.Int("pid", r.PID)
	}
	l.accessLine.Info("",
		zap.String("pool", r.Pool), zap.Uint64("request", r.ID), zap.String("remote", r.Remote),
		zap.String("client", r.Client), zap.String("method", r.Method), zap.String("uri", r.URI), zap.String("script", r.Script), pid,
		zap.String("outcome", r.Outcome), zap.Int("status", r.Status), zap.Uint32("app_status", r.AppStatus),
		zap.Duration("queue", r.Queue), zap.Duration("run", r.Run),
		zap.Int64("received", r.Received), zap.Int64("sent", r.Sent), zap.Error(r.Reason),
	)
}

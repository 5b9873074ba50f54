package pool

import (
	"sync"

	"github.com/fcgid/fcgid/internal/access"
	"github.com/fcgid/fcgid/internal/logs"
	"github.com/fcgid/fcgid/internal/server"
)

// accessLines are used again: one is larger than all else that a line takes.
var accessLines = sync.Pool{New: func() any { return new(access.Line) }}

// logAccess writes the access log's line of a request.
func logAccess(l *logs.Logs, pool string, r *server.Result) {
	line := accessLines.Get().(*access.Line)
	defer accessLines.Put(line)
	*line = access.Line{
		Pool: pool, ID: r.ID.Append(line.ID[:0]), Serial: r.Serial, Remote: r.Remote, PID: r.PID, Params: r.Params,
		Header: r.Header, Status: r.HTTPStatus, AppStatus: r.End.AppStatus, Outcome: string(r.Outcome), Reason: r.Reason,
		In: r.Received, Out: r.Sent, Body: r.Body, Begun: r.Begun, Ended: r.Ended,
		Queue: r.Queue, Run: r.Run, FirstByte: r.FirstByte,
		Usage: access.Usage(r.Usage),
	}
	l.Access(line)
	*line = access.Line{ID: line.ID}
}

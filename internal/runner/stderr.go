package runner

import (
	"io"
	"sync"
	"syscall"

	"go.uber.org/zap"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/nbio"
	"github.com/fcgid/fcgid/internal/protocol"
)

// lines takes a script's STDERR to the log, line by line, and to the web server.
type lines struct {
	process *Process
	req     *protocol.Request
	script  string
	child   *child

	cutter cgi.LineCutter
}

var stderrBuffers = sync.Pool{New: func() any { return new([4 << 10]byte) }}

// copyStderr takes all of the child's STDERR to w until its end, or until
// lingering is over, and closes it.
func (c *child) copyStderr(w io.Writer) {
	defer c.stderr.Close()
	rc, err := c.stderr.SyscallConn()
	for err == nil {
		err = copyOnce(rc, w)
	}
	if c.isLate(err) {
		rest(c.stderr, w)
	}
}

func copyOnce(rc syscall.RawConn, w io.Writer) error {
	var buf *[4 << 10]byte
	get := func() []byte { buf = stderrBuffers.Get().(*[4 << 10]byte); return buf[:] }
	put := func() { stderrBuffers.Put(buf) }
	n, err := nbio.Read(rc, get, put)
	defer put()
	if err != nil {
		return err
	}
	_, err = w.Write(buf[:n])
	return err
}

// Write takes a part of STDERR. That the web server does not take it is no
// error: the script is not to notice.
func (l *lines) Write(p []byte) (int, error) {
	if l.process.opt.Stderr != StderrLog {
		l.req.Stderr.Write(p)
	}
	if l.process.opt.Stderr != StderrClient {
		l.cutter.Add(p, l.log)
	}
	return len(p), nil
}

func (l *lines) log(line string) {
	l.process.opt.Log.Info("script stderr", zap.String("line", line),
		zap.Uint64("request", l.req.Serial), zap.String("script", l.script), zap.Int("pid", l.child.pid))
}

package runner

import (
	"bytes"
	"io"
	"sync"
	"syscall"

	"go.uber.org/zap"

	"github.com/fcgid/fcgid/internal/nbio"
	"github.com/fcgid/fcgid/internal/protocol"
)

// maxLine is the longest line of a script's STDERR that is logged as one.
const maxLine = 16 << 10

// lines takes a script's STDERR to the log, line by line, and to the web server.
type lines struct {
	process *Process
	req     *protocol.Request
	script  string
	child   *child

	cutter lineCutter
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
		l.cutter.add(p, l.log)
	}
	return len(p), nil
}

func (l *lines) log(line string) {
	l.process.opt.Log.Info("script stderr", zap.String("line", line),
		zap.Uint64("request", l.req.Serial), zap.String("script", l.script), zap.Int("pid", l.child.pid))
}

// A lineCutter cuts text into lines of at most maxLine bytes.
type lineCutter struct {
	partial []byte // a line that has not ended
}

// add takes a part of the text and calls emit with each line that has ended.
func (l *lineCutter) add(p []byte, emit func(line string)) {
	for len(p) > 0 {
		n := bytes.IndexByte(p, '\n')
		ended := n >= 0
		if !ended {
			n = len(p)
		}
		if room := maxLine - len(l.partial); n > room {
			n, ended = room, false
		}
		l.partial = append(l.partial, p[:n]...)
		p = p[n:]
		if ended {
			p = p[1:]
		}
		if ended || len(l.partial) == maxLine {
			l.flush(emit)
		}
	}
}

// flush calls emit with the line that has come. An empty one says nothing.
func (l *lineCutter) flush(emit func(line string)) {
	line := bytes.TrimSuffix(l.partial, []byte{'\r'})
	if len(line) > 0 {
		emit(string(line))
	}
	l.partial = l.partial[:0]
}

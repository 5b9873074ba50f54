package pool

import (
	"log/slog"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/protocol"
)

// A functionStderr takes what a function writes to STDERR to the log, as that of a
// program. The function may use it from several goroutines.
type functionStderr struct {
	log   *slog.Logger
	admit func(bytes int) bool
	req   *protocol.Request
	lines cgi.Entries
}

// Write takes a part of STDERR.
func (s *functionStderr) Write(p []byte) (int, error) {
	s.lines.Add(p, s.say)
	return len(p), nil
}

// flush logs what has not ended.
func (s *functionStderr) flush() { s.lines.Flush(s.say) }

func (s *functionStderr) say(line string) {
	if s.admit != nil && !s.admit(len(line)) {
		return
	}
	s.log.Info("function stderr", "line", line,
		"request", s.req.Serial, "id", s.req.ID.String(), "script", s.req.Params.Get("SCRIPT_FILENAME"))
}

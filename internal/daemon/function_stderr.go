package daemon

import (
	"sync"

	"go.uber.org/zap"
	"go.uber.org/zap/zapio"

	"github.com/fcgid/fcgid/internal/protocol"
)

// A functionStderr takes what a function writes to STDERR to the log, line by
// line, as that of a program. The function may use it from several goroutines.
type functionStderr struct {
	log *zap.Logger
	req *protocol.Request

	mu    sync.Mutex    // guards the field below
	lines *zapio.Writer // nil until something is written
}

// Write takes a part of STDERR.
func (s *functionStderr) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines == nil {
		s.lines = &zapio.Writer{Log: s.log.With(
			zap.Uint64("request", s.req.Serial), zap.String("script", s.req.Params.Get("SCRIPT_FILENAME")), zap.String("stream", "stderr"))}
	}
	return s.lines.Write(p)
}

// flush logs a line that has not ended.
func (s *functionStderr) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines != nil {
		s.lines.Sync()
	}
}

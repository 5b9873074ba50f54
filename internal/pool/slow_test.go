package pool

import (
	"io"
	"testing"
)

// A reload may remove slow.command after it was seen that there is one.
func TestSlowCommandRemoved(t *testing.T) {
	s := newTestSet(t)
	p := s.newPool("a")
	defer p.slow.close()
	if err := p.slow.trace(t.Context(), 1, io.Discard); err == nil {
		t.Error("no error")
	}
}

package pool

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/logtest"
	"github.com/fcgid/fcgid/internal/protocol"
)

// What a function writes at once is one entry; one without an end is cut before the
// request ends. It is a field: a message is the same for all, and goes to terminals as it is.
func TestFunctionStderr(t *testing.T) { synctest.Test(t, testFunctionStderr) }

func testFunctionStderr(t *testing.T) {
	log, entries := logtest.New()
	s := &functionStderr{log: log, req: &protocol.Request{Serial: 7}}
	write := func(text string, want ...int) {
		t.Helper()
		if n, err := s.Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("Write of %d bytes: %d, %v", len(text), n, err)
		}
		time.Sleep(time.Second) // what may go on waits for a moment
		synctest.Wait()
		var got []int
		for _, e := range entries.Take() {
			line, _ := e.Fields["line"].(string)
			got = append(got, len(line))
			if e.Message != "function stderr" || e.Fields["request"] != uint64(7) {
				t.Errorf("logged %v", e)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("lines of %v bytes were logged, want %v", got, want)
		}
	}
	write("one\nfi")
	write("ve.\n", 9)
	write(strings.Repeat("x", 40<<10), 16<<10, 16<<10)
	write("\n", 8<<10)
	write("\x1b[2J\n", 4)
	write("rest")
	s.flush()
	if got := entries.Take(); len(got) != 1 || got[0].Fields["line"] != "rest" {
		t.Errorf("at the end %v were logged, want the rest", got)
	}
}

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
// request ends.
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
			got = append(got, len(e.Message))
			if e.Fields["request"] != uint64(7) || e.Fields["stream"] != "stderr" {
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
	write("rest")
	s.flush()
	if got := entries.Take(); len(got) != 1 || got[0].Message != "rest" {
		t.Errorf("at the end %v were logged, want the rest", got)
	}
}

package privsep

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/fcgid/fcgid/internal/listen"
)

// maxNotification is the size in bytes of what systemd takes at most (sd_notify(3)).
const maxNotification = 4096

// notifiable are the words that a daemon has for systemd, those that end in = with any value.
var notifiable = []string{
	"READY=1", "RELOADING=1", "STOPPING=1", "WATCHDOG=1", "STATUS=", "MONOTONIC_USEC=", "EXTEND_TIMEOUT_USEC=",
	"FDSTORE=1", "FDSTOREREMOVE=1", "FDPOLL=0", "FDNAME=",
}

// isOf reports whether a word says that the successor is the main process.
func (s *succession) isOf(word string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next != nil && word == fmt.Sprintf("MAINPID=%d", s.next.PID)
}

// isWord reports whether a line is one to systemd, too, which ends lines in other ways as well, and
// names no socket as if it were another's.
func isWord(line string) bool {
	if name, ok := strings.CutPrefix(line, "FDNAME="); ok && !listen.IsStoreName(name) {
		return false
	}
	return !strings.ContainsFunc(line, unicode.IsControl)
}

// notify passes on a word of the daemon's to systemd, which hears this process alone. None of
// them is about another process, but that the successor is the unit's main one.
func (s *spawner) notify(m *Message) error {
	if len(m.Body) > maxNotification || len(m.FDs) > 1 {
		return errors.New("more than systemd takes at once")
	}
	words := strings.Split(string(m.Body), "\n")
	for _, line := range words {
		if !isWord(line) || !s.succession.isOf(line) && !slices.ContainsFunc(notifiable, func(word string) bool {
			return line == word || strings.HasSuffix(word, "=") && strings.HasPrefix(line, word)
		}) {
			return fmt.Errorf("%q is no word of a daemon's", line)
		}
	}
	isName := func(word string) bool { return strings.HasPrefix(word, "FDNAME=") }
	if slices.Contains(words, "FDSTORE=1") && !slices.ContainsFunc(words, isName) { // which is "stored" then
		return fmt.Errorf("%q is no word of a daemon's without a name", "FDSTORE=1")
	}
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return errors.New("nobody hears it")
	}
	fd := -1
	if len(m.FDs) == 1 {
		fd = m.FDs[0]
	}
	return listen.SendTo(socket, string(m.Body), fd)
}

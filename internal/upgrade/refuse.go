package upgrade

import (
	"encoding/json"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/spawn"
)

// Refuse tells the old daemon why this process, which was to start a new one, does not: the faults
// of a configuration, or an error. It reads nothing that the old one has sent, and does nothing if
// there is none. What does not fit into the socket is lost.
func Refuse(err error, faults []string) {
	fds, ok := spawn.Predecessor()
	if !ok {
		return
	}
	m := message{Kind: kindFailed, Faults: faults}
	if err != nil {
		m.Error = err.Error()
	}
	if text, err := json.Marshal(m); err == nil {
		unix.SendmsgN(fds[0], text, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	}
}

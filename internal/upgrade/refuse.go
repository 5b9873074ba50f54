package upgrade

import (
	"encoding/json"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/spawn"
)

// Refuse tells the old daemon why this process, which was to start a new one, does not, as Fail
// does. It reads nothing that the old one has sent, and does nothing if there is none. What does
// not fit into the socket is lost.
func Refuse(err error, faults []string) {
	fds, ok := spawn.Predecessor()
	if !ok {
		return
	}
	if text, err := json.Marshal(failed(err, faults)); err == nil {
		unix.SendmsgN(fds[0], text, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	}
}

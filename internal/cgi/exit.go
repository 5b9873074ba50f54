package cgi

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// ExitText says how a program has ended: an exit status above 128 is a signal's, as
// shells have it. Nothing here sends SIGKILL to a program whose request has not ended.
func ExitText(status uint32) string {
	signal := syscall.Signal(status - 128)
	switch name := unix.SignalName(signal); {
	case status <= 128 || name == "":
		return fmt.Sprintf("exit status %d", status)
	case signal == unix.SIGKILL:
		return "killed by SIGKILL (out of memory?)"
	default:
		return "killed by " + name
	}
}

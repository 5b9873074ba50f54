// Package terminal says what a file is to a person who looks at it.
package terminal

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Is reports whether f, which may be nil, is a terminal.
func Is(f *os.File) bool {
	if f == nil {
		return false
	}
	conn, err := f.SyscallConn() // Fd would make a FIFO block
	if err != nil {
		return false
	}
	is := false
	err = conn.Control(func(fd uintptr) {
		_, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
		is = err == nil
	})
	return err == nil && is
}

// TakesColours reports whether w is a terminal that takes colours from somebody who does not
// mind them (https://no-color.org).
func TakesColours(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && Is(f)
}

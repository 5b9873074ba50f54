package cgi

import (
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// selfLookers begin the names of interpreters that, as CGI programs, do not run
// the file that the kernel or we give them but one that the params name, be it
// PATH_TRANSLATED: php-cgi, its relatives, and template languages whose
// interpreter is meant to be a web server's handler.
var selfLookers = []string{"php", "lsphp", "hhvm", "eruby", "eperl", "embpcgi", "wsapi", "cgilua"}

// looksItself reports whether a file is such an interpreter, or a script of one.
func looksItself(name string) bool {
	if real, _, err := realPath(name); err == nil && isSelfLooker(real) {
		return true
	}
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) // whatever it is by now
	if err != nil {
		return false // nor can an interpreter read it
	}
	defer f.Close()
	var first [256]byte // as much as the kernel looks at (execve(2))
	n, _ := f.Read(first[:])
	line, ok := strings.CutPrefix(string(first[:n]), "#!")
	if !ok {
		return false
	}
	line, _, _ = strings.Cut(line, "\n")
	return slices.ContainsFunc(strings.Fields(line), isSelfLooker) // also by way of env
}

func isSelfLooker(program string) bool {
	base := path.Base(program)
	return slices.ContainsFunc(selfLookers, func(p string) bool { return strings.HasPrefix(base, p) })
}

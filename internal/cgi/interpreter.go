package cgi

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// selfLookers begin the names of interpreters that, as CGI programs, do not run
// the file that the kernel or we give them but one that the params name, be it
// PATH_TRANSLATED: php-cgi, its relatives, and template languages whose
// interpreter is meant to be a web server's handler.
var selfLookers = []string{"php", "lsphp", "hhvm", "eruby", "eperl", "embpcgi", "wsapi", "cgilua"}

// maxInterpreters is how many interpreters the kernel follows, each a script of
// the next (execve(2)).
const maxInterpreters = 5

// looksItself reports whether a file is such an interpreter, or a script of one,
// by whatever links and scripts its first line leads there.
func looksItself(name string) bool {
	for range maxInterpreters {
		if isLinkOfSelfLooker(name) {
			return true
		}
		words := firstLine(name)
		switch {
		case len(words) == 0:
			return false
		case slices.ContainsFunc(words, isSelfLooker), slices.ContainsFunc(words, isLinkOfSelfLooker): // also by way of env
			return true
		}
		name = words[0]
	}
	return false
}

// isLinkOfSelfLooker reports whether a program is one, whatever the names of the
// links to it. One without a slash is where env(1) finds it.
func isLinkOfSelfLooker(program string) bool {
	folders := []string{""}
	if !strings.Contains(program, "/") {
		folders = filepath.SplitList(os.Getenv("PATH"))
	}
	return slices.ContainsFunc(folders, func(folder string) bool {
		real, _, err := realPath(path.Join(folder, program))
		return err == nil && isSelfLooker(real)
	})
}

// firstLine is what the first line of a script says of its interpreter.
func firstLine(name string) []string {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) // whatever it is by now
	if err != nil {
		return nil // nor can an interpreter read it
	}
	defer f.Close()
	var first [256]byte // as much as the kernel looks at (execve(2))
	n, _ := f.Read(first[:])
	line, ok := strings.CutPrefix(string(first[:n]), "#!")
	if !ok {
		return nil
	}
	line, _, _ = strings.Cut(line, "\n")
	return strings.Fields(line)
}

func isSelfLooker(program string) bool {
	base := path.Base(program)
	return slices.ContainsFunc(selfLookers, func(p string) bool { return strings.HasPrefix(base, p) })
}

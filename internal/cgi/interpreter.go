package cgi

import (
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

// looksItself reports whether a file is such an interpreter, or a script that one of them
// runs. It follows symbolic links, and the first line of each script on the way. A word of
// such a line that is no path is looked for in the folders of search, as env(1) does.
func looksItself(name, search string) bool {
	l := lookout{folders: filepath.SplitList(search), seen: make(map[string]bool)}
	return l.leadsThere(name, maxInterpreters)
}

// A lookout follows first lines. It looks at each file once.
type lookout struct {
	folders []string
	seen    map[string]bool
}

// leadsThere reports whether a program, or one of its interpreters, of which there
// may be so many, looks for its script itself.
func (l *lookout) leadsThere(program string, interpreters int) bool {
	folders := l.folders
	if strings.Contains(program, "/") {
		folders = []string{""}
	}
	for _, folder := range folders {
		real, err := realFile(path.Join(folder, program))
		switch {
		case err != nil || l.seen[real]:
			continue
		case isSelfLooker(real):
			return true
		case interpreters == 0:
			continue
		}
		l.seen[real] = true
		for _, word := range firstLine(real) {
			if isSelfLooker(word) || isExpanded(word) || l.leadsThere(word, interpreters-1) {
				return true
			}
		}
	}
	return false
}

// isExpanded reports whether a word is not what it seems: env -S takes variables and
// quotes from it, and what it comes to is not known here.
func isExpanded(word string) bool { return strings.ContainsAny(word, `$\'"`) }

// commandLooksItself reports whether a command is such an interpreter, also by way of
// another program such as env(1), or of a script that starts it.
func commandLooksItself(command []string, search string) bool {
	for _, word := range command {
		if isSelfLooker(word) || looksItself(word, search) || strings.Contains(word, "/") && startsSelfLooker(word) {
			return true
		}
	}
	return false
}

// maxScript is how much of a script is looked at.
const maxScript = 64 << 10

// startsSelfLooker reports whether a script of a shell has the name of one in it.
func startsSelfLooker(script string) bool {
	if !slices.ContainsFunc(firstLine(script), isShell) {
		return false // most are binaries, of which there is no need to read more
	}
	text, err := beginning(script, maxScript)
	return err == nil && slices.ContainsFunc(strings.FieldsFunc(text, isNoPath), isSelfLooker)
}

// isShell reports whether a program's name is that of a shell.
func isShell(program string) bool { return strings.HasSuffix(path.Base(program), "sh") }

// isNoPath reports whether a character separates the paths in a script.
func isNoPath(c rune) bool { return strings.ContainsRune(" \t\r\n\"'`;&|(){}=", c) }

// firstLine is what the first line of a script says of its interpreter, in words.
func firstLine(name string) []string {
	text, err := beginning(name, 256) // as much as the kernel looks at (execve(2))
	line, ok := strings.CutPrefix(text, "#!")
	if err != nil || !ok {
		return nil // nor can an interpreter read it
	}
	line, _, _ = strings.Cut(line, "\n")
	return strings.Fields(line)
}

// beginning is what a file begins with, whatever it is by now: it waits for nobody.
func beginning(name string, size int) (string, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	text := make([]byte, size)
	for got := 0; ; {
		n, err := unix.Read(fd, text[got:])
		if err == unix.EINTR {
			continue
		}
		if n <= 0 || err != nil {
			return string(text[:got]), err
		}
		got += n
	}
}

func isSelfLooker(program string) bool {
	base := path.Base(program)
	return slices.ContainsFunc(selfLookers, func(p string) bool { return strings.HasPrefix(base, p) })
}

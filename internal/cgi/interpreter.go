package cgi

import (
	"io"
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

// LooksItself reports whether a command is such an interpreter, also by way of another
// program such as env(1), or of a script that starts it.
func LooksItself(command []string) bool {
	for _, word := range command {
		if isSelfLooker(word) || isLinkOfSelfLooker(word) || strings.Contains(word, "/") && (looksItself(word) || startsSelfLooker(word)) {
			return true
		}
	}
	return false
}

// maxScript is how much of a script is looked at.
const maxScript = 64 << 10

// startsSelfLooker reports whether a script of a shell has the name of one in it.
func startsSelfLooker(script string) bool {
	text, err := beginning(script, maxScript)
	if err != nil || !slices.ContainsFunc(firstLine(script), isShell) {
		return false
	}
	return slices.ContainsFunc(strings.FieldsFunc(text, isNoPath), isSelfLooker)
}

// isShell reports whether a program's name is that of a shell.
func isShell(program string) bool { return strings.HasSuffix(path.Base(program), "sh") }

// isNoPath reports whether a character separates the paths in a script.
func isNoPath(c rune) bool { return strings.ContainsRune(" \t\r\n\"'`;&|(){}=", c) }

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
	text, err := beginning(name, 256) // as much as the kernel looks at (execve(2))
	line, ok := strings.CutPrefix(text, "#!")
	if err != nil || !ok {
		return nil // nor can an interpreter read it
	}
	line, _, _ = strings.Cut(line, "\n")
	return strings.Fields(line)
}

// beginning is what a file begins with, whatever it is by now.
func beginning(name string, size int) (string, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text := make([]byte, size)
	n, err := io.ReadFull(f, text)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return string(text[:n]), err
}

func isSelfLooker(program string) bool {
	base := path.Base(program)
	return slices.ContainsFunc(selfLookers, func(p string) bool { return strings.HasPrefix(base, p) })
}

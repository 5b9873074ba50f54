package devserver

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/users"
)

// hint is what to do about a problem; "" is that its reason says it, or that nobody knows.
func (f *front) hint(t *target, p *problem) string {
	switch {
	case t.reason != "":
		return ""
	case p.Status == http.StatusNotFound && f.site.router == "":
		return "There is nothing of that name below " + f.site.dir + ". Where a front controller answers for all paths, start with --router index.php."
	case p.Status == http.StatusNotFound:
		return "There is nothing of that name below " + f.site.dir + "."
	case p.Status == http.StatusForbidden:
		return f.hintForbidden(t)
	case strings.Contains(p.Reason, "Windows line endings"), p.Status == http.StatusBadGateway && showsCR(p.Stderr) && hasWindowsLines(t.name):
		return "The lines of the file end as on Windows: sed -i 's/\\r$//' " + t.name
	case p.Status == http.StatusBadGateway:
		return f.hintFailed(t, p)
	case p.Status == http.StatusRequestTimeout:
		return "The program took longer than it may: --timeout gives it more."
	}
	return ""
}

// hintForbidden is of a script that may not be executed, or not be read.
func (f *front) hintForbidden(t *target) string {
	info, err := os.Stat(t.name)
	extension := filepath.Ext(t.script)
	var at unix.Statfs_t
	switch {
	case t.pool == "" || t.pool == functionPool:
		return ""
	case err != nil:
		return closedFolder(f.site.dir, t.script)
	case t.pool != programPool:
		return mayNot("read", t.name)
	case info.Mode()&0o111 == 0 && extension != "" && f.site.interpreters[extension] == "":
		return "chmod +x " + t.name + ", or name its interpreter: --interpreter " + extension + "=/usr/bin/…"
	case info.Mode()&0o111 == 0:
		return "chmod +x " + t.name
	case unix.Statfs(t.name, &at) == nil && at.Flags&unix.ST_NOEXEC != 0:
		return "It is on a file system that is mounted with noexec: nothing there may be executed."
	}
	return mayNot("execute", t.name)
}

// hintFailed is of a program that has no answer.
func (f *front) hintFailed(t *target, p *problem) string {
	has := func(text string) bool { return strings.Contains(p.Reason, text) }
	extension := filepath.Ext(t.script)
	switch {
	case has("has no #! line") && extension == ".php":
		return f.site.lack(extension)
	case has("has no #! line"):
		text := "The first line must name what runs the file: " + firstLine(extension)
		if program := f.site.interpreters[extension]; program != "" {
			text += "; or chmod -x " + t.name + ", which " + program + " runs then"
		}
		return text
	case has("byte order mark"):
		return "The file must begin with #!: save it as UTF-8 without a byte order mark."
	case has("its interpreter"):
		return "What the first line of the file names is not there: correct it, or install that."
	case len(p.Stderr) > 0:
		return "What the program wrote to STDERR says why it failed."
	case has("exit status"), has("killed by"):
		return "The program failed before its answer, and wrote nothing to STDERR: its exit status is all there is."
	case has("header"), has("without an answer"):
		return "An answer begins with a header and an empty line, for example: Content-Type: text/html"
	}
	return ""
}

// showsCR reports whether what was written to STDERR tells of a carriage return: in the
// name that env looks for or in a command of a shell, escaped by its writer or by
// [status.Printable]; or as an option, which is the end of its line and was cut off.
func showsCR(stderr []string) bool {
	return slices.ContainsFunc(stderr, func(line string) bool {
		return strings.Contains(line, `\r`) || strings.HasSuffix(line, "ption -") || strings.HasSuffix(line, "ption: -")
	})
}

// hasWindowsLines reports whether the first line of a file ends as on Windows.
func hasWindowsLines(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	start := make([]byte, 256)
	n, _ := io.ReadFull(f, start) // a shorter file is no fault
	line, _, ended := bytes.Cut(start[:n], []byte{'\n'})
	return ended && bytes.HasSuffix(line, []byte{'\r'})
}

// firstLine is that of a script of a kind.
func firstLine(extension string) string {
	switch extension {
	case ".py":
		return "#!/usr/bin/env python3"
	case ".pl":
		return "#!/usr/bin/perl"
	case ".rb":
		return "#!/usr/bin/env ruby"
	}
	return "#!/bin/sh"
}

// mayNot says who may not do something with a file that is there, and whose it is; "" is
// that they may.
func mayNot(what, name string) string {
	mode := uint32(unix.R_OK)
	if what != "read" {
		mode = unix.X_OK
	}
	info, err := os.Stat(name)
	if err != nil || unix.Faccessat(unix.AT_FDCWD, name, mode, unix.AT_EACCESS) == nil {
		return ""
	}
	return mayNotText(what, name, info)
}

func mayNotText(what, name string, info fs.FileInfo) string {
	owner := "unknown"
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		owner = users.NameOf(stat.Uid)
	}
	return fmt.Sprintf("user %s may not %s %s (mode %04o, owner %s)", users.NameOf(uint32(os.Geteuid())), what, name, info.Mode().Perm(), owner)
}

// leadsOut says which link on the way to a path leads out of the folder, and where to; "" is
// that none does.
func leadsOut(dir string, root *os.Root, name string) string {
	below := ""
	for part := range strings.SplitSeq(strings.Trim(name, "/"), "/") {
		below = filepath.Join(below, part)
		if _, err := root.Stat(below); err == nil {
			continue
		}
		whole := filepath.Join(dir, below)
		to, err := os.Readlink(whole)
		if err != nil {
			return ""
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(whole), to)
		}
		end, err := filepath.EvalSymlinks(whole)
		switch {
		case err == nil && isWithin(dir, end):
			return fmt.Sprintf("%s leads to %s by a way outside %s, which is not followed: make it a relative link", below, end, dir)
		case err == nil:
			to = end
		case isWithin(dir, to):
			return ""
		}
		return fmt.Sprintf("%s leads to %s, which is outside %s: only what lies below it is served", below, to, dir)
	}
	return ""
}

// isWithin reports whether a path is a folder's or below it.
func isWithin(dir, name string) bool {
	whole, err := filepath.EvalSymlinks(dir)
	for _, dir := range []string{dir, whole} {
		if below, relErr := filepath.Rel(dir, name); err == nil && relErr == nil && filepath.IsLocal(below) {
			return true
		}
	}
	return false
}

// closedFolder says which folder on the way to a path may not be entered.
func closedFolder(dir, name string) string {
	folder := dir
	for part := range strings.SplitSeq(strings.Trim(name, "/"), "/") {
		if text := mayNot("enter", folder); text != "" {
			return text
		}
		folder = filepath.Join(folder, part)
	}
	return "a folder on its way may not be entered"
}

package cgi

import (
	"path"
	"strings"
)

// agree makes what the params say of files say the same: the program that is
// told of them must not find another file than the one that was looked at. What
// SCRIPT_NAME and PATH_INFO, put together, say of the URL stays as it was.
// (RFC 3875, sections 4.1.5, 4.1.6 and 4.1.13.)
func (s *Script) agree(v *variables, mayPass map[string]bool) {
	v.set("SCRIPT_FILENAME", s.Path)
	switch {
	case s.extra != "":
		s.splitAt(v, s.extra)
	case s.wholePathInfo:
		v.set("SCRIPT_NAME", s.pathInfo)
		v.takeOut("PATH_INFO")
		v.takeOut("PATH_TRANSLATED")
	}
	if s.alone {
		v.leaveAlone(mayPass)
	}
}

// splitAt tells a program what followed its file's name.
func (s *Script) splitAt(v *variables, pathInfo string) {
	v.set("PATH_INFO", pathInfo)
	if name := s.nameBefore(pathInfo); name != "" {
		v.set("SCRIPT_NAME", cleaned(name))
	}
	if s.documentRoot != "" {
		v.set("PATH_TRANSLATED", strings.TrimSuffix(s.documentRoot, "/")+pathInfo)
	}
}

// nameBefore is the part of the URL's path before pathInfo, or "" where that cannot be
// seen. Either SCRIPT_NAME ends with pathInfo, or SCRIPT_NAME and PATH_INFO together do.
// Where both do, the right one is that which leaves the name of the file.
func (s *Script) nameBefore(pathInfo string) (name string) {
	for _, url := range []string{s.scriptName, s.scriptName + s.pathInfo} {
		before, ok := strings.CutSuffix(url, pathInfo)
		switch {
		case !ok:
		case path.Base(before) == path.Base(s.Path):
			return before
		case name == "":
			name = before
		}
	}
	return name
}

// leaveAlone takes out what could name another file than SCRIPT_FILENAME. What
// may pass in any case cannot without PATH_TRANSLATED.
func (v *variables) leaveAlone(mayPass map[string]bool) {
	v.takeOut("PATH_TRANSLATED")
	for _, x := range v.list {
		if misleads(x.name) && !mayPass[x.name] {
			v.takeOut(x.name)
		}
	}
}

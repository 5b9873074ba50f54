package cgi

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/protocol"
)

// A Script is the program that a request names, and what its name says to it.
type Script struct {
	Path     string   // as named, without what follows it
	PathInfo string   // what followed it; "" when nothing did
	Argv     []string // what is to be executed: the file itself, or its interpreter and the file
}

// Rules say which files may run. Symbolic links in Roots and Scripts are
// resolved for each request: one may be turned to another release while we run.
type Rules struct {
	Roots        []string          // folders that scripts must lie in; empty: anywhere
	Scripts      []string          // filepath.Match patterns of the files that may run; empty: any
	Extensions   []string          // that scripts must have; empty: any
	Interpreters map[string]string // programs that run scripts with an extension, such as ".php"
}

// Find names the script of a request. The error is a *protocol.Refusal.
func (s *Rules) Find(params *protocol.Params) (Script, error) {
	f, pathInfo, err := locate(params)
	if err != nil {
		return Script{}, err
	}
	if err := s.allowed(&f); err != nil {
		return Script{}, err
	}
	found := Script{Path: f.name, PathInfo: pathInfo, Argv: []string{f.name}}
	mode := uint32(unix.X_OK)
	if interpreter := s.Interpreters[path.Ext(f.name)]; interpreter != "" {
		found.Argv = []string{interpreter, f.name}
		mode = unix.R_OK
	}
	if err := unix.Faccessat(unix.AT_FDCWD, f.name, mode, unix.AT_EACCESS); err != nil {
		return Script{}, forbidden("%s is not executable: %w", f.name, err)
	}
	return found, nil
}

func notFound(format string, args ...any) error {
	return &protocol.Refusal{HTTPStatus: 404, AppStatus: 404, Reason: fmt.Errorf(format, args...)}
}

func forbidden(format string, args ...any) error {
	return &protocol.Refusal{HTTPStatus: 403, AppStatus: 403, Reason: fmt.Errorf(format, args...)}
}

// unreachable is the answer to a script that may be there.
func unreachable(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if errors.Is(err, unix.EACCES) {
		return &protocol.Refusal{HTTPStatus: 403, AppStatus: 403, Reason: err}
	}
	return &protocol.Refusal{HTTPStatus: 502, AppStatus: 500, Reason: err}
}

// locate finds the file that a request names and the path info that follows it:
// in SCRIPT_FILENAME, or in DOCUMENT_ROOT and SCRIPT_NAME as fcgiwrap has it.
func locate(params *protocol.Params) (f file, pathInfo string, err error) {
	given := params.Get("SCRIPT_FILENAME")
	if given == "" {
		root, name := params.Get("DOCUMENT_ROOT"), params.Get("SCRIPT_NAME")
		if root == "" || name == "" {
			return f, "", notFound("request names no script: neither SCRIPT_FILENAME nor DOCUMENT_ROOT and SCRIPT_NAME")
		}
		return existing(root + "/" + name)
	}
	name, isURL := CutProxy(given)
	f, pathInfo, err = existing(name)
	if isURL && errors.Is(err, unix.ENOENT) {
		if decoded, encErr := url.PathUnescape(name); encErr == nil {
			return existing(decoded)
		}
	}
	if err != nil || !stillEncoded(pathInfo, params.Get("REQUEST_URI")) {
		return f, pathInfo, err
	}
	if decoded, encErr := url.PathUnescape(pathInfo); encErr == nil {
		pathInfo = decoded
	}
	return f, pathInfo, checkName(pathInfo)
}

// CutProxy takes off what Apache's mod_proxy_fcgi writes before a path, and the
// query string that it leaves behind a balancer's. What is left is %-encoded.
func CutProxy(name string) (rest string, isURL bool) {
	_, rest, isURL = strings.Cut(name, "://")
	i := strings.IndexByte(rest, '/')
	if !isURL || i < 0 || !strings.HasPrefix(name, "proxy:") {
		return name, false
	}
	rest, _, _ = strings.Cut(rest[i:], "?")
	return rest, true
}

// stillEncoded reports whether the path info that hung on SCRIPT_FILENAME is as
// the URL had it, as Apache's is; other servers have decoded it.
func stillEncoded(pathInfo, uri string) bool {
	decoded, err := url.PathUnescape(pathInfo)
	if err != nil || decoded == pathInfo {
		return false
	}
	if uri == "" {
		return true
	}
	uri, _, _ = strings.Cut(uri, "?")
	if plain, err := url.PathUnescape(uri); err == nil {
		uri = plain
	}
	return strings.HasSuffix(cleaned(uri), decoded)
}

// checkName refuses the names that nobody with good intentions sends.
func checkName(name string) error {
	switch {
	case !strings.HasPrefix(name, "/"):
		return forbidden("script %.200q is not an absolute path", name)
	case strings.IndexByte(name, 0) >= 0:
		return forbidden("script %.200q has a NUL in its name", name)
	case strings.Contains(name+"/", "/../"):
		return forbidden("script %.200q has .. in its name", name)
	}
	return nil
}

// cleaned is path.Clean that keeps a slash at the end, and "" as it is.
func cleaned(name string) string {
	if name == "" || name == "/" {
		return name
	}
	clean := path.Clean(name)
	if strings.HasSuffix(name, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}

// A file is a regular file that exists.
type file struct {
	name string
	real string // without symbolic links
}

// existing splits a name at the longest file that exists: the file, and what
// follows it. It stops at any file, executable or not, so that x.jpg/a.php does
// not make a script of some file further up.
func existing(name string) (f file, extra string, err error) {
	if err := checkName(name); err != nil {
		return file{}, "", err
	}
	name = cleaned(name)
	for end := longest(name); end > 0; end = strings.LastIndexByte(name[:end], '/') {
		f.name = cmp.Or(strings.TrimSuffix(name[:end], "/"), "/")
		f.real, err = realFile(f.name)
		switch {
		case err == nil:
			return f, name[len(f.name):], nil
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENAMETOOLONG):
			// Look further up.
		case errors.Is(err, errNotRegular) && end < len(name):
			return file{}, "", notFound("script %.200q: %w", name, unix.ENOENT)
		case errors.Is(err, errNotRegular), errors.Is(err, unix.ELOOP):
			return file{}, "", forbidden("script %.200q: %w", f.name, err)
		default:
			return file{}, "", unreachable("script %.200q: %w", f.name, err)
		}
	}
	return file{}, "", notFound("script %.200q: %w", name, unix.ENOENT)
}

// longest is where a name ends that the kernel may take. Nothing longer exists,
// and to look for it would take time.
func longest(name string) int {
	if len(name) < unix.PathMax {
		return len(name)
	}
	return strings.LastIndexByte(name[:unix.PathMax], '/')
}

var errNotRegular = errors.New("not a regular file")

// realFile is realPath of a regular file.
func realFile(name string) (string, error) {
	real, mode, err := realPath(name)
	if err == nil && mode&unix.S_IFMT != unix.S_IFREG {
		err = errNotRegular
	}
	return real, err
}

// realPath is the name without symbolic links of what is at name, and its mode.
func realPath(name string) (real string, mode uint32, err error) {
	// The usual case: there is no symbolic link in it.
	fd, err := unix.Openat2(unix.AT_FDCWD, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	plain := err == nil
	if err != nil && err != unix.ENOENT {
		fd, err = unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return "", 0, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", 0, err
	}
	if plain && path.IsAbs(name) && path.Clean(name) == name {
		return name, st.Mode, nil
	}
	real, err = os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	return real, st.Mode, err
}

// allowed applies the rules to a file.
func (s *Rules) allowed(f *file) error {
	inside := func(root string) bool {
		// f.real has no symbolic link in it: nor has a root that it begins with.
		return isInside(path.Clean(root), f.real) || isInside(resolve(root), f.real)
	}
	matches := func(pattern string) bool {
		ok, err := filepath.Match(resolvePattern(pattern), f.real)
		return ok && err == nil
	}
	switch {
	case len(s.Roots) > 0 && !slices.ContainsFunc(s.Roots, inside):
		return forbidden("script %s is outside root", f.real)
	case len(s.Scripts) > 0 && !slices.ContainsFunc(s.Scripts, matches):
		return forbidden("script %s is none of scripts", f.real)
	case len(s.Extensions) > 0 && !slices.Contains(s.Extensions, path.Ext(f.name)):
		return forbidden("script %s has none of the allowed extensions", f.name)
	}
	return nil
}

func isInside(folder, file string) bool {
	rest, ok := strings.CutPrefix(file, folder)
	return ok && (folder == "/" || strings.HasPrefix(rest, "/"))
}

// resolve resolves symbolic links. What does not exist stays as it is.
func resolve(name string) string {
	if real, _, err := realPath(name); err == nil {
		return real
	}
	return path.Clean(name)
}

// resolvePattern resolves symbolic links in the part of a pattern that has no
// wildcard, and the whole of one that has none.
func resolvePattern(pattern string) string {
	fixed := path.Clean(pattern)
	pattern = fixed
	for strings.ContainsAny(fixed, `*?[\`) {
		fixed = fixed[:max(0, strings.LastIndexByte(fixed, '/'))]
	}
	if fixed == "" {
		return pattern
	}
	return resolve(fixed) + pattern[len(fixed):]
}

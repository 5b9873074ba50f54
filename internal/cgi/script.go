package cgi

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/protocol"
)

// A Script is the file that a request names, and what its program is told of it.
type Script struct {
	Path string   // of the file, as named or without symbolic links, without what follows it
	Argv []string // what is to be executed: the file itself, or its interpreter and the file

	real    string // the file's name without symbolic links
	request        // what else the request says of it
	// alone tells that the program looks for its script among the params itself:
	// then none of them may name another file.
	alone bool
	// mayLook tells that there are such params, and that the file runs itself: whether it
	// is such a program can be seen when the PATH is known in which env(1) looks.
	mayLook bool
}

// Resolved is the script by the name of its file that has no symbolic links: the name that
// is executed, and that the program is told.
func (s Script) Resolved() Script {
	if s.real == "" || s.real == s.Path {
		return s
	}
	s.Argv = slices.Clone(s.Argv)
	for i, arg := range s.Argv {
		if arg == s.Path {
			s.Argv[i] = s.real
		}
	}
	s.Path = s.real
	return s
}

// Rules say which files may run. Symbolic links in Roots and Scripts are
// resolved for each request: one may be turned to another release while we run.
type Rules struct {
	Roots        []string          // folders that scripts must lie in; empty: anywhere
	Scripts      []string          // filepath.Match patterns of the files that may run; empty: any
	Extensions   []string          // that scripts must have; empty: any
	Interpreters map[string]string // programs that run scripts with an extension, such as ".php"
	// Chroot is the root of the programs; "" is ours. Scripts lie in it, Interpreters and
	// Argv are paths there.
	Chroot string
}

// Find names the script of a request that is to be executed. The error is a
// *protocol.Refusal.
func (s *Rules) Find(params *protocol.Params) (Script, error) {
	found, err := s.look(params)
	if err != nil {
		return Script{}, err
	}
	inside, _ := Inside(s.Chroot, found.Path)
	found.Argv = []string{inside}
	mode := uint32(unix.X_OK)
	if interpreter := s.interpreter(&file{name: found.Path}); interpreter != "" {
		found.Argv = []string{interpreter, inside}
		found.alone = true
		mode = unix.R_OK
	} else if found.request.namesMore {
		// What the file is run by there is not looked at from here.
		found.mayLook, found.alone = true, s.Chroot != ""
	}
	if err := unix.Faccessat(unix.AT_FDCWD, found.Path, mode, unix.AT_EACCESS); err != nil {
		return Script{}, forbidden("%s is not executable: %w%s", found.Path, err, deniedBy(err, found.Path))
	}
	return found, nil
}

// FindRead names the script of a request that a program is to read which runs
// already. The error is a *protocol.Refusal.
func (s *Rules) FindRead(params *protocol.Params) (Script, error) {
	found, err := s.look(params)
	if err != nil {
		return Script{}, err
	}
	found.alone = true
	if err := unix.Faccessat(unix.AT_FDCWD, found.Path, unix.R_OK, unix.AT_EACCESS); err != nil {
		return Script{}, forbidden("%s is not readable: %w%s", found.Path, err, deniedBy(err, found.Path))
	}
	return found, nil
}

func (s *Rules) look(params *protocol.Params) (Script, error) {
	r, err := readRequest(params)
	if err != nil {
		return Script{}, err
	}
	f, err := r.locate()
	if err != nil {
		return Script{}, err
	}
	if f.name != f.real && !s.isOwn(f.name) {
		f.name = f.real
	}
	found := Script{Path: f.name, real: f.real, request: r}
	if err := s.allowed(&f); err != nil {
		return found, err
	}
	return found, found.enterChroot(s.Chroot, &f)
}

// interpreter is the program that runs a file, by the longest of its extensions
// that has one; "" is the file itself.
func (s *Rules) interpreter(f *file) (program string) {
	longest := ""
	for extension, path := range s.Interpreters {
		if len(extension) > len(longest) && f.hasExtension(extension) {
			longest, program = extension, path
		}
	}
	return program
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

// deniedBy is Denied, if err is that.
func deniedBy(err error, name string) string {
	if !errors.Is(err, unix.EACCES) {
		return ""
	}
	return Denied(name)
}

// A request is what the params of one say about files.
type request struct {
	filename      string // SCRIPT_FILENAME, without what Apache writes before it
	isURL         bool   // Apache wrote that: the rest may be %-encoded
	documentRoot  string
	scriptName    string
	pathInfo      string
	namesMore     bool   // there are params that some programs take for the script's name
	extra         string // what followed the file in its name, decoded: path info
	wholePathInfo bool   // pathInfo is the path of the URL, as Caddy has it
}

// readRequest takes the params of which programs make file names. None of them
// may hold what ends a name in C.
func readRequest(params *protocol.Params) (request, error) {
	var r request
	for name, value := range params.All() {
		switch name {
		case "SCRIPT_FILENAME":
			r.filename = value
		case "DOCUMENT_ROOT":
			r.documentRoot = value
		case "SCRIPT_NAME":
			r.scriptName = value
		case "PATH_INFO":
			r.pathInfo = value
		case "PATH_TRANSLATED":
			r.namesMore = true
		default:
			r.namesMore = r.namesMore || misleads(name)
			continue
		}
		if strings.IndexByte(value, 0) >= 0 {
			return r, forbidden("%s %.200q has a NUL in it", name, value)
		}
	}
	r.filename, r.isURL = cutProxy(r.filename)
	return r, nil
}

// misleads reports whether a param of that name could name another file than
// SCRIPT_FILENAME to a program that looks for its script itself: php-cgi takes
// PATH_TRANSLATED for the script where REDIRECT_URL is there as well.
// REDIRECT_STATUS is what php-cgi demands before it runs anything.
func misleads(name string) bool {
	return strings.HasPrefix(name, "ORIG_") || strings.HasPrefix(name, "REDIRECT_") && name != "REDIRECT_STATUS"
}

// locate finds the file: in SCRIPT_FILENAME, or in DOCUMENT_ROOT and SCRIPT_NAME
// as fcgiwrap has it. What follows its name is path info.
func (r *request) locate() (f file, err error) {
	named := r.filename
	if named == "" {
		if r.documentRoot == "" || r.scriptName == "" {
			return f, notFound("request names no script: neither SCRIPT_FILENAME nor DOCUMENT_ROOT and SCRIPT_NAME")
		}
		named = r.documentRoot + "/" + r.scriptName
	}
	f, r.extra, err = existing(named)
	if decoded, encErr := url.PathUnescape(named); r.isURL && encErr == nil && errors.Is(err, unix.ENOENT) {
		f, r.extra, err = existing(decoded)
	} else if decoded, encErr := url.PathUnescape(r.extra); err == nil && encErr == nil && r.isEncoded(r.extra, decoded) {
		r.extra, err = decoded, checkName(decoded)
	}
	r.namesMore = r.namesMore || r.extra != "" && r.documentRoot != "" // for a PATH_TRANSLATED
	r.wholePathInfo = r.extra == "" && r.scriptName == "" && r.pathInfo != "" && strings.HasSuffix(f.name, cleaned(r.pathInfo))
	return f, err
}

// cutProxy takes off what Apache's mod_proxy_fcgi writes before a path, and the
// query string that it leaves behind a balancer's. What is left is %-encoded, or
// is not: that has changed in 2024.
func cutProxy(name string) (rest string, isURL bool) {
	_, rest, isURL = strings.Cut(name, "://")
	i := strings.IndexByte(rest, '/')
	if !isURL || i < 0 || !strings.HasPrefix(name, "proxy:") {
		return name, false
	}
	rest, _, _ = strings.Cut(rest[i:], "?")
	return rest, true
}

// isEncoded reports whether path info that hung on SCRIPT_FILENAME is %-encoded,
// and decoded is what it means. What Apache sends is either; SCRIPT_NAME and
// PATH_INFO, which are not encoded, tell. Without the prefix, which Apache can be
// told to leave away, they are to say so.
func (r *request) isEncoded(extra, decoded string) bool {
	url := r.scriptName + r.pathInfo
	has := func(end string) bool { return strings.HasSuffix(url, end) || strings.HasSuffix(r.scriptName, end) }
	return extra != decoded && !has(extra) && (r.isURL || has(decoded))
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

// hasExtension reports whether the file's name ends so; .tar.gz is one as well.
func (f *file) hasExtension(extension string) bool { return strings.HasSuffix(f.name, extension) }

// existing splits a name at the longest file that exists: the file, and what
// follows it, as it stands. It stops at any file, executable or not, so that
// x.jpg/a.php does not make a script of some file further up.
func existing(name string) (f file, extra string, err error) {
	if err := checkName(name); err != nil {
		return file{}, "", err
	}
	for end := longest(name); end > 0; end = partBefore(name, end) {
		if strings.HasSuffix(name[:end], "/.") {
			continue // it is path info, or a folder
		}
		f.name = path.Clean(name[:end])
		f.real, err = realFile(f.name)
		switch {
		case err == nil:
			return f, name[end:], nil
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENAMETOOLONG):
			// Look further up.
		case errors.Is(err, errNotRegular) && strings.Trim(name[end:], "/") != "":
			return file{}, "", notFound("script %.200q: %w", name, unix.ENOENT)
		case errors.Is(err, errNotRegular), errors.Is(err, unix.ELOOP):
			return file{}, "", forbidden("script %.200q: %w", f.name, err)
		default:
			return file{}, "", unreachable("script %.200q: %w%s", f.name, err, deniedBy(err, f.name))
		}
	}
	return file{}, "", notFound("script %.200q: %w", name, unix.ENOENT)
}

// partBefore is where the part of a name ends that lies before the last one of
// name[:end], without the slashes after it; 0 without one.
func partBefore(name string, end int) int {
	return len(strings.TrimRight(name[:strings.LastIndexByte(name[:end], '/')], "/"))
}

// longest is where a name ends that the kernel may take, without slashes at its
// end: those belong to what follows a file. Nothing longer exists, and to look
// for it would take time.
func longest(name string) int {
	if len(name) >= unix.PathMax {
		name = name[:strings.LastIndexByte(name[:unix.PathMax], '/')]
	}
	return max(1, len(strings.TrimRight(name, "/")))
}

// allowed applies the rules to a file.
func (s *Rules) allowed(f *file) error {
	switch {
	case !s.isInRoots(f.real):
		return forbidden("script %s is outside root", f.real)
	case !s.isListed(f.real):
		return forbidden("script %s is none of scripts", f.real)
	case len(s.Extensions) > 0 && !slices.ContainsFunc(s.Extensions, f.hasExtension):
		return forbidden("script %s has none of the allowed extensions", f.name)
	}
	return nil
}

// isOwn reports whether a name, whatever symbolic links are in it, is of a place where the
// rules have scripts: who may turn a link there may put a script there. A link of another
// place is anybody's. Who turns it while we look, or has beside it what the script looks for
// beside itself, would have their own files run.
func (s *Rules) isOwn(name string) bool { return s.isInRoots(name) && s.isListed(name) }

// isInRoots reports whether a name begins like one of the roots. A name without symbolic
// links lies in it then.
func (s *Rules) isInRoots(name string) bool {
	return len(s.Roots) == 0 || slices.ContainsFunc(s.Roots, func(root string) bool {
		return isInside(path.Clean(root), name) || isInside(resolve(root), name)
	})
}

// isListed reports whether a name is one of Scripts.
func (s *Rules) isListed(name string) bool {
	matches := func(pattern string) bool {
		ok, err := filepath.Match(pattern, name)
		return ok && err == nil
	}
	return len(s.Scripts) == 0 || slices.ContainsFunc(s.Scripts, func(pattern string) bool {
		return matches(resolvePattern(pattern)) || matches(path.Clean(pattern))
	})
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

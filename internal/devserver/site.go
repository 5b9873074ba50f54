package devserver

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/fcgid/fcgid/internal/cgi"
)

// The pools behind the front.
const (
	programPool  = "programs"  // scripts that run by themselves
	scriptPool   = "scripts"   // those that an interpreter runs
	workerPool   = "worker"    // what --worker keeps running
	functionPool = "functions" // those of this program
)

// indexes are what a folder is asked for, the first that is there.
var indexes = []string{"index.php", "index.html", "index.htm", "index.cgi", "index.py", "index.pl", "index.sh", "index.rb"}

// usualInterpreters are looked for in PATH. A script that may be executed runs by itself,
// but for PHP's, whose first line, if there is one, names a program that is no CGI.
var usualInterpreters = []struct {
	extension string
	programs  []string // the first is also Debian's name of the package
}{
	{".php", []string{"php-cgi"}},
	{".py", []string{"python3", "python"}},
	{".pl", []string{"perl"}},
	{".sh", []string{"sh"}},
	{".rb", []string{"ruby"}},
}

// scriptExtensions are of files that are never sent as they are.
var scriptExtensions = []string{".php", ".py", ".pl", ".sh", ".rb", ".cgi", ".fcgi"}

// A site is what stands in a folder and who answers for what.
type site struct {
	dir          string
	interpreters map[string]string // by extension
	worker       []string          // argv, or nil
	router       string            // below dir, as /index.php; "" is none
	functions    []string
}

// A target is who answers a request.
type target struct {
	file   string // a static file below the site's folder; "" if a pool answers
	folder string // one that is shown as a list, likewise
	to     string // where the client is sent instead
	pool   string
	script string // SCRIPT_NAME
	info   string // PATH_INFO
	name   string // SCRIPT_FILENAME
	status int    // of an answer that says that there is nothing, or 0
	reason string // of it, if there is more to say
}

// newSite looks for the interpreters, given as .ext=program, and those that are usual.
func newSite(dir string, given []string) (*site, error) {
	s := &site{dir: dir, interpreters: map[string]string{}}
	for _, usual := range usualInterpreters {
		for _, program := range usual.programs {
			if found, err := exec.LookPath(program); err == nil && s.interpreters[usual.extension] == "" {
				s.interpreters[usual.extension] = found
			}
		}
	}
	for _, pair := range given {
		extension, program, ok := strings.Cut(pair, "=")
		if !ok || len(extension) < 2 || extension[0] != '.' || strings.Contains(extension, "/") {
			return nil, fmt.Errorf("--interpreter %q is not .extension=program", pair)
		}
		found, err := exec.LookPath(program)
		if err == nil {
			found, err = filepath.Abs(found)
		}
		if err != nil {
			return nil, fmt.Errorf("--interpreter %s: %w", pair, err)
		}
		s.interpreters[extension] = found
	}
	return s, nil
}

// setWorker has a program answer, which is looked for in PATH: the scripts of PHP if it
// is PHP's, else all that is no static file.
func (s *site) setWorker(command string) error {
	s.worker = strings.Fields(command)
	if len(s.worker) == 0 {
		return nil
	}
	found, err := exec.LookPath(s.worker[0])
	if err == nil {
		found, err = filepath.Abs(found)
	}
	if err != nil {
		return fmt.Errorf("--worker %s: %w", s.worker[0], err)
	}
	s.worker[0] = found
	return nil
}

// hasPHP reports whether the worker runs the scripts of PHP alone.
func (s *site) hasPHP() bool {
	return len(s.worker) > 0 && strings.HasPrefix(filepath.Base(s.worker[0]), "php")
}

// setRouter names the script that answers for all that is no file.
func (s *site) setRouter(name string) error {
	if name == "" {
		return nil
	}
	whole := name
	if !filepath.IsAbs(name) {
		whole = filepath.Join(s.dir, name)
	}
	below, err := filepath.Rel(s.dir, whole)
	if err != nil || !filepath.IsLocal(below) {
		return fmt.Errorf("--router %s: is not below %s", name, s.dir)
	}
	if info, err := os.Stat(whole); err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("--router %s: there is no such file in %s", name, s.dir)
	}
	s.router = "/" + filepath.ToSlash(below)
	return nil
}

// find says who answers for a path, which has been cleaned.
func (s *site) find(name string) target {
	if slices.Contains(s.functions, firstElement(name)) {
		function := firstElement(name)
		return target{pool: functionPool, script: "/" + function, info: strings.TrimPrefix(name, "/"+function), name: function}
	}
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return s.other(name)
	}
	defer root.Close()
	script, info, is, err := longestFile(root, name)
	switch {
	case isHidden(name):
		return target{status: http.StatusNotFound, reason: "names that begin with a dot are not served"}
	case errors.Is(err, fs.ErrPermission):
		if t := s.other(name); t.status != http.StatusNotFound {
			return t
		}
		return target{status: http.StatusForbidden, reason: closedFolder(s.dir, name)}
	case is == nil:
		t := s.other(name)
		if t.status == http.StatusNotFound {
			t.reason = leadsOut(s.dir, root, name)
		}
		return t
	case !is.IsDir():
		return s.file(root, script, info, is)
	case info == "":
		return target{to: name + "/"}
	case info != "/":
		return s.other(name)
	}
	for _, index := range indexes {
		if is, err := root.Stat(local(script + "/" + index)); err == nil && is.Mode().IsRegular() {
			return s.file(root, strings.TrimSuffix(script, "/")+"/"+index, "", is)
		}
	}
	if t := s.other(name); t.status == 0 {
		return t
	}
	return target{folder: script}
}

// other answers for what is no file.
func (s *site) other(name string) target {
	switch {
	case len(s.worker) > 0 && !s.hasPHP():
		return target{pool: workerPool, info: name, name: s.dir}
	case s.router != "":
		if is, err := os.Stat(filepath.Join(s.dir, s.router)); err == nil {
			return s.run(s.router, "", is.Mode()&0o111 != 0)
		}
	}
	return target{status: http.StatusNotFound}
}

// file answers with a file: it runs, or it is sent as it is.
func (s *site) file(root *os.Root, script, info string, is fs.FileInfo) target {
	extension := path.Ext(script)
	isScript := slices.Contains(scriptExtensions, extension) || s.interpreters[extension] != ""
	mayRun := is.Mode()&0o111 != 0
	switch {
	case isScript || mayRun && isProgram(root, script):
		return s.run(script, info, mayRun && (extension != ".php" || isProgram(root, script)))
	case info == "":
		return target{file: script}
	}
	return s.other(script + info)
}

// run has a script run, by itself where it can.
func (s *site) run(script, info string, mayRun bool) target {
	t := target{pool: programPool, script: script, info: info, name: path.Join(s.dir, script)}
	extension := path.Ext(script)
	switch {
	case extension == ".php" && s.hasPHP():
		t.pool = workerPool
	case extension == ".php" && s.interpreters[extension] != "", !mayRun && s.interpreters[extension] != "":
		t.pool = scriptPool
	case !mayRun && s.lack(extension) != "":
		return target{status: http.StatusForbidden, reason: s.lack(extension)}
	}
	return t
}

// lack says that nothing runs the scripts of a kind, and what to do; "" is that something
// does, or that it is no usual kind.
func (s *site) lack(extension string) string {
	for _, usual := range usualInterpreters {
		if usual.extension != extension || s.interpreters[extension] != "" || extension == ".php" && s.hasPHP() {
			continue
		}
		text := fmt.Sprintf("%s is not in PATH: install it (apt install %s), or --interpreter %s=…", usual.programs[0], usual.programs[0], extension)
		if extension != ".php" {
			text += "; or chmod +x a script whose first line names its interpreter"
		}
		return text
	}
	return ""
}

// lacks are what nothing runs of the files at the top of the site.
func (s *site) lacks() (texts []string) {
	for _, usual := range usualInterpreters {
		text := s.lack(usual.extension)
		files, _ := filepath.Glob(globEscape.Replace(s.dir) + "/*" + usual.extension)
		needs := func(name string) bool {
			is, err := os.Stat(name)
			return err == nil && is.Mode().IsRegular() && (usual.extension == ".php" || is.Mode()&0o111 == 0)
		}
		if text != "" && slices.ContainsFunc(files, needs) {
			texts = append(texts, text)
		}
	}
	return texts
}

var globEscape = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`)

// isProgram reports whether the kernel would execute a file: not all that has the bit is
// meant to have it, on a disk of Windows' for example.
func isProgram(root *os.Root, script string) bool {
	f, err := root.Open(local(script))
	if err != nil {
		return false
	}
	defer f.Close()
	start := make([]byte, 4)
	n, _ := f.Read(start)
	return strings.HasPrefix(string(start[:n]), "#!") || string(start[:n]) == "\x7fELF"
}

// longestFile is the longest beginning of a path that names a file, or a folder, and what
// follows it. Without one is is nil, and err may say why.
func longestFile(root *os.Root, name string) (script, info string, is fs.FileInfo, err error) {
	for end := len(name); end > 0; end = strings.LastIndexByte(name[:end], '/') {
		script = strings.TrimSuffix(name[:end], "/")
		found, err := root.Stat(local(script))
		if err == nil && (found.Mode().IsRegular() || end >= len(name)-1 && found.IsDir()) {
			return script, name[len(script):], found, nil
		}
		if err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return "", "", nil, err
		}
	}
	if name == "/" {
		if found, err := root.Stat("."); err == nil {
			return "", "/", found, nil
		}
	}
	return "", "", nil, nil
}

// local is a path as a Root wants it.
func local(name string) string { return path.Clean("./" + name) }

func firstElement(name string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	return first
}

// isHidden reports whether a part of a path is of a file that no web server should give
// away: .git, .env, .htaccess.
func isHidden(name string) bool {
	for part := range strings.SplitSeq(cgi.CleanPath(name), "/") {
		if strings.HasPrefix(part, ".") && part != ".well-known" {
			return true
		}
	}
	return false
}

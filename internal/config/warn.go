package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/address"
)

// Warnings are what is no fault and most likely none of what was meant, in the order of the
// file. Those of the machine are there after [LoadAndCheck] alone.
func (c *Config) Warnings() []Fault { return slices.Clone(c.warnings) }

// warn is add for what is no fault.
func (r *report) warn(key, format string, args ...any) {
	if !r.silent(key) {
		r.warnings = append(r.warnings, r.find(key).fault(fmt.Sprintf(format, args...)))
	}
}

// warnOf tells of what may stand in the file and hardly can be meant.
func (r *report) warnOf(c *Config) {
	r.warnOfVariables()
	r.warnOfDirect(c)
	for i, pattern := range c.Include {
		if key := fmt.Sprintf("include[%d]", i); globMeta.MatchString(pattern) && r.matchless[key] {
			r.warn(key, "no file matches %q", pattern)
		}
	}
	for i := range c.Pools {
		p, key := &c.Pools[i], fmt.Sprintf("pools[%d]", i)
		if p.IsDirect() {
			continue
		}
		if p.Timeout == 0 && p.Silence == 0 && !r.given(key+".timeout") && !r.given(key+".silence") {
			r.warn(key, "no timeout: what hangs holds its place for ever (timeout: 45s, or silence: 45s; 0 says that you mean it)")
		}
		switch {
		case p.Process != nil:
			r.warnOfRoot(key+".process.root", p.Process.Root)
		case p.Worker != nil:
			r.warnOfRoot(key+".worker.root", p.Worker.Root)
			r.warnOfChildren(key, p)
		}
	}
}

func (r *report) warnOfRoot(key string, roots []string) {
	for i, root := range roots {
		if filepath.Clean(root) == "/" {
			r.warn(fmt.Sprintf("%s[%d]", key, i), "every file of this machine is in it: name the folder of the scripts")
		}
	}
}

// warnOfChildren tells of requests that wait in a worker while the pool takes them for
// running: php-cgi has as many children as this variable says, and takes one request at a
// time without it.
func (r *report) warnOfChildren(key string, p *Pool) {
	const name = "PHP_FCGI_CHILDREN"
	key += ".worker.concurrency"
	for i := len(p.Env) - 1; i >= 0; i-- {
		text, ok := strings.CutPrefix(p.Env[i], name+"=")
		if !ok {
			continue
		}
		if n, err := strconv.Atoi(text); err == nil && p.Worker.Concurrency > max(n, 1) {
			r.warn(key, "%d is more than %s, which is %d: the rest waits in a worker though others may be idle", p.Worker.Concurrency, name, max(n, 1))
		}
		return
	}
	command := p.Worker.Command
	isPHP := len(command) > 0 && strings.HasPrefix(filepath.Base(command[0]), "php-cgi")
	if n := p.Worker.Concurrency; n > 1 && isPHP && !slices.Contains(p.PassEnv, name) {
		r.warn(key, "%d, and php-cgi takes one request at a time without %s: the rest waits in a worker (env: [%[2]s=%[1]d])", n, name)
	}
}

// warnOfVariables tells of names that begin like those which override a key.
func (r *report) warnOfVariables() {
	var known []string
	for _, o := range overrides {
		known = append(known, variable(o.key))
	}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "FCGID_") && !slices.Contains(known, name) {
			r.warnings = append(r.warnings, Fault{File: name, Text: "no key is overridden by this variable" + didYouMean(nearest(name, known, whole))})
		}
	}
}

// warnOfMachine tells of what here can hardly be meant.
func (r *report) warnOfMachine(c *Config) {
	r.warnOfSocket("admin.listen", c.Admin.Listen)
	sockets := sync.OnceValue(c.sockets)
	for i := range c.Pools {
		p, key := &c.Pools[i], fmt.Sprintf("pools[%d]", i)
		r.warnOfReach(key, c, p, sockets)
		for j, l := range p.Listen {
			r.warnOfSocket(fmt.Sprintf("%s.listen[%d].address", key, j), l.Address)
		}
		if p.Worker != nil && len(p.Worker.Command) > 0 {
			r.warnOfCommand(key+".worker.command[0]", p.Worker.Command[0], "takes no FastCGI requests on descriptor 0")
		}
		if p.Process != nil {
			r.warnOfScripts(key+".process.scripts", p.Process)
			for j, in := range p.Process.Interpreters {
				r.warnOfCommand(fmt.Sprintf("%s.process.interpreters[%d]", key, j), in.Path, "answers no CGI requests")
			}
		}
	}
}

// warnOfScripts tells of entries by which nothing can run.
func (r *report) warnOfScripts(key string, p *Process) {
	for i, script := range p.Scripts {
		at := fmt.Sprintf("%s[%d]", key, i)
		isGlob := globMeta.MatchString(script)
		files, err := filepath.Glob(script)
		switch {
		case isGlob && err == nil && len(files) == 0 && canList(script):
			r.warn(at, "no file matches %q", script)
		case !isGlob && !p.interprets(script):
			if info, err := os.Stat(script); err == nil && info.Mode()&0o111 == 0 {
				r.warn(at, "%q is not executable, and interpreters has none for it: it is answered with 403", script)
			}
		}
	}
}

// canList reports whether the folder may be read in which the first part of a glob is
// looked for.
func canList(glob string) bool {
	folder := filepath.Dir(glob[:globMeta.FindStringIndex(glob)[0]] + "x")
	return unix.Faccessat(unix.AT_FDCWD, folder, unix.R_OK|unix.X_OK, unix.AT_EACCESS) != unix.EACCES
}

// interprets reports whether an interpreter runs a script.
func (p *Process) interprets(script string) bool {
	return slices.ContainsFunc(p.Interpreters, func(in Interpreter) bool { return strings.HasSuffix(script, in.Extension) })
}

// warnOfSocket looks at the folder of a socket.
func (r *report) warnOfSocket(key, text string) {
	a, err := address.Parse(text)
	if err != nil || a.Kind != address.Unix {
		return
	}
	folder := filepath.Dir(a.Name)
	info, err := os.Stat(folder)
	if err != nil {
		return
	}
	if mode := info.Mode(); mode&0o002 != 0 && mode&os.ModeSticky == 0 {
		r.warn(key, "everybody may write to %q, and put another socket in the place of this one", folder)
	}
}

// commandLines are programs that take no requests, FastCGI's or CGI's, by the beginning of their names,
// and what does.
var commandLines = []struct{ name, instead string }{
	{"php-fpm", "php-cgi does: fcgid is in its place"},
	{"php-cgi", ""},
	{"php", "php-cgi does"},
	{"fcgiwrap", "a pool with process: runs CGI programs itself"},
	{"spawn-fcgi", "the program that it would start does"},
	{"multiwatch", "the program that it would start does: worker.max says how many"},
}

// warnOfCommand tells of programs that are known not to do what is asked of them.
func (r *report) warnOfCommand(key, program, does string) {
	if target, err := filepath.EvalSymlinks(program); err == nil {
		program = target
	}
	for _, c := range commandLines {
		if strings.HasPrefix(filepath.Base(program), c.name) {
			if c.instead != "" {
				r.warn(key, "%s %s: %s", program, does, c.instead)
			}
			return
		}
	}
}

package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/users"
)

// checkMachine looks for what c needs of this machine and of this program.
func (r *report) checkMachine(c *Config, functions []string) {
	if c.SpoolDir != "" {
		r.checkFolder("spool_dir", c.SpoolDir)
	}
	r.checkUser(c)
	for i := range c.Pools {
		p := &c.Pools[i]
		key := fmt.Sprintf("pools[%d]", i)
		r.checkIdentity(key, p)
		r.checkScriptOwner(key, p)
		r.checkApart(key, c, p)
		for j, l := range p.Listen {
			r.checkOwner(fmt.Sprintf("%s.listen[%d]", key, j), l)
		}
		r.checkSandbox(key+".sandbox", &p.Sandbox)
		if p.Process != nil {
			r.checkProcess(key+".process", p.Process, p.Sandbox.Chroot)
		}
		if p.Worker != nil {
			r.checkCommand(key+".worker.command", p.Worker.Command, p.Sandbox.Chroot)
			r.checkDir(key+".worker.dir", p.Worker.Dir, p.Sandbox.Chroot)
			for j, root := range p.Worker.Root {
				r.checkFolder(fmt.Sprintf("%s.worker.root[%d]", key, j), root)
			}
		}
		if p.Function != nil {
			r.checkFunction(key+".function", p.Function, functions)
		}
		r.checkCommand(key+".slow.command", p.Slow.Command, "")
		r.checkReplaceable(key, p, c.SpoolDir)
	}
}

func (r *report) checkOwner(key string, l Listen) {
	if l.Owner != "" && !isID(l.Owner) {
		if _, err := user.Lookup(l.Owner); err != nil {
			r.add(key+".owner", "%v", unprefixed(err))
		}
	}
	if l.Group != "" && !isID(l.Group) {
		if _, err := user.LookupGroup(l.Group); err != nil {
			r.add(key+".group", "%v", unprefixed(err))
		}
	}
}

func isID(s string) bool {
	_, err := users.ParseID(s)
	return err == nil
}

func (r *report) checkProcess(key string, p *Process, chroot string) {
	for i, root := range p.Root {
		r.checkFolder(fmt.Sprintf("%s.root[%d]", key, i), root)
	}
	for i, script := range p.Scripts {
		if !globMeta.MatchString(script) {
			r.checkFile(fmt.Sprintf("%s.scripts[%d]", key, i), script)
		}
	}
	for i, in := range p.Interpreters {
		r.checkProgram(fmt.Sprintf("%s.interpreters[%d]", key, i), in.Path, chroot)
	}
	r.checkDir(key+".dir", p.Dir, chroot)
}

func (r *report) checkSandbox(key string, s *Sandbox) {
	r.checkDir(key+".chroot", s.Chroot, "")
	for name, paths := range map[string][]string{".read": s.Read, ".write": s.Write} {
		for i, path := range paths {
			if strings.HasPrefix(path, "-") {
				continue
			}
			if _, err := os.Stat(inside(s.Chroot, path)); err != nil {
				r.add(fmt.Sprintf("%s%s[%d]", key, name, i), "%q: %v (a path after - need not exist)", path, cause(err))
			}
		}
	}
}

// inside is a path below another root, if there is one.
func inside(chroot, path string) string {
	if chroot == "" {
		return path
	}
	return filepath.Join(chroot, path)
}

// checkCommand looks for the program of an argv, if there is one.
func (r *report) checkCommand(key string, argv []string, chroot string) {
	if len(argv) > 0 {
		r.checkProgram(key+"[0]", argv[0], chroot)
	}
}

func (r *report) checkProgram(key, path, chroot string) {
	if _, err := exec.LookPath(inside(chroot, path)); err != nil {
		r.add(key, "%q cannot be run: %v", path, cause(err))
	}
}

func (r *report) checkDir(key, path, chroot string) {
	if path != "" {
		r.checkFolder(key, inside(chroot, path))
	}
}

func (r *report) checkFunction(key string, f *Function, functions []string) {
	if len(functions) == 0 {
		r.add(key, "this program has no functions")
	}
	for i, name := range f.Names {
		if slices.Contains(functions, name) {
			continue
		}
		hint := didYouMean(cmp.Or(nearest(name, functions, whole), meant(name, functions)))
		if hint == "" {
			hint = ": it has " + strings.Join(functions, ", ")
		}
		r.add(fmt.Sprintf("%s.names[%d]", key, i), "%q is no function of this program%s", name, hint)
	}
}

func (r *report) checkFolder(key, path string) {
	switch info, err := os.Stat(path); {
	case err != nil:
		r.add(key, "%q: %v", path, cause(err))
	case !info.IsDir():
		r.add(key, "%q is not a folder", path)
	case unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS) == unix.EACCES:
		r.add(key, "%q: nothing in it can be reached: permission denied", path)
	}
}

func (r *report) checkFile(key, path string) {
	switch info, err := os.Stat(path); {
	case err != nil:
		r.add(key, "%q: %v", path, cause(err))
	case !info.Mode().IsRegular():
		r.add(key, "%q is not a file", path)
	}
}

// cause leaves the error without the operation and the path around it.
func cause(err error) error {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err
}

package config

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
)

// checkMachine looks for what c needs of this machine.
func (r *report) checkMachine(c *Config) {
	for i, p := range c.Pools {
		key := fmt.Sprintf("pools[%d]", i)
		for j, l := range p.Listen {
			r.checkOwner(fmt.Sprintf("%s.listen[%d]", key, j), l)
		}
		if p.Process != nil {
			r.checkProcess(key+".process", p.Process)
		}
	}
}

func (r *report) checkOwner(key string, l Listen) {
	if l.Owner != "" && !isID(l.Owner) {
		if _, err := user.Lookup(l.Owner); err != nil {
			r.add(key+".owner", "%v", err)
		}
	}
	if l.Group != "" && !isID(l.Group) {
		if _, err := user.LookupGroup(l.Group); err != nil {
			r.add(key+".group", "%v", err)
		}
	}
}

func isID(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}

func (r *report) checkProcess(key string, p *Process) {
	for i, root := range p.Root {
		r.checkFolder(fmt.Sprintf("%s.root[%d]", key, i), root)
	}
	for i, script := range p.Scripts {
		if !globMeta.MatchString(script) {
			r.checkFile(fmt.Sprintf("%s.scripts[%d]", key, i), script)
		}
	}
	for i, in := range p.Interpreters {
		if _, err := exec.LookPath(in.Path); err != nil {
			r.add(fmt.Sprintf("%s.interpreters[%d]", key, i), "%q cannot be run: %v", in.Path, cause(err))
		}
	}
	if p.Dir != "" {
		r.checkFolder(key+".dir", p.Dir)
	}
}

func (r *report) checkFolder(key, path string) {
	switch info, err := os.Stat(path); {
	case err != nil:
		r.add(key, "%q: %v", path, cause(err))
	case !info.IsDir():
		r.add(key, "%q is not a folder", path)
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

package config

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// A namedPath is a path of a pool that its sandbox opens, or that decides what it runs.
type namedPath struct {
	key, path string
	root      string // that the path is below; "" is the daemon's
}

// checkReplaceable reports paths in whose place a pool's own programs could put something
// else: a symbolic link there, and the next program would be permitted what that points to.
// Of what lies below one folder the first is told.
func (r *report) checkReplaceable(key string, p *Pool, spool string) {
	opened := openedPaths(key, p, spool)
	for _, w := range writablePaths(key, &p.Sandbox) {
		_, folder := followLinks(w.root, w.path)
		for _, n := range opened {
			places, _ := followLinks(n.root, n.path)
			if isAnyBelow(folder, places) {
				r.add(n.key, "%q is found below %q, where programs may write (%s): one could put a link in its place, and the next would be let to whatever that points to",
					n.path, w.path, w.key)
				break
			}
		}
	}
}

// writablePaths are those where a sandbox lets programs make files.
func writablePaths(key string, s *Sandbox) (all []namedPath) {
	for i, path := range s.Write {
		all = append(all, namedPath{fmt.Sprintf("%s.sandbox.write[%d]", key, i), strings.TrimPrefix(path, "-"), s.Chroot})
	}
	if s.PrivateTmp && len(s.Read)+len(s.Write) > 0 {
		key += ".sandbox.private_tmp"
		all = append(all, namedPath{key, "/tmp", ""}, namedPath{key, "/var/tmp", ""})
	}
	return all
}

// isAnyBelow reports whether a place is in a folder, and not the folder itself.
func isAnyBelow(folder string, places []string) bool {
	for _, place := range places {
		if place != folder && isBelow(folder, place) {
			return true
		}
	}
	return false
}

// openedPaths are those of a pool, and what the preset adds last.
func openedPaths(key string, p *Pool, spool string) (all []namedPath) {
	chroot := p.Sandbox.Chroot
	add := func(key, root string, paths ...string) {
		for i, path := range paths {
			all = append(all, namedPath{fmt.Sprintf("%s[%d]", key, i), strings.TrimPrefix(path, "-"), root})
		}
	}
	if c := p.Process; c != nil {
		add(key+".process.root", "", c.Root...)
		for i, script := range c.Scripts {
			all = append(all, namedPath{fmt.Sprintf("%s.process.scripts[%d]", key, i), withoutPattern(script), ""})
		}
		for i, in := range c.Interpreters {
			all = append(all, namedPath{fmt.Sprintf("%s.process.interpreters[%d]", key, i), in.Path, chroot})
		}
		if spool != "" {
			all = append(all, namedPath{"spool_dir", spool, ""})
		}
	}
	if w := p.Worker; w != nil {
		add(key+".worker.root", "", w.Root...)
		add(key+".worker.command", chroot, w.Command[:min(1, len(w.Command))]...)
	}
	add(key+".sandbox.read", chroot, p.Sandbox.Read...)
	add(key+".sandbox.write", chroot, p.Sandbox.Write...)
	return all
}

// maxLinks is the kernel's limit of a path.
const maxLinks = 40

// followLinks returns where each part of a path below a root is found, through symbolic
// links, and where the last one is: who may write in a folder around one of the places
// decides what the path means. What is not there has no links.
func followLinks(root, name string) (places []string, file string) {
	root = path.Clean(cmp.Or(root, "/"))
	if real, err := filepath.EvalSymlinks(root); err == nil {
		root = real
	}
	at, links := root, 0
	rest := strings.Split(name, "/")
	for len(rest) > 0 {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if at != root {
				at = path.Dir(at)
			}
			continue
		}
		place := path.Join(at, part)
		places = append(places, place)
		target, err := os.Readlink(place)
		if err != nil || links == maxLinks {
			at = place
			continue
		}
		links++
		if path.IsAbs(target) {
			at = root
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return places, at
}

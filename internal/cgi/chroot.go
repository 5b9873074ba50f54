package cgi

import "path"

// inChroot are the params that name files as the web server sees them.
var inChroot = []string{"SCRIPT_FILENAME", "DOCUMENT_ROOT", "PATH_TRANSLATED", "CONTEXT_DOCUMENT_ROOT"}

// Inside is the path that a file of ours has for a program whose root is chroot; ok is
// false for one that is not in there. Without a chroot it is the same.
func Inside(chroot, file string) (inside string, ok bool) {
	if chroot == "" {
		return file, true
	}
	for _, root := range []string{path.Clean(chroot), resolve(chroot)} {
		if file == root || file == root+"/" {
			return "/", true
		}
		if isInside(root, file) {
			return file[len(root):], true
		}
	}
	return file, false
}

// enterChroot makes of the names of files what they are to a program that has another
// root. What does not lie in there is left alone: the web server may have been told to
// write it so, as php-fpm's chroot needs it.
func (v *variables) enterChroot(chroot string) {
	if chroot == "" {
		return
	}
	for _, name := range inChroot {
		if inside, ok := Inside(chroot, v.get(name)); ok {
			v.set(name, inside)
		}
	}
}

// enterChroot has the script be the file without symbolic links, which are other files
// to the program.
func (s *Script) enterChroot(chroot string, f *file) error {
	if chroot == "" {
		return nil
	}
	if _, ok := Inside(chroot, f.real); !ok {
		return forbidden("script %s is outside sandbox.chroot %s", f.real, chroot)
	}
	s.Path = f.real
	return nil
}

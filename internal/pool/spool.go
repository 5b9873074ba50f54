package pool

import "golang.org/x/sys/unix"

// isMemory reports whether what is written to files in a folder stays in memory.
func isMemory(dir string) bool {
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil {
		return false
	}
	kind := uint32(fs.Type) // signed, and of 32 bits on some machines
	return kind == unix.TMPFS_MAGIC || kind == unix.RAMFS_MAGIC
}

// warnOfSpool tells once of a folder that is memory: what is spooled there is not saved.
func (s *Set) warnOfSpool(dir string) {
	if dir != s.spoolDir && isMemory(dir) {
		s.opt.Logs.Warn("spooled bodies and answers are held in memory: spool_dir is a tmpfs", "dir", dir)
	}
	s.spoolDir = dir
}

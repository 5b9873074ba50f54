package pool

import (
	"cmp"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/config"
)

// spoolDir is the folder of bodies and answers that are on their way: spool_dir, or the
// unit's state folder (systemd.exec(5)), or that for temporary files.
func spoolDir(cfg *config.Config) string {
	state, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":")
	return cmp.Or(cfg.SpoolDir, state, os.TempDir())
}

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

package launch

import (
	"cmp"
	"os"
	"strings"

	"github.com/fcgid/fcgid/internal/config"
)

// SpoolDir is the folder of bodies and answers that are on their way: spool_dir, or the
// unit's state folder (systemd.exec(5)), or that for temporary files.
func SpoolDir(cfg *config.Config) string {
	state, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":")
	return cmp.Or(cfg.SpoolDir, state, os.TempDir())
}

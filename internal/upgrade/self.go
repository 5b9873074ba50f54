package upgrade

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Self is the path of this process's program for who is to start it anew: the one that it
// was started by, which may lead to another program by then. It is called at the start.
func Self() (string, error) {
	self, err := os.Executable() // a link is resolved in it
	if err != nil {
		return "", fmt.Errorf("find the path of this program: %w", err)
	}
	called, err := exec.LookPath(os.Args[0])
	if err != nil {
		return self, nil
	}
	if called, err = filepath.Abs(called); err != nil {
		return self, nil
	}
	mine, err := os.Stat("/proc/self/exe")
	named, namedErr := os.Stat(called)
	if err != nil || namedErr != nil || !os.SameFile(mine, named) {
		return self, nil
	}
	return called, nil
}

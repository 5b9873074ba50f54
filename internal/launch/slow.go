package launch

import (
	"os"
	"strconv"
	"strings"

	"github.com/fcgid/fcgid/internal/spawn"
)

// SlowCommand is slow.command for a process.
func SlowCommand(argv []string, pid int) *spawn.Command {
	args := make([]string, len(argv))
	for i, arg := range argv {
		args[i] = strings.ReplaceAll(arg, "{pid}", strconv.Itoa(pid))
	}
	return &spawn.Command{Argv: args, Env: []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}, Dir: "/", Aside: true}
}

// Command fcgid is the daemon with the functions that it brings along, and no
// others. [fcgid.Main] is how to build one with functions of your own.
package main

import (
	"github.com/fcgid/fcgid"
	"github.com/fcgid/fcgid/internal/spawn"
)

func main() {
	spawn.OwnThreads() // there is no code here but ours
	fcgid.Main(nil)
}

package privsep

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/launch"
	"github.com/fcgid/fcgid/internal/spawn"
)

// A Write is where the daemon writes by its configuration.
type Write struct {
	spawn.Place
	Fault config.Fault // if it may not
}

// writesOf are those of a configuration: the folders of logs and of unlinked files.
func writesOf(c *config.Config) (all []Write) {
	add := func(key, path string, place func(string) spawn.Place) {
		if filepath.IsAbs(path) { // else it is no file
			all = append(all, Write{place(path), c.FaultAt(key, fmt.Sprintf(
				"%s: a running daemon cannot be given another folder to write to than those it was started with: restart it, or fcgid upgrade", path))})
		}
	}
	add("log.output", c.Log.Output, spawn.PlaceOfFile)
	add("access_log.output", c.AccessLog.Output, spawn.PlaceOfFile)
	for i, p := range c.Pools {
		if p.Slow.After != 0 {
			add(fmt.Sprintf("pools[%d].slow.log", i), p.Slow.Log, spawn.PlaceOfFile)
		}
	}
	add("spool_dir", launch.SpoolDir(c), spawn.PlaceOfFolder)
	return all
}

// newReach is what files the daemon gets, for as long as it is there: those folders, and the unit's.
func (s *spawner) newReach(t *Table) (*spawn.Reach, error) {
	if s.HasFunctions {
		s.log.Info("the daemon may write where its user may, and start programs: the functions that were added to it run in it")
		return spawn.Unbounded(), nil
	}
	var places []spawn.Place
	for _, w := range t.Writes {
		places = append(places, w.Place)
	}
	add := func(folders ...string) {
		for _, folder := range folders {
			if filepath.IsAbs(folder) {
				places = append(places, spawn.PlaceOfFolder(folder))
			}
		}
	}
	add(strings.Split(os.Getenv("STATE_DIRECTORY")+":"+os.Getenv("LOGS_DIRECTORY"), ":")...)
	add(os.Getenv("GOCOVERDIR"))
	if runtime := config.RuntimeFolder(); runtime != "" {
		add(runtime)
	} else {
		add(os.TempDir())
	}
	return spawn.NewReach(s.identity(), places)
}

// outOfReach says of a table where the daemon may not write.
func (s *spawner) outOfReach(t *Table) error {
	var faults config.Faults
	for _, w := range t.Writes {
		if !s.reach.Covers(w.Place) {
			faults = append(faults, w.Fault)
		}
	}
	if faults == nil {
		return nil
	}
	return errors.New(faults.Error()) // the file itself is right
}

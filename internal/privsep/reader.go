package privsep

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/launch"
)

// leaveMargin is what a daemon that was replaced may take beside what the configuration says.
const leaveMargin = time.Minute

func newTable(c *config.Config, file string) *Table {
	t := &Table{User: *c.RunsAs, LogFormat: c.Log.Format, Spool: launch.SpoolDir(c), Listen: listensOf(c, file), Writes: writesOf(c)}
	var grace time.Duration
	for _, p := range c.Pools {
		if p.Function == nil {
			t.Pools = append(t.Pools, p)
		}
		if p.Process != nil {
			grace = max(grace, p.Process.KillGrace+p.Process.Linger)
		}
		if p.Worker != nil {
			grace = max(grace, p.Worker.StopGrace)
		}
	}
	t.Leave = c.UpgradeTimeout + grace + leaveMargin
	return t
}

// A Loader loads a configuration: check as one process does it that has the right to do all,
// handOver for a daemon that has none.
type Loader struct {
	Check    func() (*config.Config, error)
	HandOver func() (*config.Config, *config.Bundle, error)
}

// Read is the life of a reader: it tells the spawner what load says.
func Read(load Loader) error {
	conn, err := NewConn(role.numbers[0])
	if err != nil {
		return err
	}
	defer conn.Close()
	m, err := answerOf(load)
	if err != nil {
		m = &Message{Kind: KindRefusal, Body: refuse(err).Body}
	}
	return conn.Send(m)
}

// answerOf has the table and the bundle; or nothing, at the start, where there is to be no
// daemon of another user, or where that would find for itself what is wrong.
func answerOf(load Loader) (*Message, error) {
	m := &Message{Kind: KindAnswer}
	if role.numbers[1] == 1 {
		if c, err := load.Check(); err != nil || c.RunsAs == nil {
			return m, nil
		}
	}
	c, bundle, err := load.HandOver()
	if err != nil {
		return nil, err
	}
	if c.RunsAs == nil {
		return nil, errUserChanges
	}
	for _, value := range []any{newTable(c, bundle.Path), bundle} {
		fd, err := seal(value)
		if err != nil {
			return nil, fmt.Errorf("hand over the configuration: %w", err)
		}
		m.FDs = append(m.FDs, fd)
	}
	return m, nil
}

// seal puts a value into a file of memory that nobody can change any more.
func seal(value any) (fd int, err error) {
	data, err := json.Marshal(value)
	if err != nil {
		return -1, err
	}
	fd, err = unix.MemfdCreate("fcgid", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, err
	}
	file := os.NewFile(uintptr(fd), "memfd")
	defer file.Close()
	if _, err := file.Write(data); err != nil {
		return -1, err
	}
	if _, err := unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE); err != nil {
		return -1, fmt.Errorf("seal: %w", err)
	}
	return unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 3)
}

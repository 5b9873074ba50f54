package privsep

import (
	"errors"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/listen"
)

// Load is what a start finds: Check, and HandOver where there is to be a daemon of another user.
func (l Loader) Load() (*config.Config, error) {
	c, err := l.Check()
	if err == nil && c.RunsAs != nil {
		_, _, err = l.HandOver()
	}
	return c, err
}

// TrySocket is why the spawner of a configuration could not make the socket of an address, with the
// rights of this process, which is root's. See [listen.Local.Try].
func TrySocket(c *config.Config, l config.Listen, isFree bool) error {
	e := newListen(c, l)
	if e.Fault != "" {
		return errors.New(e.Fault)
	}
	return e.with(func(b listen.Local) error {
		return b.Try(&listen.Options{Address: e.At, Mode: e.Mode, Owner: e.Owner, Group: e.Group}, isFree)
	})
}

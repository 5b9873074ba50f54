package privsep

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"

	"github.com/fcgid/fcgid/internal/address"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/spawn"
	"github.com/fcgid/fcgid/internal/users"
)

// listensOf are the addresses of a configuration that a file has: those of pools, of the admin
// server, and of the control socket unless that is in a folder of the daemon's own.
func listensOf(c *config.Config, file string) (all []Listen) {
	for _, p := range c.Pools {
		for _, l := range p.Listen {
			all = append(all, newListen(c, l))
		}
	}
	if c.Admin.Listen != "" {
		all = append(all, newListen(c, config.Listen{Address: c.Admin.Listen, Mode: config.AdminMode}))
	}
	private := config.PrivateFolderOf(int(c.RunsAs.UID))
	if path := c.Admin.ControlPathOf(int(c.RunsAs.UID), file); path != "" && !(c.Admin.IsControlAuto() && filepath.Dir(path) == private) {
		all = append(all, newListen(c, config.Listen{Address: "unix:" + path, Mode: config.ControlMode}))
	}
	return all
}

// newListen finds out what has to be looked up, so that the spawner looks nothing up.
func newListen(c *config.Config, l config.Listen) Listen {
	e := Listen{Address: l.Address, Mode: l.Mode, Owner: l.Owner, Group: l.Group, At: l.Address}
	e.By = spawn.Identity{UID: c.RunsAs.UID, GID: c.RunsAs.GID, Groups: c.RunsAs.Groups}
	a, err := address.Parse(l.Address)
	switch {
	case err != nil:
	case a.Kind == address.Unix:
		e.Path, e.IsOwn = a.Name, config.TrustFolder(filepath.Dir(a.Name)) == nil
		err = e.setOwner()
	case a.Kind == address.TCP:
		err = e.setHost(a.Name)
	case a.Kind == address.Systemd:
		err = fmt.Errorf("%s is systemd's to make", l.Address)
	}
	if err != nil {
		e.Fault = err.Error()
	}
	return e
}

// setOwner finds who the file belongs to: the daemon's user and group, but for what the
// configuration says.
func (e *Listen) setOwner() error {
	owner, err := listen.LookupOwner(e.Owner, e.Group)
	if err != nil {
		return err
	}
	if owner.UID != -1 {
		e.By.UID, e.By.Groups = uint32(owner.UID), nil
		if u, err := users.Of(e.By.UID); err == nil {
			groups, _ := u.Groups() // without them it has fewer rights
			e.By.Groups = append(groups, u.GID)
		}
	}
	if owner.GID != -1 {
		e.By.GID = uint32(owner.GID)
	}
	return nil
}

// setHost looks a host's name up.
func (e *Listen) setHost(hostPort string) error {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return err
	}
	if _, err := netip.ParseAddr(host); host == "" || err == nil {
		return nil
	}
	a, err := net.ResolveTCPAddr("tcp", hostPort)
	if err != nil {
		return err
	}
	e.At = "tcp:" + a.String()
	return nil
}

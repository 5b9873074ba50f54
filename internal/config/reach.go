package config

import (
	"cmp"
	"os"
	"os/user"
	"slices"
	"strings"

	"github.com/fcgid/fcgid/internal/address"
	"github.com/fcgid/fcgid/internal/users"
)

// warnOfReach tells of programs that may connect to the sockets of other pools, which run as
// somebody else, since a socket's owner or group is theirs: they can have all that is there run, as
// if they were the web server. What everybody may connect to says so itself, by its mode.
func (r *report) warnOfReach(key string, c *Config, p *Pool, sockets func() [][]socket) {
	if p.RunsAs == nil || p.RunsAs.UID == 0 || !p.StartsPrograms() || p.Sandbox.Owner || p.Sandbox.Chroot != "" {
		return
	}
	var reached []string
	at := ""
	for i := range c.Pools {
		other := &c.Pools[i]
		if !other.Sandbox.Owner && other.uid(c) == p.RunsAs.UID {
			continue
		}
		for _, s := range sockets()[i] {
			if by := p.reaches(s); by != "" {
				reached, at = append(reached, other.Name), cmp.Or(at, by)
				break
			}
		}
	}
	if len(reached) > 0 {
		r.warn(key+at, "its programs may connect to the sockets of other pools (%s), as the owner or group of these lets them: a user of its own, in no group of the web server's, keeps pools apart", strings.Join(reached, ", "))
	}
}

// uid is who a pool runs as.
func (p *Pool) uid(c *Config) uint32 {
	switch {
	case p.RunsAs != nil:
		return p.RunsAs.UID
	case c.RunsAs != nil:
		return c.RunsAs.UID
	}
	return uint32(os.Geteuid())
}

// A socket has an owner and a group.
type socket struct {
	Listen
	uid, gid uint32
}

// sockets are those of each pool. To find out whose they are takes a look at the accounts of
// the machine for each, so it is done once.
func (c *Config) sockets() [][]socket {
	all := make([][]socket, len(c.Pools))
	for i := range c.Pools {
		for _, l := range c.Pools[i].Listen {
			if a, err := address.Parse(l.Address); err == nil && a.Kind == address.Unix {
				uid, gid := c.ownerOf(l)
				all[i] = append(all[i], socket{l, uid, gid})
			}
		}
	}
	return all
}

// reaches is the key by which the programs of a pool may connect to a socket, "" if they may
// not: the owner has the owner's rights and no others (path_resolution(7)).
func (p *Pool) reaches(s socket) (key string) {
	switch {
	case len(s.AllowUIDs) > 0 && !slices.Contains(s.AllowUIDs, p.RunsAs.UID):
	case s.uid == p.RunsAs.UID && s.Mode&0o200 != 0:
		return firstIdentityKey(p)
	case s.uid != p.RunsAs.UID && s.Mode&0o020 != 0 && p.RunsAs.IsIn(s.gid):
		return p.keyOfGroup(s.gid)
	}
	return ""
}

// ownerOf is who a socket belongs to: the daemon's user and group, but for what the file says.
func (c *Config) ownerOf(l Listen) (uid, gid uint32) {
	uid, gid = uint32(os.Geteuid()), uint32(os.Getegid())
	if c.RunsAs != nil {
		uid, gid = c.RunsAs.UID, c.RunsAs.GID
	}
	if u, err := users.Find(l.Owner); err == nil {
		uid = u.UID
	} else if n, err := users.ParseID(l.Owner); err == nil {
		uid = n
	}
	if g, err := user.LookupGroup(l.Group); err == nil {
		l.Group = g.Gid
	}
	if n, err := users.ParseID(l.Group); err == nil {
		gid = n
	}
	return uid, gid
}

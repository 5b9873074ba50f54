package config

import (
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/users"
)

// An Identity is who the programs of a pool run as.
type Identity struct {
	Name     string // as the file has it, or the daemon's
	UID, GID uint32
	Groups   []uint32 // supplementary ones
}

// hasIdentity reports whether the file says who the programs run as.
func (p *Pool) hasIdentity() bool { return p.User != "" || p.Group != "" || len(p.Groups) > 0 }

// checkIdentity finds out who the programs of a pool run as, and whether this process can
// start them so.
func (r *report) checkIdentity(key string, p *Pool) {
	if !p.hasIdentity() || !p.StartsPrograms() {
		return
	}
	before := len(r.faults)
	id := &Identity{Name: p.User, UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	id.Groups = r.findUser(key+".user", p, id)
	if p.Group != "" {
		id.GID = r.findGroup(key+".group", p.Group)
	}
	if len(p.Groups) > 0 {
		id.Groups = nil
	}
	for i, name := range p.Groups {
		id.Groups = append(id.Groups, r.findGroup(fmt.Sprintf("%s.groups[%d]", key, i), name))
	}
	if len(r.faults) > before {
		return
	}
	slices.Sort(id.Groups)
	id.Groups = slices.Compact(id.Groups)
	if os.Geteuid() != 0 && !id.isOurs(len(p.Groups) > 0) {
		r.add(key+firstIdentityKey(p), "only root can start programs as somebody else, and this is user %s: start fcgid as root, or take user, group and groups out and start it as the one that is meant",
			users.NameOf(uint32(os.Geteuid())))
		return
	}
	p.RunsAs = id
}

func firstIdentityKey(p *Pool) string {
	switch {
	case p.User != "":
		return ".user"
	case p.Group != "":
		return ".group"
	}
	return ".groups"
}

// checkUser finds out who the daemon is to be, if root starts it and it is to be somebody else.
// Who else starts it is the daemon, whatever the file says, so that one file serves all.
func (r *report) checkUser(c *Config) {
	switch {
	case os.Geteuid() != 0:
		r.warnOfUser(c)
		return
	case c.User == "" && r.requireUser:
		r.add("user", "root starts the daemon, and the file does not say who it is to be: user: fcgid, and in each pool of programs whom they run as, user: www-data; user: root if all is to be root's (docs/users.md)")
		return
	case c.User == "":
		return
	}
	u, err := users.Find(c.User)
	if err != nil {
		r.add("user", "%v%s", unprefixed(err), howToMake(c.User))
		return
	}
	id := &Identity{Name: u.Name, UID: u.UID, GID: u.GID}
	switch id.Groups, err = u.Groups(); {
	case err != nil:
		r.add("user", "%v", err)
	case u.UID != 0:
		c.RunsAs = id
	}
}

// OfRoot names the pools whose programs are root's if root has started the daemon.
func (c *Config) OfRoot() (pools []string) {
	for i := range c.Pools {
		if p := &c.Pools[i]; p.StartsPrograms() && !p.Sandbox.Owner && (p.RunsAs == nil || p.RunsAs.UID == 0) {
			pools = append(pools, p.Name)
		}
	}
	return pools
}

// warnOfUser tells who the daemon is where the file says another and this process cannot become
// that.
func (r *report) warnOfUser(c *Config) {
	if c.User == "" {
		return
	}
	if u, err := users.Find(c.User); err != nil || int(u.UID) != os.Geteuid() {
		r.warn("user", "only root can become somebody else: the daemon is %s, who starts it", users.NameOf(uint32(os.Geteuid())))
	}
}

// checkApart reports a pool whose programs would run as the daemon, in its group, or as root,
// where the daemon is somebody that root has started: they could do to it what they like, or it
// to all. Sockets are its group's by default, so that group reaches every pool.
func (r *report) checkApart(key string, c *Config, p *Pool) {
	if c.RunsAs == nil || !p.StartsPrograms() {
		return
	}
	why := "needs a user of its own for its programs, neither the daemon's nor root: user: NAME"
	switch {
	case p.User == "":
		r.add(key, "with user (%s) a pool %s", c.User, why)
	case p.RunsAs != nil && p.RunsAs.UID == c.RunsAs.UID:
		r.add(key+".user", "is the daemon's, which no program may be: with user (%s) a pool %s", c.User, why)
	case p.RunsAs != nil && p.RunsAs.UID == 0:
		r.add(key+".user", "is root: with user (%s) a pool %s", c.User, why)
	case p.RunsAs != nil && p.RunsAs.IsIn(c.RunsAs.GID):
		r.add(key+p.keyOfGroup(c.RunsAs.GID), "has the daemon's group, which no program may have: with user (%s) a pool needs groups of its own for its programs, as sockets are the daemon's group's unless listen.group says otherwise", c.User)
	}
}

// IsIn reports whether a group is among those of an identity.
func (id *Identity) IsIn(gid uint32) bool { return id.GID == gid || slices.Contains(id.Groups, gid) }

// keyOfGroup is the key by which the programs of a pool have a group that is among theirs: that
// of the account, if the file does not name it.
func (p *Pool) keyOfGroup(gid uint32) string {
	if p.RunsAs.GID == gid && p.Group != "" {
		return ".group"
	}
	if p.RunsAs.GID != gid && len(p.Groups) > 0 {
		return ".groups"
	}
	return firstIdentityKey(p)
}

// isOurs reports whether it is who this process is, whose groups the programs get. Groups
// that the file gives are those and no others.
func (id *Identity) isOurs(exactly bool) bool {
	groups, err := unix.Getgroups()
	if err != nil || int(id.UID) != os.Geteuid() || int(id.GID) != os.Getegid() {
		return false
	}
	return hasGroups(id, groups, exactly)
}

// hasGroups reports whether groups, with that of an identity, are all that the identity
// has; exactly: and no more.
func hasGroups(id *Identity, groups []int, exactly bool) bool {
	own := []uint32{id.GID}
	for _, g := range groups {
		own = append(own, uint32(g))
	}
	isAmong := func(some, all []uint32) bool {
		return !slices.ContainsFunc(some, func(g uint32) bool { return !slices.Contains(all, g) })
	}
	return isAmong(id.Groups, own) && (!exactly || isAmong(own, append([]uint32{id.GID}, id.Groups...)))
}

// findUser takes over a user with the group that it has, and returns the groups that it is
// in beside.
func (r *report) findUser(key string, p *Pool, id *Identity) (groups []uint32) {
	if p.User == "" {
		id.Name = users.NameOf(uint32(os.Geteuid()))
		own, err := unix.Getgroups()
		if err != nil {
			r.add(key, "the daemon's groups: %v", err)
		}
		for _, g := range own {
			groups = append(groups, uint32(g))
		}
		return groups
	}
	u, err := users.Find(p.User)
	uid, idErr := users.ParseID(p.User)
	switch {
	case err != nil && idErr == nil && p.Group != "":
		id.UID = uid
		return nil
	case err != nil && idErr == nil:
		r.add(key, "%s has no account: write its group too", p.User)
		return nil
	case err != nil:
		r.add(key, "%v%s", unprefixed(err), howToMake(p.User))
		return nil
	}
	id.UID, id.GID = u.UID, u.GID
	if groups, err = u.Groups(); err != nil {
		r.add(key, "%v", err)
	}
	return groups
}

func (r *report) findGroup(key, name string) uint32 {
	if g, err := user.LookupGroup(name); err == nil {
		name = g.Gid
	} else if !isID(name) {
		r.add(key, "%v", unprefixed(err))
	}
	gid, _ := users.ParseID(name)
	return gid
}

// howToMake tells how to have a user of the system that is not there.
func howToMake(name string) string {
	if isID(name) || !poolName.MatchString(name) {
		return ""
	}
	return fmt.Sprintf(" (useradd --system --user-group --no-create-home --shell /usr/sbin/nologin %[1]s makes one; or systemd-sysusers, by a file in /etc/sysusers.d with the line u %[1]s - - /)", name)
}

// unprefixed leaves "unknown user x" of what os/user says, to follow a key of that name.
func unprefixed(err error) string {
	text := strings.TrimPrefix(err.Error(), "user: ")
	return strings.TrimPrefix(text, "group: ")
}

// checkScriptOwner reports that this process cannot become who owns a script.
func (r *report) checkScriptOwner(key string, p *Pool) {
	if p.Sandbox.Owner && os.Geteuid() != 0 {
		r.add(key+".sandbox.owner", "only root can start programs as somebody else, and this is user %s: start fcgid as root", users.NameOf(uint32(os.Geteuid())))
	}
}

// owner looks at what needs no look at the machine.
func (r *report) owner(key string, p *Pool) {
	if p.Sandbox.Owner && p.Process == nil {
		r.add(key+".sandbox.owner", "only a pool with process has a script for each program")
	}
	if p.Sandbox.Owner && p.Sandbox.Chroot != "" {
		r.add(key+".sandbox.owner", "cannot be told of files in another root: take chroot out")
	}
	if p.Sandbox.Owner && (p.Sandbox.MinUID < 1 || p.Sandbox.MinUID > maxID) {
		r.add(key+".sandbox.min_uid", "must be from 1 to %d: root's scripts run as root in no pool like this", maxID)
	}
}

const maxID = 1<<31 - 1

// identity looks at what needs no look at the machine.
func (r *report) identity(key string, p *Pool) {
	if !p.StartsPrograms() && p.hasIdentity() {
		r.add(key+firstIdentityKey(p), "functions run in the daemon, as its user: only programs can run as another")
	}
	for name, value := range map[string]string{".user": p.User, ".group": p.Group} {
		r.id(key+name, value)
	}
	for i, g := range p.Groups {
		if g == "" {
			r.add(fmt.Sprintf("%s.groups[%d]", key, i), "is empty: write the name of a group")
		}
		r.id(fmt.Sprintf("%s.groups[%d]", key, i), g)
	}
}

// id reports a number that stands for "leave it as it is" (setresuid(2)).
func (r *report) id(key, text string) {
	if n, err := strconv.ParseUint(text, 10, 64); err == nil && n >= 1<<32-1 {
		r.add(key, "%s is no number of a user or group", text)
	}
}

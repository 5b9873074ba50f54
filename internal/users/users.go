// Package users finds users of this machine and the groups that they are in.
package users

import (
	"fmt"
	"os/user"
	"strconv"
)

// A User is a user that the machine knows.
type User struct {
	Name     string
	UID, GID uint32
	user     *user.User
}

// Find returns the user of a name, or else of a number, as chown(1) does.
func Find(name string) (*User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		uid, parseErr := ParseID(name)
		if parseErr != nil {
			return nil, err
		}
		return Of(uid)
	}
	return newUser(u)
}

// Of returns the user of a number.
func Of(uid uint32) (*User, error) {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return nil, err
	}
	return newUser(u)
}

func newUser(from *user.User) (*User, error) {
	u := &User{Name: from.Username, user: from}
	var err error
	if u.UID, err = ParseID(from.Uid); err != nil {
		return nil, fmt.Errorf("the number of user %s: %w", u.Name, err)
	}
	if u.GID, err = ParseID(from.Gid); err != nil {
		return nil, fmt.Errorf("the group of user %s: %w", u.Name, err)
	}
	return u, nil
}

// Groups are those that the user is in. Its own group may be among them.
func (u *User) Groups() (groups []uint32, err error) {
	ids, err := u.user.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("the groups of %s: %w", u.Name, err)
	}
	for _, id := range ids {
		gid, err := ParseID(id)
		if err != nil {
			return nil, fmt.Errorf("the groups of %s: %w", u.Name, err)
		}
		groups = append(groups, gid)
	}
	return groups, nil
}

// NameOf is a user's name, or the number where there is none.
func NameOf(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

// GroupName is a group's name, or the number where there is none.
func GroupName(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return id
}

// ParseID reads the number of a user or a group.
func ParseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

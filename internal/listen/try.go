package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/address"
)

// Try is why Bind would fail here and now, with the rights of the thread that calls it; nil if
// nothing is known against it. Nothing is made and nobody can connect. Whether somebody listens
// there already is looked at only if isFree: a connection may tell.
func (b Local) Try(o *Options, isFree bool) error {
	a, err := address.Parse(o.Address)
	if err != nil {
		return err
	}
	fd := -1
	switch a.Kind {
	case address.Unix:
		return b.tryPath(a.Name, o, isFree)
	case address.Abstract:
		fd, err = bindAbstract(a.Name, trial)
	case address.TCP:
		fd, err = bindTCP(a.Name, trial)
	case address.Systemd:
		return nil // it is systemd's to make
	}
	if err == nil {
		unix.Close(fd)
	}
	if !isFree && errors.Is(err, ErrInUse) {
		return nil
	}
	return err
}

// tryPath is bindPath that asks the kernel for what it would let us do.
func (b Local) tryPath(path string, o *Options, isFree bool) error {
	owner, err := b.ids(o)
	if err != nil {
		return err
	}
	if err := unix.Faccessat(unix.AT_FDCWD, filepath.Dir(path)+"/.", unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return pathError(path, err)
	}
	inUse := tryReplace(path, isFree)
	if inUse != nil && !errors.Is(inUse, ErrInUse) {
		return inUse
	}
	if isWithoutSockets(filepath.Dir(path)) {
		return os.NewSyscallError("bind", unix.EPERM)
	}
	if made := ownerOfNew(path); !mayGive(made, owner) {
		return chownError(path, owner, unix.EPERM)
	}
	return inUse // who is in the way may go, so this comes last
}

// TryBy is why OpenBy would fail beside sockets that yield; nil if nothing is known against it. Of a
// Binder that is not this process nothing is known but what has to do with its own sockets. isNew is
// that none of those is there.
func TryBy(by Binder, o *Options, yielding ...*Listener) (isNew bool, err error) {
	a, err := address.Parse(o.Address)
	isYielded := func(l *Listener) bool { return l.tcpAddr() != nil && l.IsInTheWay(o.Address) }
	switch {
	case err != nil:
	case a.Kind == address.Systemd:
		var ln socketListener
		if ln, err = passedListener(a.Name); err == nil {
			ln.Close()
		}
	case slices.ContainsFunc(yielding, isYielded):
	case by == nil:
		isNew, err = true, Local{}.Try(o, true)
	case a.Kind == address.TCP:
		isNew = true
		if err = (Local{}).Try(o, true); !errors.Is(err, ErrInUse) {
			err = nil
		}
	default:
		isNew = true
	}
	if err != nil {
		err = fmt.Errorf("listen %s: %w", o.Address, err)
	}
	return isNew, err
}

// TryApply is why Apply would fail by what o asks for, whoever may do it.
func (l *Listener) TryApply(o *Options) error {
	err := l.checkFamily(o)
	if err == nil && l.file != nil {
		_, err = LookupOwner(o.Owner, o.Group)
	}
	if err != nil {
		err = fmt.Errorf("apply to %s: %w", o.Address, err)
	}
	return err
}

// tryReplace is why what is at path could not make room for a socket. Where it need not, it has to be
// one.
func tryReplace(path string, isFree bool) error {
	found, err := openSocketFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer found.Close()
	if !isFree {
		return nil
	}
	isStale, err := checkStale(path)
	if isStale && !mayReplace(path, found) {
		err = &fs.PathError{Op: "unlink", Path: path, Err: unix.EPERM}
	}
	return err
}

// isWithoutSockets reports whether a folder is of a file system that has no sockets, which its
// mode does not tell.
func isWithoutSockets(folder string) bool {
	var fs unix.Statfs_t
	if unix.Statfs(folder, &fs) != nil {
		return false
	}
	switch uint32(fs.Type) { // signed, and of 32 bits on some machines
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.MSDOS_SUPER_MAGIC, unix.EXFAT_SUPER_MAGIC:
		return true
	}
	return false
}

// own is who files are made by that the thread makes.
func own() Owner {
	uid, _ := unix.SetfsuidRetUid(-1)
	gid, _ := unix.SetfsgidRetGid(-1)
	return Owner{uid, gid}
}

// mayReplace reports whether a file may be removed from a folder where files may be made: those of
// a sticky one belong to who has made them (unlink(2)).
func mayReplace(path string, found *socketHandle) bool {
	var folder unix.Stat_t
	if err := unix.Stat(filepath.Dir(path), &folder); err != nil || folder.Mode&unix.S_ISVTX == 0 {
		return true
	}
	uid := own().UID
	return uid == found.owner.UID || uid == int(folder.Uid) || has(unix.CAP_FOWNER)
}

// ownerOfNew is whose a file is that is made at path: a folder with the set-group-ID bit gives
// its group.
func ownerOfNew(path string) Owner {
	made := own()
	var folder unix.Stat_t
	if unix.Stat(filepath.Dir(path), &folder) == nil && folder.Mode&unix.S_ISGID != 0 {
		made.GID = int(folder.Gid)
	}
	return made
}

// mayGive reports whether chown(2) lets the thread give a file of its own to somebody.
func mayGive(made, to Owner) bool {
	isSame := func(a, b int) bool { return b == -1 || a == b }
	if isSame(made.UID, to.UID) && isSame(made.GID, to.GID) || has(unix.CAP_CHOWN) {
		return true
	}
	groups, err := unix.Getgroups()
	return isSame(made.UID, to.UID) && err == nil && slices.Contains(append(groups, own().GID), to.GID)
}

// has reports whether a capability is in force in this thread.
func has(capability uint) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	return err == nil && data[capability/32].Effective&(1<<(capability%32)) != 0
}

// Claims are addresses that are to be listened on together.
type Claims struct {
	files map[string]string // address by folder and name
	ports map[int][]claim
}

// A claim is an address of TCP.
type claim struct {
	at      *net.TCPAddr
	address string
}

// Add adds an address, and returns the one before it that is the same socket by another name, or
// that the kernel does not let it be beside; "" if there is none.
func (c *Claims) Add(text string) (taken string) {
	a, err := address.Parse(text)
	if err != nil {
		return ""
	}
	switch a.Kind {
	case address.Unix:
		return c.addFile(a.Name, text)
	case address.TCP:
		return c.addPort(a.Name, text)
	}
	return ""
}

func (c *Claims) addFile(path, text string) (taken string) {
	var folder unix.Stat_t
	if unix.Stat(filepath.Dir(path), &folder) != nil {
		return ""
	}
	key := fmt.Sprintf("%d:%d/%s", folder.Dev, folder.Ino, filepath.Base(path))
	if c.files == nil {
		c.files = make(map[string]string)
	}
	if taken = c.files[key]; taken == "" {
		c.files[key] = text
	}
	return taken
}

func (c *Claims) addPort(hostPort, text string) (taken string) {
	at := resolve(hostPort)
	if at == nil || at.Port == 0 {
		return ""
	}
	for _, other := range c.ports[at.Port] {
		if clash(at, other.at) || clash(other.at, at) {
			return other.address
		}
	}
	if c.ports == nil {
		c.ports = make(map[int][]claim)
	}
	c.ports[at.Port] = append(c.ports[at.Port], claim{at, text})
	return ""
}

// clash reports whether a socket at one of two addresses of a port takes what is for the other: at
// the same host, or at one that stands for all of its family, or of both.
func clash(a, b *net.TCPAddr) bool {
	if a.IP.Equal(b.IP) {
		return a.Zone == b.Zone
	}
	isAll := isWildcard(a.IP) && a.IP.To4() == nil
	return isAll || isWildcard(a.IP) && b.IP.To4() != nil
}

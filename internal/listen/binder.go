package listen

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/address"
)

// A Binder does what may take rights that this process has not: Local does it here, and
// another one has a process do it that has them.
type Binder interface {
	// Bind returns a descriptor that listens at o's Address, which is not one of systemd's, and
	// the file of a unix:/path, which has the mode, owner and group of o. An address that
	// somebody listens on is an ErrInUse, unless it isBeside sockets that let it be there.
	Bind(ctx context.Context, o *Options, isBeside bool) (fd int, file *File, err error)
	// Permit gives a file that Bind has made the mode, owner and group of o. After an error it
	// is as it was.
	Permit(o *Options, file *File) error
	// Find is what is at a path, and is not followed if it is a link.
	Find(path string) (*File, error)
	// Remove removes a file that Bind has made, unless another one is in its place.
	Remove(file *File) error
	// DropIncoming has the kernel drop packets for a TCP socket that listens: those of new
	// connections, or all. Those for the connections that have come of it arrive.
	DropIncoming(fd int, all bool) error
}

// A File is one in a file system, known by device and inode number.
type File struct {
	Path     string
	Dev, Ino uint64
}

func newFile(path string, stat *unix.Stat_t) *File { return &File{path, uint64(stat.Dev), stat.Ino} }

// IsSame reports whether both are one file, by whatever paths.
func (f *File) IsSame(g *File) bool { return f.Dev == g.Dev && f.Ino == g.Ino }

// Local is the Binder with the rights of the thread that calls it.
type Local struct {
	// Owner, if not nil, is who files belong to, in place of the Options' Owner and Group. The
	// thread makes them so, and its umask is 0.
	Owner *Owner
}

// An Owner is a user and a group, by their numbers.
type Owner struct{ UID, GID int }

// ids are whose a file is to be; -1 leaves it.
func (b Local) ids(o *Options) (owner Owner, err error) {
	if b.Owner != nil {
		return *b.Owner, nil
	}
	return LookupOwner(o.Owner, o.Group)
}

// Bind is of Binder.
func (b Local) Bind(_ context.Context, o *Options, isBeside bool) (fd int, file *File, err error) {
	a, err := address.Parse(o.Address)
	if err != nil {
		return -1, nil, err
	}
	switch a.Kind {
	case address.Unix:
		return b.bindPath(a.Name, o)
	case address.Abstract:
		fd, err = bindAbstract(a.Name, alone)
		return fd, nil, err
	case address.TCP:
		how := alone
		if isBeside {
			how = beside
		}
		fd, err = bindTCP(a.Name, how)
		return fd, nil, err
	}
	return -1, nil, fmt.Errorf("%s is nothing to bind", o.Address)
}

// Permit is of Binder.
func (b Local) Permit(o *Options, file *File) error {
	owner, err := b.ids(o)
	if err != nil {
		return err
	}
	return file.setPermissions(o.Mode, owner)
}

// Find is of Binder.
func (Local) Find(path string) (*File, error) {
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		return nil, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	return newFile(path, &stat), nil
}

// Remove is of Binder.
func (Local) Remove(file *File) error { return file.remove() }

// listenerOf takes over a descriptor.
func listenerOf(fd int) (socketListener, error) {
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close()
	ln, err := listenerAt(f)
	if err != nil {
		return nil, cause(err)
	}
	return ln, nil
}

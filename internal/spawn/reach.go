package spawn

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A FileID is what the kernel knows a file or folder by, whatever its path is.
type FileID struct{ Device, Inode uint64 }

// A Place is a file, or a folder with all that is in it, for somebody to write to.
type Place struct {
	Path string
	// Above are the place and the folders around it. None are known of one that is not there.
	Above []FileID
}

// PlaceOfFile is where a file is, or can be made and renamed: its folder. What is no regular file
// is a place of its own: others are beside a device.
func PlaceOfFile(file string) Place {
	if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
		return PlaceOfFolder(file)
	}
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real
	}
	return PlaceOfFolder(filepath.Dir(file))
}

// PlaceOfFolder is a folder itself.
func PlaceOfFolder(path string) Place {
	p := Place{Path: path}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return p
	}
	for at := real; ; at = filepath.Dir(at) {
		var st unix.Stat_t
		if unix.Stat(at, &st) != nil {
			return Place{Path: path}
		}
		p.Above = append(p.Above, FileID{uint64(st.Dev), st.Ino})
		if at == "/" {
			return p
		}
	}
}

// A Reach is what files a process may have, and all that it starts. It is made for one that
// StartApart starts.
type Reach struct {
	ruleset int // -1: all
	granted []FileID
}

// Unbounded is that of all files.
func Unbounded() *Reach { return &Reach{ruleset: -1} }

// worldReads are what any program of Go and its libraries read of a machine: names of users,
// hosts and time zones, what the kernel tells, and libraries themselves. Scripts, homes and data
// are not among them.
var worldReads = []string{"/etc", "/usr", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sys", "/run", "/nix/store", "/gnu/store", "/var/lib/sss"}

// NewReach makes one for somebody who may write to these places and read, beside them, what
// programs need. What cannot be found is left out. Where the kernel has no Landlock it is of all
// files. Close is called when the process has been started.
func NewReach(id *Identity, places []Place) (*Reach, error) {
	r := Unbounded()
	abi := landlockABI()
	if abi == 0 {
		return r, nil
	}
	const reads = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	attr := unix.LandlockRulesetAttr{Handled_access_fs: landlockWrites(abi) | reads}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return nil, fmt.Errorf("landlock_create_ruleset: %w", errno)
	}
	r.ruleset = int(fd)
	// As that user: root may be the one that a file server lets in nowhere.
	err := id.Look(func() error {
		for _, path := range append(worldReads, "/proc/self/exe", "/dev/random", "/dev/urandom") {
			if _, err := r.grant(path, reads); err != nil {
				return err
			}
		}
		for _, path := range []string{"/dev/null", "/dev/zero", "/dev/full"} {
			if _, err := r.grant(path, attr.Handled_access_fs); err != nil {
				return err
			}
		}
		for _, p := range places {
			id, err := r.grant(p.Path, attr.Handled_access_fs)
			if err != nil {
				return err
			}
			r.granted = append(r.granted, id)
		}
		return nil
	})
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// grant adds a rule for what is at the path, if that can be found.
func (r *Reach) grant(path string, rights uint64) (FileID, error) {
	file, err := permitOne(r.ruleset, "-"+path, rights)
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return FileID{}, nil // nor will it be by who is to use it
	case errors.Is(err, unix.EBADFD): // a pipe or a socket, which nobody is kept from
	case err != nil:
		return FileID{}, err
	}
	return FileID{file.device, file.inode}, nil
}

// Covers reports whether a place was granted, or lies in one that was; and so of what could not
// be found.
func (r *Reach) Covers(p Place) bool {
	if r.ruleset < 0 || len(p.Above) == 0 {
		return true
	}
	return slices.ContainsFunc(p.Above, func(id FileID) bool { return slices.Contains(r.granted, id) })
}

// Close lets go of what the kernel has of it.
func (r *Reach) Close() {
	if r.ruleset >= 0 {
		unix.Close(r.ruleset)
	}
}

// restrict bounds the calling thread, and what it starts.
func (r *Reach) restrict() error {
	if r.ruleset < 0 {
		return nil
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(r.ruleset), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

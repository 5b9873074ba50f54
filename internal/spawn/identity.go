package spawn

import (
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An Identity is who a program runs as. To be somebody else takes root's rights.
type Identity struct {
	UID, GID uint32
	Groups   []uint32 // supplementary ones, and no others
}

// ourUID and ourGID are this process's, which do not change.
var ourUID, ourGID = unix.Geteuid(), unix.Getegid()

// isOther reports whether a program has to become somebody. Who is root already takes
// the groups, too.
func (i *Identity) isOther() bool {
	return i != nil && (ourUID == 0 || int(i.UID) != ourUID || int(i.GID) != ourGID)
}

// isRoot reports whether a program is root's.
func (i *Identity) isRoot() bool {
	if i == nil {
		return ourUID == 0
	}
	return i.UID == 0
}

// User is its user's number, for those who need no more; nil for nil.
func (i *Identity) User() *uint32 {
	if i == nil {
		return nil
	}
	return &i.UID
}

// ownGroups are the supplementary groups that this process has, which do not change.
var ownGroups = sync.OnceValues(func() ([]uint32, error) {
	groups, err := unix.Getgroups()
	own := make([]uint32, len(groups))
	for i, g := range groups {
		own[i] = uint32(g)
	}
	return own, err
})

// Look calls f with the rights to files that the identity has, and no others. nil is ours.
// It is for looking alone: what f starts does not run as that user, and what other
// goroutines do for f is done with our rights. The error is f's, or tells that the rights
// cannot be taken on.
func (i *Identity) Look(f func() error) error {
	if !i.isOther() {
		return f()
	}
	return i.be(f, nil)
}

// Make calls f with all our rights to files: what it makes is the identity's, wherever that is.
// The rest is as with Look.
func (i *Identity) Make(f func() error) error {
	if !i.isOther() {
		return f()
	}
	rights, err := getCapabilities()
	if err != nil {
		return fmt.Errorf("make files of user %d: %w", i.UID, err)
	}
	return i.be(f, &rights)
}

// be calls f as the identity, with the capabilities that it has, or with others.
func (i *Identity) be(f func() error, rights *capabilitySets) error {
	own, err := ownGroups()
	if err != nil {
		return fmt.Errorf("look as user %d: %w", i.UID, err)
	}
	runtime.LockOSThread()
	// Rights are a thread's own, whatever POSIX says. The root user's rights to files
	// come and go with its fsuid (capabilities(7)).
	if err = setThreadGroups(i.Groups); err != nil {
		runtime.UnlockOSThread() // nothing has changed
		return fmt.Errorf("look as user %d: %w", i.UID, err)
	}
	defer beOurselves(own)
	unix.SetfsgidRetGid(int(i.GID))
	unix.SetfsuidRetUid(int(i.UID))
	if uid, _ := unix.SetfsuidRetUid(-1); uid != int(i.UID) {
		return fmt.Errorf("look as user %d: %w", i.UID, unix.EPERM)
	}
	if rights != nil {
		if err := rights.set(); err != nil {
			return fmt.Errorf("keep rights as user %d: %w", i.UID, err)
		}
	}
	return f()
}

// beOurselves gives the thread back what it had.
func beOurselves(groups []uint32) {
	unix.SetfsuidRetUid(ourUID)
	unix.SetfsgidRetGid(ourGID)
	if err := setThreadGroups(groups); err != nil {
		panic("spawn: a thread cannot be itself again: " + err.Error()) // nobody else must get it
	}
	runtime.UnlockOSThread()
}

// setThreadGroups is setgroups(2) of this thread alone, which the one of the library is
// not.
func setThreadGroups(groups []uint32) error {
	var first unsafe.Pointer
	if len(groups) > 0 {
		first = unsafe.Pointer(&groups[0])
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(first), 0); errno != 0 {
		return errno
	}
	return nil
}

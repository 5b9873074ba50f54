package spawn

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// confine does to the calling thread what its children are to inherit, in the order in
// which each step is still permitted. The thread is of no use for anything else
// afterwards, also if that fails. The files are those that Landlock knows by now.
func (s *Sandbox) confine(tmp *privateTmp, isRoot bool) (files []knownFile, err error) {
	nameThread("sandbox " + s.Name)
	// The umask, the root and the working directory are the thread's own from here on.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return nil, fmt.Errorf("sandbox: unshare the umask: %w", err)
	}
	if s.Umask != nil {
		unix.Umask(int(*s.Umask))
	}
	if s.PrivateTmp {
		if err := tmp.enter(); err != nil {
			return nil, fmt.Errorf("sandbox.private_tmp: %w", err)
		}
	}
	if s.Chroot != "" {
		if err := chroot(s.Chroot); err != nil {
			return nil, fmt.Errorf("sandbox.chroot: %s: %w", s.Chroot, err)
		}
	}
	if s.LimitCapabilities {
		if err := s.limitCapabilities(isRoot); err != nil {
			return nil, fmt.Errorf("sandbox.capabilities: %w", err)
		}
	}
	if s.NoNewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return nil, fmt.Errorf("sandbox.no_new_privs: %w", err)
		}
	}
	if s.isPrivileged() {
		if files, err = s.landlock(); err != nil {
			return nil, err
		}
	}
	if s.NoNetwork {
		if err := refuseSockets(); err != nil {
			return nil, fmt.Errorf("sandbox.network: %w", err)
		}
	}
	return files, nil
}

// nameThread gives the thread a name that ps -L shows.
func nameThread(name string) {
	var comm [16]byte // with the NUL at its end
	copy(comm[:15], name)
	unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&comm[0])), 0, 0, 0)
}

func chroot(dir string) error {
	if err := unix.Chroot(dir); err != nil {
		return err
	}
	return unix.Chdir("/")
}

// onThread calls f on a thread that nothing else runs on, before and after, and that ends
// with f.
func onThread(f func()) {
	runtime.LockOSThread()
	if mayEnd(unix.Gettid()) {
		f()
		return // with a goroutine that is locked to it, a thread ends
	}
	begun := make(chan struct{})
	go onThread(func() { // another one, since this is taken
		close(begun)
		f()
	})
	<-begun
	runtime.UnlockOSThread()
}

package spawn

import (
	"slices"

	"golang.org/x/sys/unix"
)

// capabilitySets are the calling thread's, the first 64 of each.
type capabilitySets struct{ effective, permitted, inheritable uint64 }

func getCapabilities() (c capabilitySets, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return c, err
	}
	join := func(low, high uint32) uint64 { return uint64(low) | uint64(high)<<32 }
	return capabilitySets{
		effective:   join(data[0].Effective, data[1].Effective),
		permitted:   join(data[0].Permitted, data[1].Permitted),
		inheritable: join(data[0].Inheritable, data[1].Inheritable),
	}, nil
}

func (c *capabilitySets) set() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	for i := range data {
		shift := 32 * i
		data[i] = unix.CapUserData{
			Effective: uint32(c.effective >> shift), Permitted: uint32(c.permitted >> shift), Inheritable: uint32(c.inheritable >> shift),
		}
	}
	return unix.Capset(&header, &data[0])
}

// has reports whether a capability is effective.
func (c *capabilitySets) has(capability int) bool { return c.effective>>capability&1 == 1 }

// needsBound reports whether programs could have what is in the bounding set: root has, and
// with new privileges others have a way to it.
func needsBound(s *Sandbox, isRoot bool) bool { return isRoot || !s.NoNewPrivs }

// limitCapabilities leaves to the thread's children, which are root or not, what is kept.
// The thread itself stays able to start them as other users: what it holds, an exec takes
// from it.
func (s *Sandbox) limitCapabilities(isRoot bool) error {
	own, err := getCapabilities()
	if err != nil {
		return err
	}
	// Who may not change the bounding set need not, where nobody has a way to it.
	if own.has(unix.CAP_SETPCAP) || needsBound(s, isRoot) {
		if err := s.bound(); err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	own.inheritable = 0
	return own.set()
}

// bound takes out of the thread's bounding set what is not kept.
func (s *Sandbox) bound() error {
	for c := uintptr(0); ; c++ {
		there, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err == unix.EINVAL {
			return nil // the kernel has no more
		}
		if err != nil {
			return err
		}
		if there == 0 || slices.Contains(s.Capabilities, c) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return err
		}
	}
}

// ambient are the capabilities that a program is to have though it is not root.
func (c *Command) ambient() []uintptr {
	s := c.Sandbox
	if s == nil || !s.LimitCapabilities {
		return nil
	}
	if c.Identity.isRoot() {
		return nil // the kernel gives root what is in the bounding set
	}
	return s.Capabilities
}

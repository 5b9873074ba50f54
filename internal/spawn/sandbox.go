package spawn

import (
	"fmt"
	"slices"
	"strings"
)

// A Sandbox is what a program, and all that it starts, cannot undo. It is a plain value;
// the zero one changes nothing. What cannot be done is an error of Start and of Hold that
// names the key of the configuration: no program runs with less than was asked for. Fit
// says beforehand what this machine cannot do.
//
// Paths are those of the program: they lie inside Chroot.
type Sandbox struct {
	// Name says whose it is. Programs under sandboxes of other names share nothing.
	Name string

	// Without NoNewPrivs a program's first moments may be without Nice and OOMScoreAdj.
	Umask       *uint32 // nil: ours
	Nice        int     // is added to ours
	OOMScoreAdj int     // 0: ours
	NoNewPrivs  bool    // set-user-ID, set-group-ID and file capabilities mean nothing

	// LimitCapabilities takes away all capabilities but Capabilities, also from
	// set-user-ID programs. Those the program has, whoever it runs as.
	LimitCapabilities bool
	Capabilities      []uintptr // numbers, see capabilities(7)

	Rlimits []Rlimit // soft and hard
	Chroot  string   // "" is no other root

	// Read are files, and folders with all that is in them, which may be read and
	// executed; Write may be read and written. Nothing else may be written then, nor,
	// where Read is not empty, read. A path after "-" need not exist. See landlock(7).
	Read, Write []string
	// Spool is the folder of the unlinked files that programs are given as descriptor 0:
	// what is there may be read though Read does not have it, for /dev/stdin. "" is none.
	// In a Chroot it means nothing.
	Spool string

	NoNetwork  bool // no sockets but Unix sockets that have a file
	PrivateTmp bool // a /tmp and a /var/tmp of its Name's own
}

// An Rlimit is a limit of setrlimit(2).
type Rlimit struct {
	Name     string // nofile
	Resource int    // unix.RLIMIT_NOFILE
	Value    uint64
}

// isInherited reports whether the sandbox has what a thread gives to its children.
func (s *Sandbox) isInherited() bool {
	return s.Umask != nil || s.NoNewPrivs || s.LimitCapabilities || s.Chroot != "" || s.NoNetwork || s.PrivateTmp || s.limitsFiles()
}

// isSettled reports whether it has what is done to a program from outside.
func (s *Sandbox) isSettled() bool { return s.isAdjusted() || len(s.Rlimits) > 0 }

func (s *Sandbox) isAdjusted() bool { return s.Nice != 0 || s.OOMScoreAdj != 0 }

// isAdjustedFirst reports whether a program does not begin before it is adjusted: where it
// can be held, and loses nothing by that.
func (s *Sandbox) isAdjustedFirst() bool {
	return s != nil && s.isAdjusted() && s.NoNewPrivs && canTrace() == nil
}

// limitsFiles reports whether there are files that may not be written.
func (s *Sandbox) limitsFiles() bool { return len(s.Read)+len(s.Write) > 0 }

// isPrivileged reports whether Landlock or seccomp is needed, which the kernel gives to
// CAP_SYS_ADMIN or to who has given up new privileges.
func (s *Sandbox) isPrivileged() bool { return s.NoNetwork || s.limitsFiles() }

// key tells sandboxes apart whose threads must not be the same.
func (s *Sandbox) key() string {
	umask := -1
	if s.Umask != nil {
		umask = int(*s.Umask)
	}
	head := fmt.Sprint(umask, s.NoNewPrivs, s.LimitCapabilities, s.Capabilities, s.NoNetwork, s.PrivateTmp)
	return strings.Join(slices.Concat([]string{s.Name, head, s.Chroot, s.Spool}, s.Read, []string{""}, s.Write), "\x00")
}

package spawn

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/cgroup"
)

// A Machine is what the kernel, or a container, grants this process of a Sandbox. It was
// tried, not guessed.
type Machine struct {
	own      capabilitySets
	uid      int
	landlock int   // its version
	seccomp  error // what is in the way of it, nil: nothing; likewise below
	ptrace   error
	private  error // of a private /tmp
	oomScore int   // ours
}

// A Lack is a key of a sandbox that cannot be done, or not wholly.
type Lack struct {
	Key    string // sandbox.read
	Reason string
	// Fatal tells that the program must not run without it: it is not of the machine but
	// of the configuration, or the program would be another one.
	Fatal bool
}

// String is the key and the reason.
func (l Lack) String() string { return l.Key + ": " + l.Reason }

// LookAtMachine tries what this machine can do. That takes some milliseconds.
func LookAtMachine() *Machine {
	m := &Machine{uid: unix.Geteuid(), landlock: landlockABI(), seccomp: hasSeccomp(), ptrace: canTrace()}
	m.own, _ = getCapabilities()
	tmp := newPrivateTmp()
	_, m.private = tmp.made()
	tmp.close()
	if text, err := os.ReadFile("/proc/self/oom_score_adj"); err == nil {
		m.oomScore, _ = strconv.Atoi(strings.TrimSpace(string(text)))
	}
	return m
}

// tryTrace stops a program before its first instruction, which does not come.
func tryTrace() error {
	result := make(chan error)
	go onThread(func() {
		pid, err := syscall.ForkExec("/proc/self/exe", []string{"fcgid"}, &syscall.ProcAttr{
			Sys: &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL},
		})
		if err == nil {
			err = awaitExec(pid)
			l := &launch{pid: pid}
			if err != errReaped {
				l.abandon(nil)
			}
		}
		result <- err
	})
	return <-result
}

var machine = sync.OnceValue(LookAtMachine)

// Fit is Machine.Fit of this one, which is looked at once.
func (l *Local) Fit(s Sandbox, id *Identity) (fits Sandbox, lacks []Lack) {
	return machine().Fit(s, id)
}

// Umask is that of this process. It is the calling thread's: the first one may have another.
func Umask() uint32 {
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return 0o022
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "Umask:"); ok {
			mask, _ := strconv.ParseUint(strings.TrimSpace(text), 8, 32)
			return uint32(mask)
		}
	}
	return 0o022
}

// Fit is what of a sandbox can be done, for programs that run as somebody, nil for
// ourselves, and what cannot.
func (m *Machine) Fit(s Sandbox, id *Identity) (fits Sandbox, lacks []Lack) {
	f := fitting{Machine: m, s: s, uid: m.uid}
	if id != nil {
		f.uid = int(id.UID)
	}
	f.priorities()
	f.capabilities()
	f.rlimits()
	f.files()
	f.network()
	f.tmp()
	if s.Chroot != "" && !m.own.has(unix.CAP_SYS_CHROOT) {
		f.fatal("chroot", "needs root, or CAP_SYS_CHROOT")
	}
	return f.s, f.lacks
}

// A fitting takes from a sandbox what cannot be done.
type fitting struct {
	*Machine
	s     Sandbox
	uid   int // of the programs
	lacks []Lack
}

func (f *fitting) lack(key, format string, args ...any) {
	f.lacks = append(f.lacks, Lack{Key: "sandbox." + key, Reason: fmt.Sprintf(format, args...)})
}

func (f *fitting) fatal(key, reason string) {
	f.lacks = append(f.lacks, Lack{"sandbox." + key, reason, true})
}

// reasonOf says what is behind an error of the kernel's.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Sprintf("needs root's rights, which this process or its container does not have (%v)", err)
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Sprintf("the kernel, or the container, does not have it (%v)", err)
	}
	return err.Error()
}

func (f *fitting) priorities() {
	switch {
	case f.s.Nice == 0 || f.own.has(unix.CAP_SYS_NICE):
	case f.s.Nice < 0:
		f.lack("nice", "%d: only root may raise the priority", f.s.Nice)
		f.s.Nice = 0
	case f.uid != f.Machine.uid:
		f.lack("nice", "%d: of other users' programs it takes CAP_SYS_NICE, which this process or its container does not have", f.s.Nice)
		f.s.Nice = 0
	}
	switch {
	case f.s.OOMScoreAdj == 0:
	case f.uid != f.Machine.uid && !f.own.has(unix.CAP_DAC_OVERRIDE):
		f.lack("oom_score_adj", "%d: of other users' programs it takes CAP_DAC_OVERRIDE, which this process or its container does not have", f.s.OOMScoreAdj)
		f.s.OOMScoreAdj = 0
	case f.s.OOMScoreAdj < f.oomScore && !f.own.has(unix.CAP_SYS_RESOURCE):
		f.lack("oom_score_adj", "%d: only root may set less than the daemon's own, which is %d", f.s.OOMScoreAdj, f.oomScore)
		f.s.OOMScoreAdj = 0
	}
}

func (f *fitting) capabilities() {
	if !f.s.LimitCapabilities {
		return
	}
	if !f.own.has(unix.CAP_SETPCAP) && needsBound(&f.s, f.uid == 0) {
		reason := "an ordinary user cannot take them from set-user-ID programs: no_new_privs: true does"
		if f.uid == 0 {
			reason = "to take them from root's programs takes CAP_SETPCAP, which this process or its container does not have"
		}
		f.lack("capabilities", "%s", reason)
		f.s.LimitCapabilities, f.s.Capabilities = false, nil
		return
	}
	var kept []uintptr
	for _, c := range f.s.Capabilities {
		if f.own.permitted>>c&1 == 0 {
			f.lack("capabilities", "the daemon does not have capability %d, so its programs cannot", c)
			continue
		}
		kept = append(kept, c)
	}
	f.s.Capabilities = kept
}

func (f *fitting) rlimits() {
	if len(f.s.Rlimits) == 0 {
		return
	}
	mayRaise := f.own.has(unix.CAP_SYS_RESOURCE)
	if f.ptrace != nil || f.uid != f.Machine.uid && !mayRaise {
		mayRaise = false // the program limits itself
		switch {
		case runtime.GOARCH != "amd64":
			f.lack("rlimits", "%v", errNoLimiter)
			f.s.Rlimits = nil
			return
		case f.s.Chroot != "":
			f.lack("rlimits", "with a chroot they need ptrace(2) and CAP_SYS_RESOURCE")
			f.s.Rlimits = nil
			return
		}
	}
	for _, r := range f.s.Rlimits {
		var now unix.Rlimit
		if err := unix.Getrlimit(r.Resource, &now); err == nil && r.Value > now.Max && !mayRaise {
			f.lack("rlimits", "%s=%d is more than the daemon's own limit of %d, which stays: to raise it takes CAP_SYS_RESOURCE, and ptrace(2)", r.Name, r.Value, now.Max)
		}
		if r.Resource == unix.RLIMIT_NPROC && f.uid == 0 {
			f.lack("rlimits", "nproc means nothing for root's programs: give the pool a user")
		}
	}
}

const needsNoNewPrivs = "an ordinary user needs no_new_privs: true beside it"

func (f *fitting) mayConfine() bool { return f.s.NoNewPrivs || f.own.has(unix.CAP_SYS_ADMIN) }

func (f *fitting) files() {
	key := "read"
	if len(f.s.Read) == 0 {
		key = "write"
	}
	switch {
	case !f.s.limitsFiles():
	case f.landlock == 0:
		f.lack(key, "the kernel has no Landlock: it is of Linux 5.13, and may be turned off (lsm= on the kernel's command line) or kept from a container")
		f.s.Read, f.s.Write = nil, nil
	case !f.mayConfine():
		f.fatal(key, needsNoNewPrivs)
	case f.landlock < 3:
		f.lack("write", "the kernel's Landlock, version %d, does not keep files from being truncated: version 3 of Linux 6.2 does", f.landlock)
	}
}

// tmp lets programs write to the /tmp of all where they cannot have their own: many do not
// start without one.
func (f *fitting) tmp() {
	if f.private == nil || !f.s.PrivateTmp {
		return
	}
	f.lack("private_tmp", "%s: the programs write to the machine's /tmp and /var/tmp", reasonOf(f.private))
	f.s.PrivateTmp = false
	if f.s.limitsFiles() {
		f.s.Write = slices.Concat(f.s.Write, []string{"-/tmp", "-/var/tmp"})
	}
}

func (f *fitting) network() {
	switch {
	case !f.s.NoNetwork:
	case f.seccomp != nil:
		f.lack("network", "a seccomp filter is not possible: %s", reasonOf(f.seccomp))
		f.s.NoNetwork = false
	case !f.mayConfine():
		f.fatal("network", needsNoNewPrivs)
	case f.landlock < 6:
		f.lack("network", "abstract Unix sockets can be reached: the kernel's Landlock, version %d, does not refuse them; version 6 of Linux 6.12 does", f.landlock)
	}
}

// A Means is a line of a table of what a machine can do.
type Means struct {
	Key string // of the sandbox, with commas between several
	Can string // yes, or why not
}

// Table is what the machine can do, by the keys of a sandbox.
func (m *Machine) Table() []Means {
	can := func(isSo bool, otherwise string) string {
		if isSo {
			return "yes"
		}
		return otherwise
	}
	tried := func(err error) string {
		if err != nil {
			return "no: " + reasonOf(err)
		}
		return "yes"
	}
	confined := can(m.own.has(unix.CAP_SYS_ADMIN), "yes, with no_new_privs: true")
	files, network := confined, confined
	if m.landlock == 0 {
		files = "no: the kernel has no Landlock"
	} else {
		files += fmt.Sprintf(" (Landlock %d)", m.landlock)
	}
	if m.seccomp != nil {
		network = "no: " + reasonOf(m.seccomp)
	}
	limits := can(m.ptrace == nil && m.own.has(unix.CAP_SYS_RESOURCE), "yes, none above the daemon's own")
	if m.ptrace != nil && runtime.GOARCH != "amd64" {
		limits = "no: ptrace(2): " + reasonOf(m.ptrace)
	}
	ofRoot := func(text string) string { // who may start other users' programs
		if m.uid == 0 {
			return ", " + text
		}
		return ""
	}
	score := can(m.own.has(unix.CAP_SYS_RESOURCE), fmt.Sprintf("yes, from %d", m.oomScore))
	if !m.own.has(unix.CAP_DAC_OVERRIDE) {
		score += ofRoot("not with a user")
	}
	return []Means{
		{"umask, no_new_privs", "yes"},
		{"nice", can(m.own.has(unix.CAP_SYS_NICE), "yes, from 0"+ofRoot("not with a user"))},
		{"oom_score_adj", score},
		{"capabilities", can(m.own.has(unix.CAP_SETPCAP), "yes, with no_new_privs: true"+ofRoot("and a user"))},
		{"rlimits", limits},
		{"chroot", can(m.own.has(unix.CAP_SYS_CHROOT), "no: needs root")},
		{"read, write", files},
		{"network", network},
		{"private_tmp", tried(m.private)},
		{"cgroup, memory, memory_request, pids, cpu", cgroup.Look()},
	}
}

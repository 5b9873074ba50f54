package spawn

import (
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Landlock is spoken to by its three system calls: github.com/landlock-lsm/go-landlock
// restricts all threads of a process, and can do nothing else, while here one thread is
// to be restricted and the daemon not. Go's SysProcAttr will have LandlockFD
// (golang/go#68595); then landlockRuleset stays, and restrictSelf goes.

const (
	landlockReads  = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	landlockOfFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// landlockABI is the version of the kernel's interface, 0 if there is none.
func landlockABI() int {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(abi)
}

// landlockScopesSignals reports whether a thread can be kept from signalling other
// processes without being kept from signalling its own, as it is by the first kernels
// that have the scope: the Go runtime needs that.
func landlockScopesSignals(abi int) bool {
	const erratum = 1 << 1
	errata, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_ERRATA)
	return abi >= 6 && errno == 0 && errata&erratum != 0
}

// landlockWrites are the rights to change something that the interface knows.
func landlockWrites(abi int) uint64 {
	rights := uint64(unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM)
	for since, right := range map[int]uint64{
		2: unix.LANDLOCK_ACCESS_FS_REFER, 3: unix.LANDLOCK_ACCESS_FS_TRUNCATE, 5: unix.LANDLOCK_ACCESS_FS_IOCTL_DEV,
	} {
		if abi >= since {
			rights |= right
		}
	}
	return rights
}

// landlockAttr is what the kernel is to refuse, but for what rules permit.
func (s *Sandbox) landlockAttr(abi int) (attr unix.LandlockRulesetAttr) {
	if len(s.Read) > 0 {
		attr.Handled_access_fs |= landlockReads
	}
	if s.limitsFiles() {
		attr.Handled_access_fs |= landlockWrites(abi)
	}
	if s.NoNetwork && abi >= 4 {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if s.NoNetwork && abi >= 6 {
		attr.Scoped |= unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	}
	if landlockScopesSignals(abi) {
		attr.Scoped |= unix.LANDLOCK_SCOPE_SIGNAL
	}
	return attr
}

// landlock restricts the thread. Where the kernel has no Landlock that is an error only if
// files are to be restricted: of the network it has the smaller part.
func (s *Sandbox) landlock() (files []knownFile, err error) {
	abi := landlockABI()
	if abi == 0 {
		if s.limitsFiles() {
			return nil, fmt.Errorf("sandbox.read, sandbox.write: the kernel has no Landlock")
		}
		return nil, nil
	}
	attr := s.landlockAttr(abi)
	if attr == (unix.LandlockRulesetAttr{}) {
		return nil, nil // this version knows nothing of it
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return nil, fmt.Errorf("sandbox: landlock_create_ruleset: %w", errno)
	}
	defer unix.Close(int(fd))
	if s.limitsFiles() {
		if files, err = s.permit(int(fd), attr.Handled_access_fs); err != nil {
			return nil, err
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return nil, fmt.Errorf("sandbox: landlock_restrict_self without no_new_privs: %w", errno)
	}
	return files, nil
}

// A knownFile is a path and what was at it. Landlock knows files, not paths: it has to be
// told anew when a folder was replaced.
type knownFile struct {
	path     string
	device   uint64
	inode    uint64
	isAbsent bool
}

// hasChanged reports whether something else is at the path by now.
func (k *knownFile) hasChanged() bool {
	var st unix.Stat_t
	if err := unix.Stat(k.path, &st); err != nil {
		return !k.isAbsent
	}
	return k.isAbsent || uint64(st.Dev) != k.device || st.Ino != k.inode
}

// permit adds a rule for each path.
func (s *Sandbox) permit(ruleset int, handled uint64) (files []knownFile, err error) {
	const read, write = "sandbox.read", "sandbox.write"
	reads := uint64(landlockReads)
	// What is written is not executed, unless Read has it too.
	writes := ^uint64(unix.LANDLOCK_ACCESS_FS_EXECUTE)
	add := func(key string, rights uint64, paths ...string) {
		for _, path := range paths {
			if err != nil {
				return
			}
			var file knownFile
			if file, err = permitOne(ruleset, path, rights&handled); err != nil {
				err = fmt.Errorf("%s: %w", key, err)
			}
			files = append(files, file)
		}
	}
	add(read, reads, s.Read...)
	add(write, writes, s.Write...)
	if s.PrivateTmp {
		add(write, writes, "-/tmp", "-/var/tmp")
	}
	if s.Spool != "" && s.Chroot == "" {
		add(read, unix.LANDLOCK_ACCESS_FS_READ_FILE, "-"+s.Spool)
	}
	// Nothing runs without these.
	add(write, writes, "-/dev/null", "-/dev/zero", "-/dev/full")
	add(read, reads, "-/dev/random", "-/dev/urandom")
	return files, err
}

func permitOne(ruleset int, path string, rights uint64) (file knownFile, err error) {
	path, isOptional := strings.CutPrefix(path, "-")
	file.path = path
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT && isOptional {
		file.isAbsent = true
		return file, nil
	}
	if err != nil {
		return file, fmt.Errorf("%s: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return file, fmt.Errorf("%s: %w", path, err)
	}
	file.device, file.inode = uint64(st.Dev), st.Ino
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= landlockOfFile
	}
	if rights == 0 {
		return file, nil // what the rule would permit, nobody refuses
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return file, fmt.Errorf("%s: landlock_add_rule: %w", path, errno)
	}
	return file, nil
}

package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// IsConfined reports whether programs are started otherwise than without a sandbox.
func (s *Sandbox) IsConfined() bool {
	own, none := *s, Sandbox{Owner: s.Owner, MinUID: s.MinUID, Umask: 0o022, Network: true}
	none.Cgroup, none.Memory, none.MemoryRequest, none.Pids, none.CPU = s.Cgroup, s.Memory, s.MemoryRequest, s.Pids, s.CPU
	if len(own.Capabilities)+len(own.Rlimits)+len(own.Read)+len(own.Write) > 0 {
		return true
	}
	own.Capabilities, own.Rlimits, own.Read, own.Write = nil, nil, nil, nil
	return !reflect.DeepEqual(own, none)
}

// A Capability is one of capabilities(7), or "none", which is no other beside it.
type Capability struct {
	Name   string // CAP_CHOWN
	Number uintptr
}

const noCapability = "none"

// capabilities are the names, each at its number, without their CAP_.
var capabilities = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
	LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
	SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
	AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON
	BPF CHECKPOINT_RESTORE`)

// parseCapability reads a name with or without CAP_, in any case.
func parseCapability(text string) (Capability, error) {
	if text == noCapability {
		return Capability{Name: noCapability}, nil
	}
	name := strings.TrimPrefix(strings.ToUpper(text), "CAP_")
	if i := slices.Index(capabilities, name); i >= 0 {
		return Capability{"CAP_" + name, uintptr(i)}, nil
	}
	candidate := nearest(name, capabilities, whole)
	if i := slices.IndexFunc(capabilities, func(c string) bool { return strings.HasPrefix(c, name) }); i >= 0 && len(name) > 2 {
		candidate = capabilities[i]
	}
	if candidate != "" {
		candidate = "CAP_" + candidate
	}
	return Capability{}, fmt.Errorf("%q is no capability, for example CAP_NET_BIND_SERVICE, and not none%s", text, didYouMean(candidate))
}

// KeepsCapabilities are the numbers of those that programs keep; limited is false where
// none is taken from them.
func (s *Sandbox) KeepsCapabilities() (kept []uintptr, limited bool) {
	for _, c := range s.Capabilities {
		if c.Name != noCapability {
			kept = append(kept, c.Number)
		}
	}
	return kept, len(s.Capabilities) > 0
}

// An Rlimit is a limit of setrlimit(2); "nofile=1024" in the file.
type Rlimit struct {
	Name     string
	Resource int    // unix.RLIMIT_NOFILE
	Value    uint64 // in bytes, in seconds, or a count
}

// limitable are the limits that there are, and how their values are written.
var limitable = map[string]struct {
	resource int
	unit     byte // s: a duration, B: a size, 0: a count
}{
	"as": {unix.RLIMIT_AS, 'B'}, "core": {unix.RLIMIT_CORE, 'B'}, "cpu": {unix.RLIMIT_CPU, 's'}, "data": {unix.RLIMIT_DATA, 'B'},
	"fsize": {unix.RLIMIT_FSIZE, 'B'}, "memlock": {unix.RLIMIT_MEMLOCK, 'B'}, "msgqueue": {unix.RLIMIT_MSGQUEUE, 'B'},
	"nofile": {unix.RLIMIT_NOFILE, 0}, "nproc": {unix.RLIMIT_NPROC, 0}, "sigpending": {unix.RLIMIT_SIGPENDING, 0},
	"stack": {unix.RLIMIT_STACK, 'B'},
}

var errNoRlimit = errors.New("is not name=value, for example nofile=1024, cpu=30s or as=512MiB")

func parseRlimit(text string) (Rlimit, error) {
	name, value, ok := strings.Cut(text, "=")
	if !ok || value == "" {
		return Rlimit{}, fmt.Errorf("%q %v", text, errNoRlimit)
	}
	kind, known := limitable[name]
	if !known {
		names := slices.Sorted(maps.Keys(limitable))
		return Rlimit{}, fmt.Errorf("%q is not one of %s%s", name, strings.Join(names, ", "), didYouMean(nearest(name, names, whole)))
	}
	n, err := parseLimit(value, kind.unit)
	if err != nil {
		return Rlimit{}, fmt.Errorf("%s: %w", name, err)
	}
	return Rlimit{name, kind.resource, uint64(n)}, nil
}

func parseLimit(text string, unit byte) (int64, error) {
	switch unit {
	case 'B':
		return parseSize(text)
	case 's':
		d, err := parseDuration(text)
		if err == nil && (d < time.Second || d%time.Second != 0) {
			err = fmt.Errorf("%q is not a whole number of seconds, at least 1s", text)
		}
		return int64(d / time.Second), err
	}
	n, err := parseInteger(text, math.MaxInt32)
	return int64(n), err
}

// String is the form of the file.
func (l Rlimit) String() string {
	switch limitable[l.Name].unit {
	case 'B':
		return l.Name + "=" + formatSize(int64(l.Value))
	case 's':
		return l.Name + "=" + formatDuration(time.Duration(l.Value)*time.Second)
	}
	return l.Name + "=" + strconv.FormatUint(l.Value, 10)
}

func parseSigned(text string) (int32, error) {
	n, err := strconv.ParseInt(text, 0, 32)
	if err != nil {
		return 0, fmt.Errorf("must be an integer, not %q", text)
	}
	return int32(n), nil
}

// confinement reports what breaks a rule in what programs are confined by.
func (r *report) confinement(key string, s *Sandbox) {
	if s.Preset != "" {
		r.oneOf(key+".preset", s.Preset, "strict")
	}
	r.count(key+".nice", int(s.Nice), -20, 19)
	r.count(key+".oom_score_adj", int(s.OOMScoreAdj), -1000, 1000)
	if s.Chroot != "" {
		r.absolute(key+".chroot", s.Chroot)
		if path.Clean(s.Chroot) == "/" {
			r.add(key+".chroot", "%q is the root already", s.Chroot)
		}
		if s.PrivateTmp {
			r.add(key+".private_tmp", "is not for a pool with chroot, which has a /tmp of its own in there: take one of the two out")
		}
	}
	for name, paths := range map[string][]string{".read": s.Read, ".write": s.Write} {
		for i, path := range paths {
			r.absolute(fmt.Sprintf("%s%s[%d]", key, name, i), strings.TrimPrefix(path, "-"))
		}
	}
	seen := map[string]string{}
	for i, l := range s.Rlimits {
		if l.Name != "" {
			r.unique(fmt.Sprintf("%s.rlimits[%d]", key, i), l.Name, seen)
		}
	}
	for i, c := range s.Capabilities {
		if c.Name == noCapability && len(s.Capabilities) > 1 {
			r.add(fmt.Sprintf("%s.capabilities[%d]", key, i), "none stands alone")
		}
	}
}

// sandboxOfPool reports where the sandbox is at odds with what the pool runs.
func (r *report) sandboxOfPool(key string, p *Pool) {
	s, files := p.Sandbox, map[string]string{} // by key
	if p.Process != nil {
		list(files, key+".process.root", p.Process.Root)
		list(files, key+".process.scripts", p.Process.Scripts)
	}
	if p.Worker != nil {
		list(files, key+".worker.root", p.Worker.Root)
	}
	for k, file := range files {
		if s.Chroot != "" && !isBelow(s.Chroot, file) {
			r.add(k, "%q is outside sandbox.chroot, which is %s at %s", file, s.Chroot, r.find(key+".sandbox.chroot"))
		}
		if s.PrivateTmp && (isBelow("/tmp", file) || isBelow("/var/tmp", file)) {
			r.add(k, "%q: with sandbox.private_tmp another folder is there", file)
		}
	}
	if s.Preset == "strict" && p.Worker != nil && len(p.Worker.Root) == 0 && !r.given(key+".sandbox.read") {
		r.add(key+".sandbox.preset", "strict lets workers read their worker.root, and this pool has none: give that, or sandbox.read")
	}
}

func list(files map[string]string, key string, paths []string) {
	for i, path := range paths {
		files[fmt.Sprintf("%s[%d]", key, i)] = path
	}
}

func isBelow(folder, file string) bool {
	folder, file = path.Clean(folder), path.Clean(file)
	return file == folder || strings.HasPrefix(file, strings.TrimSuffix(folder, "/")+"/")
}

// systemFiles are what programs of any kind read of the system: programs, libraries, and
// what says where something is. Nothing of it is secret.
var systemFiles = strings.Fields(`/usr /bin /sbin /lib /lib32 /lib64
	/etc/ld.so.cache /etc/alternatives /etc/localtime /etc/timezone /etc/locale.alias
	/etc/passwd /etc/group /etc/nsswitch.conf /etc/hosts /etc/host.conf /etc/resolv.conf /etc/services /etc/protocols
	/etc/ssl/certs /etc/ssl/openssl.cnf /etc/pki /etc/mime.types /etc/magic /etc/gitconfig /etc/fonts
	/etc/php /etc/php.ini /etc/php.d /etc/perl /etc/python3 /etc/ruby /etc/lua`)

// strictRlimits leave room for any honest program. nproc counts all that its user runs.
const strictRlimits = "core=0 nofile=1024 nproc=512 fsize=1GiB memlock=64KiB"

// strict fills in what the preset stands for. What the file gives wins, but lists are
// joined: one path more is one line.
func (r *report) strict(key string, p *Pool) {
	s := &p.Sandbox
	s.NoNewPrivs = s.NoNewPrivs || !r.given(key+"no_new_privs")
	s.PrivateTmp = s.PrivateTmp || !r.given(key+"private_tmp") && s.Chroot == ""
	s.Network = s.Network && r.given(key+"network")
	if !r.given(key + "capabilities") {
		s.Capabilities = []Capability{{Name: noCapability}}
	}
	for text := range strings.FieldsSeq(strictRlimits) {
		limit, _ := parseRlimit(text)
		if !slices.ContainsFunc(s.Rlimits, func(l Rlimit) bool { return l.Name == limit.Name }) {
			s.Rlimits = append(s.Rlimits, limit)
		}
	}
	for _, path := range strictFiles(p) {
		if !slices.Contains(s.Read, path) && !slices.Contains(s.Read, strings.TrimPrefix(path, "-")) {
			s.Read = append(s.Read, path)
		}
	}
	isGiven := func(folder string) bool { return isBelow(strings.TrimPrefix(folder, "-"), phpSessions) }
	if p.runsPHP() && !slices.ContainsFunc(s.Write, isGiven) {
		s.Write = append(s.Write, "-"+phpSessions)
	}
}

// phpSessions is where Debian's PHP keeps its sessions. Everybody may write there, and nobody list it.
const phpSessions = "/var/lib/php/sessions"

// isPHP reports whether a program is named as PHP's are.
func isPHP(program string) bool { return strings.HasPrefix(path.Base(program), "php") }

// runsPHP reports whether one of the pool's programs is named as PHP's are.
func (p *Pool) runsPHP() bool {
	switch {
	case p.Worker != nil:
		return len(p.Worker.Command) > 0 && isPHP(p.Worker.Command[0])
	case p.Process != nil:
		return slices.ContainsFunc(p.Process.Interpreters, func(i Interpreter) bool { return isPHP(i.Path) })
	}
	return false
}

// withoutPattern is a path, or the folder that all which a pattern of paths matches is in.
func withoutPattern(script string) string {
	for globMeta.MatchString(script) {
		script = filepath.Dir(script)
	}
	return script
}

// strictFiles are what a pool runs, as its programs see it, and the system's.
func strictFiles(p *Pool) (paths []string) {
	add := func(file string) {
		if rest, ok := strings.CutPrefix(path.Clean(file), path.Clean(p.Sandbox.Chroot)+"/"); ok && p.Sandbox.Chroot != "" {
			file = "/" + rest
		} else if p.Sandbox.Chroot != "" && path.Clean(file) == path.Clean(p.Sandbox.Chroot) {
			file = "/"
		}
		paths = append(paths, file)
	}
	if c := p.Process; c != nil {
		for _, root := range c.Root {
			add(root)
		}
		for _, script := range c.Scripts {
			add(withoutPattern(script))
		}
		for _, i := range c.Interpreters {
			paths = append(paths, i.Path)
		}
	}
	if w := p.Worker; w != nil {
		for _, root := range w.Root {
			add(root)
		}
		if len(w.Command) > 0 {
			paths = append(paths, w.Command[0])
		}
	}
	for _, file := range systemFiles {
		paths = append(paths, "-"+file)
	}
	return paths
}

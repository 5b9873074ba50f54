package process

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/spawn"
	"github.com/fcgid/fcgid/internal/users"
)

// An Owner says that scripts run as who owns them, by the rules of Apache's suexec.
type Owner struct {
	MinID uint32 // of users and groups that scripts may run as; at least 1
}

// owner is who owns the script that a request names, and the script's name without
// symbolic links. Nobody else can put another file there: neither the file nor a folder
// on the way to it is another user's, or can be written by one.
func (p *Scripts) owner(params *protocol.Params) (w *who, script string, err error) {
	err = p.opt.Identity.Look(func() error {
		s, err := p.rules.Find(params)
		script = s.Resolved().Path
		return err
	})
	if err != nil {
		return nil, "", err
	}
	info, err := os.Lstat(script)
	if err != nil {
		return nil, "", refused("script %s: %w", script, err)
	}
	uid := info.Sys().(*syscall.Stat_t).Uid
	if err := checkFile(script, info); err != nil {
		return nil, "", err
	}
	for folder := path.Dir(script); ; folder = path.Dir(folder) {
		if err := checkFolder(folder, uid); err != nil {
			return nil, "", err
		}
		if folder == "/" {
			break
		}
	}
	w, err = p.owners.get(uid, p)
	if err != nil {
		return nil, "", refused("script %s: its owner: %w", script, err)
	}
	return w, script, nil
}

func refused(format string, args ...any) error {
	return &protocol.Refusal{HTTPStatus: 403, AppStatus: 403, Reason: fmt.Errorf(format+" (sandbox.owner)", args...)}
}

const byOthers = 0o022 // writable

func checkFile(name string, info fs.FileInfo) error {
	switch mode := info.Mode(); {
	case mode.Perm()&byOthers != 0:
		return refused("script %s can be written by others than its owner", name)
	case mode&(fs.ModeSetuid|fs.ModeSetgid) != 0:
		return refused("script %s has the set-user-ID or set-group-ID bit", name)
	case !mode.IsRegular():
		return refused("script %s is no file any more", name)
	}
	return nil
}

func checkFolder(name string, uid uint32) error {
	info, err := os.Lstat(name)
	if err != nil {
		return refused("folder %s: %w", name, err)
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	switch mode := info.Mode(); {
	case !mode.IsDir():
		return refused("folder %s is none any more", name)
	case owner != 0 && owner != uid:
		return refused("folder %s is neither root's nor that of the script's owner", name)
	case mode.Perm()&byOthers != 0 && (mode&fs.ModeSticky == 0 || owner != 0):
		return refused("folder %s can be written by others than its owner", name)
	}
	return nil
}

// ownerTime is how long an account counts as it was when it was looked up.
const ownerTime = 10 * time.Second

// maxOwners bounds how many are known.
const maxOwners = 1024

// owners are those that scripts were seen to have.
type owners struct {
	mu    sync.Mutex // guards the field below; nothing is looked up under it
	known map[uint32]*knownOwner
}

type knownOwner struct {
	who
	until time.Time
}

func (o *owners) get(uid uint32, p *Scripts) (*who, error) {
	now := time.Now()
	o.mu.Lock()
	known := o.known[uid]
	o.mu.Unlock()
	if known != nil && now.Before(known.until) {
		return &known.who, nil
	}
	id, err := identityOf(uid, p.opt.Owner.MinID)
	if err != nil {
		return nil, err
	}
	known = &knownOwner{who{id, p.newTold(id)}, now.Add(ownerTime)}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known == nil || len(o.known) >= maxOwners {
		o.known = make(map[uint32]*knownOwner)
	}
	o.known[uid] = known
	return &known.who, nil
}

// identityOf is the identity of a user that scripts may run as.
func identityOf(uid, least uint32) (*spawn.Identity, error) {
	if uid < least {
		return nil, fmt.Errorf("user %d is below sandbox.min_uid, which is %d", uid, least)
	}
	u, err := users.Of(uid)
	if err != nil {
		return nil, err
	}
	if u.GID < least {
		return nil, fmt.Errorf("group %d of %s is below sandbox.min_uid, which is %d", u.GID, u.Name, least)
	}
	groups, err := u.Groups()
	if err != nil {
		return nil, err
	}
	return &spawn.Identity{UID: uid, GID: u.GID, Groups: groups}, nil
}

// isRoots reports whether nobody but root can change what is at an absolute name: it, and each
// folder on the way, is root's, no symbolic link, and nobody else can write it (but a folder with
// the sticky bit).
func isRoots(name string) bool {
	for isFolder := false; ; isFolder = true {
		var stat unix.Stat_t
		if unix.Lstat(name, &stat) != nil || stat.Uid != 0 {
			return false
		}
		switch kind, isSticky := stat.Mode&unix.S_IFMT, stat.Mode&unix.S_ISVTX != 0; {
		case kind == unix.S_IFLNK, isFolder && kind != unix.S_IFDIR:
			return false
		case stat.Mode&byOthers != 0 && !(kind == unix.S_IFDIR && isSticky):
			return false
		}
		if name == "/" {
			return true
		}
		name = path.Dir(name)
	}
}

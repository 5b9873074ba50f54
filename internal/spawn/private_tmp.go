package spawn

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A privateTmp is a mount namespace in which /tmp and /var/tmp are nobody else's. All
// programs of one Sandbox.Name are in the same, so that what one writes the next one finds;
// what is there is gone when the last of them and the last team has ended.
type privateTmp struct {
	made  func() (tmpMounts, error) // once
	users int                       // teams; guarded by Local.mu
}

// tmpMounts are the descriptors that keep a namespace.
type tmpMounts struct {
	namespace int
	root      int // our root folder in there, which is not that of the namespace in a chroot
}

func newPrivateTmp() *privateTmp {
	return &privateTmp{made: sync.OnceValues(makePrivateTmp)}
}

// makePrivateTmp makes the namespace on a thread that ends.
func makePrivateTmp() (m tmpMounts, err error) {
	done := make(chan struct{})
	go onThread(func() {
		defer close(done)
		if err = unix.Unshare(unix.CLONE_NEWNS); err != nil {
			err = fmt.Errorf("unshare the mounts: %w", err)
			return
		}
		if err = mountTmp(); err == nil {
			m, err = openMounts()
		}
	})
	<-done
	return m, err
}

// openMounts opens what the calling thread lives in.
func openMounts() (m tmpMounts, err error) {
	if m.namespace, err = unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return m, fmt.Errorf("open the namespace: %w", err)
	}
	if m.root, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		unix.Close(m.namespace)
		return m, fmt.Errorf("open the root: %w", err)
	}
	return m, nil
}

// mountTmp mounts empty folders. They are memory, of which one takes a tenth at most. What
// is mounted and unmounted outside later is so inside too: MS_PRIVATE would keep busy for
// ever what somebody unmounts. The other way nothing goes.
func mountTmp() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("let no mounts out: %w", err)
	}
	var tmp, varTmp unix.Stat_t
	folders := []string{"/tmp"}
	if unix.Stat("/tmp", &tmp) == nil && unix.Stat("/var/tmp", &varTmp) == nil && (tmp.Dev != varTmp.Dev || tmp.Ino != varTmp.Ino) {
		folders = append(folders, "/var/tmp")
	}
	for _, folder := range folders {
		if err := unix.Mount("tmpfs", folder, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777,size=10%"); err != nil {
			return fmt.Errorf("mount a tmpfs on %s: %w", folder, err)
		}
	}
	return nil
}

// enter has the calling thread live there, under the root that we have: setns(2) takes it
// to that of the namespace, out of a chroot of ours. It stays in its working directory, if
// that still is there.
func (p *privateTmp) enter() error {
	m, err := p.made()
	if err != nil {
		return err
	}
	dir, dirErr := os.Getwd()
	if err := unix.Setns(m.namespace, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("enter the namespace: %w", err)
	}
	if err := unix.Fchdir(m.root); err != nil {
		return fmt.Errorf("go to its root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("chroot to its root: %w", err)
	}
	if dirErr == nil {
		unix.Chdir(dir)
	}
	return nil
}

// close lets the namespace go, which its programs keep while they are there.
func (p *privateTmp) close() {
	if m, err := p.made(); err == nil {
		unix.Close(m.namespace)
		unix.Close(m.root)
	}
}

// tmpLocked is that of the name of a sandbox, with one user more.
func (l *Local) tmpLocked(name string) *privateTmp {
	p := l.tmps[name]
	if p == nil {
		p = newPrivateTmp()
		if l.tmps == nil {
			l.tmps = make(map[string]*privateTmp)
		}
		l.tmps[name] = p
	}
	p.users++
	return p
}

// leaveTmp undoes tmpLocked.
func (l *Local) leaveTmp(name string, p *privateTmp) {
	l.mu.Lock()
	p.users--
	over := p.users == 0
	if over {
		delete(l.tmps, name)
	}
	l.mu.Unlock()
	if over {
		p.close()
	}
}

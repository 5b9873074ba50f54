package spawn

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// reapEvery is how often orphans that have exited are waited for.
	reapEvery = time.Second
	// ripe is how long a child that may be somebody else's has to have exited before
	// it is taken for an orphan: who has started it would have waited for it by then.
	ripe = 10 * time.Second
)

// Adopt makes this process the parent of what its programs leave behind from now on
// (PR_SET_CHILD_SUBREAPER), so that it can be found. Somebody is to Reap then.
func (l *Local) Adopt() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the parent of orphans: %w", err)
	}
	plainTeam() // threads that are there need not be had when there are none left
	return nil
}

// Reap waits for orphans that have exited, until ctx ends. Children that others in
// this process have started are theirs.
func (l *Local) Reap(ctx context.Context) {
	tick := time.NewTicker(reapEvery)
	defer tick.Stop()
	for zombies := make(map[int]zombie); ; {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			zombies = l.reap(zombies, now)
		}
	}
}

// A zombie is a child that has exited, and need not be an orphan.
type zombie struct {
	start uint64
	since time.Time
}

// reap waits for the orphans that have exited. It returns the children that have, and
// may be somebody else's.
func (l *Local) reap(before map[int]zombie, now time.Time) map[int]zombie {
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != nil || info.Signo == 0 {
		return nil
	}
	after := make(map[int]zombie)
	for _, t := range l.orphans() {
		if !t.isZombie {
			continue
		}
		z := before[t.pid]
		if z.start != t.start {
			z = zombie{t.start, now}
		}
		if l.isOrphan(&t) || now.Sub(z.since) >= ripe {
			unix.Wait4(t.pid, nil, unix.WNOHANG, nil)
			l.forget(t.pid)
		} else {
			after[t.pid] = z
		}
	}
	return after
}

// isOrphan reports whether a child that is no program of ours can be of nobody else
// in this process: it was given up, or is in the process group of something that
// is neither it nor this process.
func (l *Local) isOrphan(t *task) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, isKept := l.kept[t.pid]
	return isKept || t.group != t.pid && t.group != unix.Getpgrp()
}

// orphans are the children of this process that are no programs of ours: what those
// have left behind, and what others have started.
func (l *Local) orphans() (all []task) {
	look := look{found: make(map[int]task)}
	for _, pid := range look.children(os.Getpid()) {
		if l.has(pid) {
			continue
		}
		if t, ok := readTask(pid); ok {
			all = append(all, t)
		}
	}
	return all
}

// KillOrphans kills what programs have left behind, and what that leaves behind, until nothing
// is there or time is over. It is for a process that is about to end, after Adopt and Kill.
func (l *Local) KillOrphans(within time.Duration) {
	for until := time.Now().Add(within); time.Now().Before(until); time.Sleep(killEvery) {
		all := l.orphans()
		for _, t := range all {
			if t.isZombie {
				unix.Wait4(t.pid, nil, unix.WNOHANG, nil)
			} else {
				unix.Kill(t.pid, unix.SIGKILL)
			}
		}
		if len(all) == 0 && l.Len() == 0 {
			return
		}
	}
}

// killEvery is how often KillOrphans looks.
const killEvery = 5 * time.Millisecond

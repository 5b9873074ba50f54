package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A process is a program that the benchmark has started: a server or a helper.
type process struct {
	cmd  *exec.Cmd
	log  string // path of what it prints
	done chan struct{}
	err  error // of Wait, once done
}

// start starts a program in a process group of its own, which gets TERM should
// the benchmark die. What it prints goes to a file in dir. The caller ends it.
//
// It is to be called from the main goroutine, which keeps its thread: the
// kernel sends that signal when the thread ends that has started the program.
func start(dir string, cmd *exec.Cmd) (*process, error) {
	f, err := os.CreateTemp(dir, filepath.Base(cmd.Path)+"-*.log")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if cmd.Stdout == nil {
		cmd.Stdout = f
	}
	cmd.Stderr = f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	p := &process{cmd: cmd, log: f.Name(), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = cmd.Wait()
	}()
	return p, nil
}

// pid is the process's id, that of its group too.
func (p *process) pid() int { return p.cmd.Process.Pid }

// printed is the end of what the program has printed.
func (p *process) printed() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-2000):]))
}

// ended is what is to be said of a program that has ended by itself, nil if it runs.
func (p *process) ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s has ended (%v): %s", p.cmd.Path, p.err, p.printed())
	default:
		return nil
	}
}

// end ends the program and its group: TERM, and KILL after five seconds. It
// returns when the program has exited.
func (p *process) end() {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
	}
	p.signal(syscall.SIGKILL) // those that do not heed TERM
	<-p.done
}

// signal sends a signal to each member of the group that descends from the
// benchmark. The id alone may be another group's by now: CGI uses up ids fast.
func (p *process) signal(s syscall.Signal) {
	for _, member := range tree(os.Getpid()) {
		if member.group == p.pid() {
			syscall.Kill(member.pid, s)
		}
	}
}

// ready waits until the program accepts connections.
func (p *process) ready(ctx context.Context, network, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := net.Dial(network, address)
		if err == nil {
			return c.Close()
		}
		if err := p.ended(); err != nil {
			return err
		}
		select {
		case <-p.done:
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen at %s: %w: %s", p.cmd.Path, address, err, p.printed())
		case <-tick.C:
		}
	}
}

// endDescendants kills whatever is left of what the benchmark has started, also
// what has left its group: as a subreaper the benchmark inherits orphans.
func endDescendants() {
	for range 10 {
		left := descendants(os.Getpid())
		if len(left) == 0 {
			return
		}
		for _, pid := range left {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		var status syscall.WaitStatus
		for {
			if pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// becomeSubreaper makes orphans among the descendants children of this process
// (PR_SET_CHILD_SUBREAPER, prctl(2)).
func becomeSubreaper() {
	const setChildSubreaper = 36
	syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0)
}

// A stat is a part of /proc/PID/stat.
type stat struct {
	pid, parent  int
	group        int  // process group
	state        byte // as ps shows it: Z is a zombie
	name         string
	own, waited  time.Duration // CPU time of the process, and of the children it has waited for
	threads, rss int64         // rss in bytes
}

// readStat reads the stat of a process (proc_pid_stat(5)).
func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return stat{}, errors.New("stat has no name")
	}
	f := strings.Fields(string(b[end+1:])) // f[0] is field 3, the state
	if len(f) < 22 {
		return stat{}, errors.New("stat is too short")
	}
	number := func(i int) int64 { n, _ := strconv.ParseInt(f[i-3], 10, 64); return n }
	const tick = time.Second / 100 // USER_HZ is 100 on every Linux
	return stat{
		pid: pid, parent: int(number(4)), group: int(number(5)), state: f[0][0], name: string(b[open+1 : end]),
		own:     time.Duration(number(14)+number(15)) * tick,
		waited:  time.Duration(number(16)+number(17)) * tick,
		threads: number(20), rss: number(24) * int64(os.Getpagesize()),
	}, nil
}

// tree is a process with all its descendants.
func tree(root int) []stat {
	children := make(map[int][]stat)
	folders, _ := filepath.Glob("/proc/[0-9]*")
	var list []stat
	for _, f := range folders {
		pid, _ := strconv.Atoi(filepath.Base(f))
		s, err := readStat(pid)
		if err != nil {
			continue // it has gone
		}
		children[s.parent] = append(children[s.parent], s)
		if pid == root {
			list = append(list, s)
		}
	}
	for i := 0; i < len(list); i++ {
		list = append(list, children[list[i].pid]...)
	}
	return list
}

// descendants are the processes below root.
func descendants(root int) []int {
	var pids []int
	for _, s := range tree(root) {
		if s.pid != root {
			pids = append(pids, s.pid)
		}
	}
	return pids
}

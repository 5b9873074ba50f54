package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// poolKinds are the pools of a daemon that does nothing, by turns.
var poolKinds = []string{
	"process: {root: [DIR/cgi]}",
	"worker: {command: [/bin/cat], scale: ondemand, max: 4, root: [DIR/cgi]}",
	"function: {}",
}

// holdDaemon measures a daemon with n pools of which nobody asks anything: how long its file
// takes to check, how long it takes to start, and its memory a second later.
func holdDaemon(n int) func(*rig, *side) (sample, error) {
	return func(r *rig, _ *side) (sample, error) {
		file := r.path(fmt.Sprintf("daemon-%d.yaml", n))
		text := "admin: {listen: 'unix:DIR/daemon-admin.sock'}\npools:\n"
		for i := range n {
			text += fmt.Sprintf("- {name: site%d, listen: 'unix:DIR/site%[1]d.sock', timeout: 45s, %s}\n", i, poolKinds[i%len(poolKinds)])
		}
		began := time.Now()
		if err := check(r.ctx, r.fcgid, file, strings.ReplaceAll(text, "DIR", r.dir)); err != nil {
			return nil, err
		}
		m := sample{checkTime: time.Since(began).Seconds()}
		read, write, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer read.Close()
		cmd := exec.Command(r.fcgid, "serve", "-c", file, "--notify-fd", "3")
		cmd.ExtraFiles = []*os.File{write}
		began = time.Now()
		p, err := start(r.dir, cmd)
		write.Close() // or a daemon that dies would not be noticed
		if err != nil {
			return nil, err
		}
		defer p.end()
		if err := read.SetReadDeadline(began.Add(20 * time.Second)); err != nil {
			return nil, err
		}
		if _, err := read.Read(make([]byte, 1)); err != nil {
			return nil, fmt.Errorf("the daemon does not say that it serves: %w: %s", err, p.printed())
		}
		m[readyAfter] = time.Since(began).Seconds()
		time.Sleep(time.Second)
		now, err := readStat(p.pid())
		m[resident] = float64(now.rss) / (1 << 20)
		return m, err
	}
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// warmRequests bring a daemon to the size that it has at work, before what is
// held is measured.
const warmRequests = 200

// holdSleepers measures the daemon while n programs sleep.
func holdSleepers(n int) func(*rig, *side) (sample, error) {
	return func(r *rig, s *side) (sample, error) {
		if err := repeat(s.server, r.requestFor("hello"), warmRequests); err != nil {
			return nil, err
		}
		before, err := readStat(s.server.pid())
		if err != nil {
			return nil, err
		}
		var connections []net.Conn
		defer func() {
			for _, c := range connections {
				c.Close()
			}
		}()
		request := r.requestFor("sleeper")
		for range n {
			c, err := net.Dial("unix", s.server.address)
			if err != nil {
				return nil, err
			}
			connections = append(connections, c)
			if _, err := c.Write(request.heads[0]); err != nil {
				return nil, err
			}
		}
		if err := r.await(func() bool { return countNamed(s.server.pid(), "sleeper") == n }); err != nil {
			return nil, fmt.Errorf("%d of %d programs sleep: %w", countNamed(s.server.pid(), "sleeper"), n, err)
		}
		return held(s.server.pid(), before, n)
	}
}

// holdIdle measures the daemon while n connections, each with one request
// behind it, are idle.
func holdIdle(n int) func(*rig, *side) (sample, error) {
	return func(r *rig, s *side) (sample, error) {
		if limit := openFiles(); limit < n+100 {
			return nil, fmt.Errorf("a process may have no more than %d open files", limit)
		}
		request := get(r.program("hello"), true, 1)
		if err := repeat(s.server, request, warmRequests); err != nil {
			return nil, err
		}
		before, err := readStat(s.server.pid())
		if err != nil {
			return nil, err
		}
		connections := make([]net.Conn, n)
		defer func() {
			for _, c := range connections {
				if c != nil {
					c.Close()
				}
			}
		}()
		if err := r.openEach(connections, s.server, request); err != nil {
			return nil, err
		}
		return held(s.server.pid(), before, n)
	}
}

// openEach opens connections and sends a request on each, four for each CPU at once.
func (r *rig) openEach(connections []net.Conn, s *server, request *request) error {
	workers := r.concurrent()
	failures := make([]error, workers)
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			for i := w; i < len(connections) && failures[w] == nil && r.ctx.Err() == nil; i += workers {
				if connections[i], failures[w] = net.Dial(s.network, s.address); failures[w] == nil {
					_, failures[w] = ask(connections[i], request)
				}
			}
		})
	}
	wait.Wait()
	return errors.Join(append(failures, r.ctx.Err())...)
}

// repeat sends requests one after the other.
func repeat(s *server, request *request, n int) error {
	for range n {
		if _, err := verify(s.network, s.address, request); err != nil {
			return err
		}
	}
	return nil
}

// heldFor is how long it is looked at.
const heldFor = 8 * time.Second

// held compares a process with what it was: the least memory of a while, since what has made
// garbage gives it back when it has rested. Of its threads it has those that were
// there before, too: the daemon makes spare ones at its start, which say nothing of what it holds.
func held(pid int, before stat, n int) (sample, error) {
	least, most := int64(0), int64(0)
	for i := range heldFor / (100 * time.Millisecond) {
		now, err := readStat(pid)
		if err != nil {
			return nil, err
		}
		if i == 0 || now.rss < least {
			least = now.rss
		}
		most = max(most, now.threads)
		time.Sleep(100 * time.Millisecond)
	}
	return sample{threads: float64(most), moreThreads: float64(most - before.threads), memoryEach: float64(least-before.rss) / 1024 / float64(n)}, nil
}

// countNamed counts the descendants of a process with that name.
func countNamed(root int, name string) int {
	n := 0
	for _, s := range tree(root) {
		if s.name == name {
			n++
		}
	}
	return n
}

// await polls until what is wanted is there, for 30 seconds at most.
func (r *rig) await(there func() bool) error {
	deadline := time.Now().Add(30 * time.Second)
	for !there() {
		if time.Now().After(deadline) {
			return errors.New("waited 30 s")
		}
		if r.ctx.Err() != nil {
			return r.ctx.Err()
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

// requestFor asks for a program, on a connection of its own.
func (r *rig) requestFor(program string) *request { return get(r.program(program), false, 1) }

// spawnLimit runs the program that only starts programs.
func spawnLimit(r *rig, _ *side) (sample, error) {
	var out bytes.Buffer
	cmd := exec.Command(r.program("limit_spawn"), r.program("hello"), strconv.Itoa(r.concurrent()), strconv.FormatInt(r.duration.Milliseconds(), 10))
	cmd.Stdout = &out
	p, err := start(r.dir, cmd)
	if err != nil {
		return nil, err
	}
	defer p.end()
	select {
	case <-p.done:
	case <-r.ctx.Done():
		return nil, r.ctx.Err()
	}
	rate, err := strconv.ParseFloat(strings.TrimSpace(out.String()), 64)
	if p.err != nil || err != nil {
		return nil, fmt.Errorf("limit_spawn: %w: %s", errors.Join(p.err, err), p.printed())
	}
	return sample{requestRate: rate}, nil
}

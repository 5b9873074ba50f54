package main

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// A stream of events is eventCount of them, one each eventInterval: programs/events.c and
// programs/events.php, which write it, have the same numbers.
const (
	eventCount    = 20
	eventInterval = 50 * time.Millisecond
	eventBytes    = 26
)

// eventsCase compares how soon the events of so many streams at once arrive.
func eventsCase(name, work, program string, streams int, sides ...side) *benchCase {
	c := &benchCase{name: name, work: fmt.Sprintf("%s, an event each %d ms, %d clients", work, eventInterval.Milliseconds(), streams)}
	c.sides = func(r *rig) []side {
		request := eventRequest(r.program(program))
		all := make([]side, len(sides))
		for i, s := range sides {
			s.load, s.measure = load{request: request, conns: streams}, measureEvents
			all[i] = s
		}
		return all
	}
	for _, s := range sides[1:] {
		c.rows = append(c.rows, rowSpec{firstByte, s.name, reach{}}, rowSpec{longestGap, s.name, atMost(1.05)})
	}
	return c
}

// eventRequest asks for a stream, and tells fcgiwrap not to hold it back: without that param it
// sends nothing before the program's end.
func eventRequest(script string) *request {
	head := appendHead(nil, 1, false, append(params(script, "GET", ""), [2]string{"NO_BUFFERING", "1"}))
	return &request{heads: [][]byte{appendRecord(head, typeStdin, 1, nil)}, wantBytes: eventCount * eventBytes}
}

// measureEvents has each client take one stream after the other for as long as a sample takes,
// at least one. The time to the first byte is the median, the gap the longest of all streams.
func measureEvents(r *rig, s *side) (sample, error) {
	var mu sync.Mutex // guards what follows
	var first, gaps []float64
	var problem error
	var clients sync.WaitGroup
	begin := time.Now()
	for range s.load.conns {
		clients.Go(func() {
			for once := true; once || time.Since(begin) < r.duration && r.ctx.Err() == nil; once = false {
				a := &arrivalTimes{want: s.load.answer}
				err := a.take(s.server, s.load.request)
				mu.Lock()
				problem = errors.Join(problem, err)
				first, gaps = append(first, a.first.Seconds()*1e3), append(gaps, a.gap.Seconds()*1e3)
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	clients.Wait()
	if problem != nil {
		return nil, problem
	}
	return sample{firstByte: newSpread(first).Median, longestGap: slices.Max(gaps)}, nil
}

// arrivalTimes are when the pieces of a stream arrive.
type arrivalTimes struct {
	want       int64 // length of the whole stream
	began      time.Time
	last       time.Time
	first, gap time.Duration
	total      int64
	done       bool
}

// take asks for a stream and reads it to its end.
func (a *arrivalTimes) take(s *server, request *request) error {
	a.began = time.Now()
	c, err := net.Dial(s.network, s.address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(a.began.Add(verifyTime)); err != nil {
		return err
	}
	if _, err := c.Write(request.heads[0]); err != nil {
		return err
	}
	var records answers
	buffer := make([]byte, 16<<10)
	for !a.done {
		n, err := c.Read(buffer)
		if feedErr := records.feed(buffer[:n], a); feedErr != nil {
			return feedErr
		}
		if err != nil && !a.done {
			return fmt.Errorf("read events: %w", err)
		}
	}
	if a.total != a.want {
		return fmt.Errorf("a stream has %d bytes, not %d", a.total, a.want)
	}
	return nil
}

// stdout notes when a piece has come. What comes with the first one, or right behind it, is no gap.
func (a *arrivalTimes) stdout(_ int, p []byte) error {
	now := time.Now()
	if a.total == 0 {
		a.first = now.Sub(a.began)
	} else {
		a.gap = max(a.gap, now.Sub(a.last))
	}
	a.last = now
	a.total += int64(len(p))
	return nil
}

func (a *arrivalTimes) ended(int) error {
	a.done = true
	return nil
}

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// A side is one of those that a case compares.
type side struct {
	name  string
	start func(*rig) (*server, error) // nil: measure needs no server
	// load is what the client does, without the address and the answer's length.
	load load
	// measure is how a sample is taken; nil is measureLoad.
	measure func(*rig, *side) (sample, error)
	// oneOf are configurations of which the fastest stands for the side.
	oneOf []side

	server  *server
	chosen  int // of oneOf; -1 is none
	samples []sample
	problem error // why there are no samples, or no more
}

// A benchCase compares sides, of which the first is fcgid.
type benchCase struct {
	name, work string
	sides      func(*rig) []side
	rows       []rowSpec
	// once: one sample of each side, from servers that have just started.
	once bool
	// half: each side gets half of the load that the slowest one can carry.
	half bool
}

// A rowSpec tells what of a case is a row of the table.
type rowSpec struct {
	metric  metric
	against string // name of a side, or "": fcgid's value itself
	reach   reach
}

// A reach is the bound that a ratio or a value is to keep.
type reach struct {
	atLeast, atMost float64 // 0 is none
}

func (b reach) String() string {
	switch {
	case b.atLeast > 0:
		return fmt.Sprintf("≥ %v", b.atLeast)
	case b.atMost > 0:
		return fmt.Sprintf("≤ %v", b.atMost)
	}
	return ""
}

// kept reports whether v keeps the bound, which there is.
func (b reach) kept(v float64) bool {
	return v >= b.atLeast && (b.atMost == 0 || v <= b.atMost)
}

// runCase starts all sides, takes their samples in turn (A B A B), and ends them.
func (r *rig) runCase(c *benchCase, progress io.Writer) caseResult {
	defer r.endServers()
	begin := time.Now()
	sides := c.sides(r)
	for i := range sides {
		sides[i].problem = sides[i].prepare(r)
	}
	note := ""
	if c.half {
		note = r.halve(sides)
	}
	pairs := r.pairs
	if c.once {
		pairs = 1
	}
	for !r.takePairs(sides, pairs) {
	}
	result := newCaseResult(c, sides, note)
	for _, s := range result.Sides {
		for _, a := range s.Tried {
			fmt.Fprintf(progress, "%s: %s: tried %s: %s%s\n", c.name, s.Name, a.Name, number(a.Rate), brief(a.Problem))
		}
		if s.Problem != "" && s.Tried == nil {
			fmt.Fprintf(progress, "%s: %s: %s\n", c.name, s.Name, brief(s.Problem))
		}
	}
	fmt.Fprintf(progress, "%s: %.1f s\n", c.name, time.Since(begin).Seconds())
	return result
}

// takePairs takes the samples in turn. It reports false when a side had to take
// another of its configurations: all begin again then.
func (r *rig) takePairs(sides []side, pairs int) bool {
	for i := range sides {
		sides[i].samples = nil
	}
	for range pairs {
		for i := range sides {
			s := &sides[i]
			if s.problem != nil {
				continue
			}
			s.sample(r)
			if s.problem != nil && s.oneOf != nil && r.ctx.Err() == nil && s.fallBack() {
				return false
			}
		}
	}
	return true
}

// prepare starts a side's server and checks that it answers right.
func (s *side) prepare(r *rig) error {
	if s.oneOf != nil {
		return s.choose(r)
	}
	if s.start == nil {
		return nil
	}
	var err error
	if s.server, err = s.start(r); err != nil {
		return err
	}
	s.load.network, s.load.address = s.server.network, s.server.address
	if s.load.request == nil {
		return nil
	}
	s.load.answer, err = verify(s.server.network, s.server.address, s.load.request)
	return err
}

// choose prepares and tries each configuration of a side, and takes the fastest.
func (s *side) choose(r *rig) error {
	for i := range s.oneOf {
		one := &s.oneOf[i]
		if one.problem = one.prepare(r); one.problem == nil {
			one.sample(r)
		}
	}
	return s.pick()
}

// fallBack gives up the configuration that has just failed, for the next fastest
// one. It reports whether there is one.
func (s *side) fallBack() bool {
	s.oneOf[s.chosen].problem = s.problem
	err := s.pick()
	if err == nil {
		s.problem = nil
	}
	return err == nil
}

// pick makes the fastest configuration without a problem the side's.
func (s *side) pick() error {
	s.chosen = -1
	var problems []error
	for i, one := range s.oneOf {
		if one.problem != nil {
			problems = append(problems, fmt.Errorf("%s: %w", one.name, one.problem))
		} else if s.chosen < 0 || one.tried() > s.oneOf[s.chosen].tried() {
			s.chosen = i
		}
	}
	if s.chosen < 0 {
		return errors.Join(problems...)
	}
	s.server, s.load = s.oneOf[s.chosen].server, s.oneOf[s.chosen].load
	return nil
}

// tried is how many requests a second a configuration carried when it was
// tried, 0 if it did not answer.
func (s *side) tried() float64 {
	if len(s.samples) == 0 {
		return 0
	}
	return s.samples[0][requestRate]
}

// title is the side's name with that of the configuration that was chosen.
func (s *side) title() string {
	if s.oneOf == nil || s.chosen < 0 {
		return s.name
	}
	return s.name + ", " + s.oneOf[s.chosen].name
}

// sample takes one more sample.
func (s *side) sample(r *rig) {
	var m sample
	if s.measure != nil {
		m, s.problem = s.measure(r, s)
	} else {
		m, s.problem = r.measureLoad(s.server, s.load)
	}
	if s.problem == nil {
		s.samples = append(s.samples, m)
	} else if s.server != nil {
		if ended := s.server.ended(); ended != nil {
			s.problem = fmt.Errorf("%w; %w", ended, s.problem)
		}
	}
}

// halve gives all sides the same load: half of the largest that the slowest of
// them carries. Each request then has a connection of its own.
func (r *rig) halve(sides []side) (note string) {
	slowest := 0.0
	for i := range sides {
		if sides[i].problem != nil {
			continue
		}
		if most := sides[i].largest(r); sides[i].problem == nil && (slowest == 0 || most < slowest) {
			slowest = most
		}
	}
	rate := max(1, slowest/2)
	for i := range sides {
		sides[i].load.rate, sides[i].load.conns = rate, 512
		for j := range sides[i].oneOf {
			sides[i].oneOf[j].load.rate, sides[i].oneOf[j].load.conns = rate, 512
		}
	}
	return fmt.Sprintf("at %.0f requests/s", rate)
}

// largest is the larger of two measured rates, in requests a second.
func (s *side) largest(r *rig) float64 {
	most := 0.0
	for range 2 {
		if s.sample(r); s.problem != nil {
			break
		}
		most = max(most, s.samples[len(s.samples)-1][requestRate])
	}
	return most
}

// A spread is the median of some values, with the least and the greatest.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func newSpread(values []float64) spread {
	v := slices.SortedFunc(slices.Values(values), cmp.Compare)
	n := len(v)
	return spread{(v[(n-1)/2] + v[n/2]) / 2, v[0], v[n-1]}
}

package main

import "slices"

// againstBase is a case of which the other side is an older binary, and not the peers:
// whether a change has cost something can be told from pairs of short samples, also on a
// machine that others work on.
func againstBase(c *benchCase) *benchCase {
	v := *c
	v.sides = func(r *rig) []side {
		return []side{c.sides(r)[0], c.sides(r.base)[0].on(r.base, "base")}
	}
	v.rows = nil
	for _, m := range metricsOf(c) {
		v.rows = append(v.rows, rowSpec{metric: m, against: "base"})
	}
	return &v
}

// metricsOf are those of the case's rows, each once, and the CPU time of what it counts.
func metricsOf(c *benchCase) (all []metric) {
	for _, row := range c.rows {
		all = append(all, row.metric)
	}
	switch {
	case slices.Contains(all, requestRate):
		all = append(all, daemonPerRequest)
	case slices.Contains(all, sent), slices.Contains(all, received):
		all = append(all, daemonPerGB)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// on is the side with its servers on another rig, and another name.
func (s side) on(r *rig, name string) side {
	s.name = name
	if start := s.start; start != nil {
		s.start = func(*rig) (*server, error) { return start(r) }
	}
	if measure := s.measure; measure != nil {
		s.measure = func(_ *rig, s *side) (sample, error) { return measure(r, s) }
	}
	s.oneOf = slices.Clone(s.oneOf)
	for i := range s.oneOf {
		s.oneOf[i] = s.oneOf[i].on(r, s.oneOf[i].name)
	}
	return s
}

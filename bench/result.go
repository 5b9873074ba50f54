package main

// A caseResult is all that a case has found.
type caseResult struct {
	Name  string       `json:"name"`
	Work  string       `json:"work"`
	Note  string       `json:"note,omitempty"`
	Sides []sideResult `json:"sides"`
	Rows  []row        `json:"rows"`
}

// A sideResult is what one side has done, pair by pair.
type sideResult struct {
	Name    string    `json:"name"`
	Tried   []attempt `json:"tried,omitempty"` // of which the fastest was chosen
	Samples []sample  `json:"samples"`
	Problem string    `json:"problem,omitempty"`
}

// An attempt is how one configuration of a side did when it was tried.
type attempt struct {
	Name    string  `json:"name"`
	Rate    float64 `json:"requests_per_second,omitempty"`
	Problem string  `json:"problem,omitempty"`
}

// A row is one of the table's.
type row struct {
	Work    string  `json:"work"`
	Metric  metric  `json:"metric"`
	Against string  `json:"against,omitempty"` // "" compares fcgid's value itself with Reach
	Fcgid   float64 `json:"fcgid,omitempty"`   // median
	Peer    float64 `json:"peer,omitempty"`    // median
	// Value is the ratio fcgid / peer, or fcgid's value.
	Value   *spread `json:"value,omitempty"`
	Reach   string  `json:"reach,omitempty"`
	Reached *bool   `json:"reached,omitempty"`
	Problem string  `json:"problem,omitempty"`
}

func newCaseResult(c *benchCase, sides []side, note string) caseResult {
	result := caseResult{Name: c.name, Work: c.work, Note: note}
	for _, s := range sides {
		one := sideResult{Name: s.title(), Samples: s.samples}
		if s.problem != nil {
			one.Problem = s.problem.Error()
		}
		for _, o := range s.oneOf {
			a := attempt{Name: o.name, Rate: o.tried()}
			if o.problem != nil {
				a.Problem = o.problem.Error()
			}
			one.Tried = append(one.Tried, a)
		}
		result.Sides = append(result.Sides, one)
	}
	work := c.work
	if note != "" {
		work += ", " + note
	}
	for _, spec := range c.rows {
		result.Rows = append(result.Rows, newRow(work, spec, result.Sides))
	}
	return result
}

// newRow makes the row that spec describes from the sides' samples.
func newRow(work string, spec rowSpec, sides []sideResult) row {
	w := row{Work: work, Metric: spec.metric, Against: spec.against, Reach: spec.reach.String()}
	own := sides[0]
	peer := own
	for _, s := range sides[1:] {
		if spec.against != "" && hasName(s.Name, spec.against) {
			peer = s
			w.Against = s.Name
		}
	}
	w.Fcgid = own.median(spec.metric)
	if spec.against != "" {
		w.Peer = peer.median(spec.metric)
	}
	switch {
	case own.Problem != "":
		w.Problem = "fcgid: " + own.Problem
	case peer.Problem != "":
		w.Problem = peer.Name + ": " + peer.Problem
	}
	if w.Problem != "" {
		return w
	}
	var values []float64
	for i, m := range own.Samples {
		v := m[spec.metric]
		if spec.against != "" {
			v /= peer.Samples[i][spec.metric]
		}
		values = append(values, v)
	}
	value := newSpread(values)
	w.Value = &value
	if w.Reach != "" {
		kept := spec.reach.kept(value.Median)
		w.Reached = &kept
	}
	return w
}

// hasName reports whether a side has that name, perhaps with the configuration
// that was chosen behind it.
func hasName(side, name string) bool {
	return side == name || len(side) > len(name) && side[:len(name)+1] == name+","
}

// median is that of a side's samples, 0 without any.
func (s sideResult) median(m metric) float64 {
	if len(s.Samples) == 0 {
		return 0
	}
	var values []float64
	for _, one := range s.Samples {
		values = append(values, one[m])
	}
	return newSpread(values).Median
}

package server

// A requestSet is a set of requests that takes no memory but theirs. Each may be
// in one of them.
type requestSet struct {
	first *request
	size  int
}

// neighbors is what a request has for its set.
type neighbors struct {
	before, after *request
	inSet         bool
}

func (s *requestSet) add(r *request) {
	r.neighbors = neighbors{after: s.first, inSet: true}
	if s.first != nil {
		s.first.before = r
	}
	s.first = r
	s.size++
}

func (s *requestSet) remove(r *request) {
	if !r.inSet {
		return
	}
	if r.before == nil {
		s.first = r.after
	} else {
		r.before.after = r.after
	}
	if r.after != nil {
		r.after.before = r.before
	}
	r.neighbors = neighbors{}
	s.size--
}

// all yields the requests, the newest first. The set must not change meanwhile.
func (s *requestSet) all(yield func(*request) bool) {
	for r := s.first; r != nil && yield(r); r = r.after {
	}
}

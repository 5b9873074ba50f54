package server

// A requestSet is a set of requests that takes no memory but theirs. Each may be
// in one set for each list.
type requestSet struct {
	first *request
	size  int
	list  listKind
}

// A listKind is where a set is.
type listKind uint8

const (
	inTable  listKind = iota // of a connection
	inServer                 // of a lane
	lists
)

// neighbors is what a request has for a set.
type neighbors struct {
	before, after *request
	isIn          bool
}

func (s *requestSet) add(r *request) {
	r.sets[s.list] = neighbors{after: s.first, isIn: true}
	if s.first != nil {
		s.first.sets[s.list].before = r
	}
	s.first = r
	s.size++
}

func (s *requestSet) remove(r *request) {
	at := r.sets[s.list]
	if !at.isIn {
		return
	}
	if at.before == nil {
		s.first = at.after
	} else {
		at.before.sets[s.list].after = at.after
	}
	if at.after != nil {
		at.after.sets[s.list].before = at.before
	}
	r.sets[s.list] = neighbors{}
	s.size--
}

// all yields the requests, the newest first. The set must not change meanwhile.
func (s *requestSet) all(yield func(*request) bool) {
	for r := s.first; r != nil && yield(r); r = r.sets[s.list].after {
	}
}

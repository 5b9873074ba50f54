package server

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"golang.org/x/sys/cpu"
)

// errMemory tells that requests, or those of one connection, hold as much as they may.
var errMemory = errors.New("memory is used up: the limit is that of the key memory")

// A Memory is how much the requests of some Servers may hold in memory together, and
// do. One connection may have a quarter. It needs no lock.
//
// All requests of all pools change it, each several times. So each lane of connections has a
// purse, which takes from what all share, and gives back to it, many bytes at once. What is
// in the purses nobody holds, and nobody else can have: they have a 64th of the limit at most.
type Memory struct {
	limit  atomic.Int64
	purses []purse

	_    cpu.CacheLinePad
	used budget // with what is in the purses
}

// A purse is what a lane has taken and does not use.
type purse struct {
	has atomic.Int64
	_   cpu.CacheLinePad
}

// mostInPurse is how much is in one that is full.
const mostInPurse = 128 << 10

// NewMemory returns a Memory of limit bytes; 0 is no bound.
func NewMemory(limit int64) *Memory {
	m := &Memory{purses: make([]purse, Lanes())}
	m.SetLimit(limit)
	return m
}

// purseful is how much is in a full purse under a limit.
func (m *Memory) purseful(limit int64) int64 {
	if limit == 0 {
		return mostInPurse
	}
	return min(mostInPurse, limit/64/int64(len(m.purses)))
}

// purse is that of connections which have this number.
func (m *Memory) purse(number uint32) *purse { return &m.purses[number%uint32(len(m.purses))] }

// take reports whether connections of this number can have n more within the limit; 0 is
// none. Then they have them.
func (m *Memory) take(number uint32, n, limit int64) bool {
	p := m.purse(number)
	for has := p.has.Load(); has >= n; has = p.has.Load() {
		if p.has.CompareAndSwap(has, has-n) {
			return true
		}
	}
	all := m.limit.Load()
	if half := m.purseful(all) / 2; half >= n && m.used.take(n+half, plenty(limit, all)) {
		p.has.Add(half)
		return true
	}
	return m.used.take(n, limit)
}

// plenty is up to where a purse is filled: what is left above is for who has it by its own
// limit, and not for who finds it in a purse.
func plenty(limit, all int64) int64 {
	if most := all / 4 * 3; all > 0 && (limit == 0 || most < limit) {
		return most
	}
	return limit
}

// giveBack is take's opposite.
func (m *Memory) giveBack(number uint32, n int64) {
	p := m.purse(number)
	full := m.purseful(m.limit.Load())
	for has := p.has.Add(n); has > full; has = p.has.Load() {
		if p.has.CompareAndSwap(has, full/2) {
			m.used.giveBack(has - full/2)
			return
		}
	}
}

// add has connections of this number have n more, or less, whatever the limit.
func (m *Memory) add(number uint32, n int64) {
	if n > 0 {
		m.take(number, n, 0)
	} else {
		m.giveBack(number, -n)
	}
}

// SetLimit changes the limit. What is held stays.
func (m *Memory) SetLimit(limit int64) { m.limit.Store(limit) }

// Limit is how much may be held; 0 is no bound.
func (m *Memory) Limit() int64 { return m.limit.Load() }

// Used is how much is held.
func (m *Memory) Used() int64 {
	used := m.used.used.Load()
	for i := range m.purses {
		used -= m.purses[i].has.Load()
	}
	return max(0, used)
}

// isShort reports whether there is none to spare.
func (m *Memory) isShort() bool {
	if m == nil {
		return false
	}
	limit := m.limit.Load()
	return limit > 0 && m.used.used.Load() > limit/4*3
}

// requestSize is what an open request takes with nothing in it: itself, its context,
// its place in tables, a goroutine.
const requestSize = 4 << 10

// maxSpare is how much of bodies and answers one connection has in memory however much
// there is, unless one body may have more.
const maxSpare = 48 << 20

// A share is what one request has of the Memory and of its connection's quarter. It is
// given back once, by close, and what comes later than that counts no more. Anybody may
// call its methods.
type share struct {
	conn  *conn
	all   *Memory      // nil: nothing is counted
	spare int64        // what its connection may hold of what can be elsewhere
	held  atomic.Int64 // far below zero once it is closed
}

func (s *share) init(r *request) {
	s.conn, s.all = r.conn, r.server.opt.Memory
	s.spare = max(maxSpare, r.settings.Limits.BodyMemory)
}

// take has n more bytes, or none and an error. The last eighth is for connections that
// hold little, so that a few which hold much leave room for their neighbours.
func (s *share) take(n int64) error {
	if s.all == nil || n <= 0 {
		return nil
	}
	limit := s.all.limit.Load()
	most := limit
	if s.conn.memory.used.Load()+n > limit/256 {
		most -= limit / 8
	}
	return s.takeBelow(n, most, limit/4)
}

// takeSpare is take for what can be elsewhere: a quarter is left for what cannot.
func (s *share) takeSpare(n int64) error {
	if s.all == nil || n <= 0 {
		return nil
	}
	limit := s.all.limit.Load()
	ofConn := s.spare
	if limit > 0 {
		ofConn = min(ofConn, limit/16*3)
	}
	return s.takeBelow(n, limit/4*3, ofConn)
}

func (s *share) takeBelow(n, limit, ofConn int64) error {
	switch {
	case !s.conn.memory.take(n, ofConn):
		return fmt.Errorf("%w, of which one connection may have a quarter", errMemory)
	case !s.all.take(s.conn.number, n, limit):
		s.conn.memory.giveBack(n)
		return errMemory
	}
	s.note(n)
	return nil
}

// charge has n more, even above the limit: for what is there already.
func (s *share) charge(n int64) {
	if s.all == nil || n == 0 {
		return
	}
	s.conn.memory.add(n)
	s.all.add(s.conn.number, n)
	s.note(n)
}

// note has n bytes that were counted be the request's, unless that is over.
func (s *share) note(n int64) {
	if s.held.Add(n) < 0 {
		s.uncount(n)
	}
}

func (s *share) uncount(n int64) {
	s.conn.memory.giveBack(n)
	s.all.giveBack(s.conn.number, n)
}

// giveBack gives back n of what it has, before the end.
func (s *share) giveBack(n int64) {
	if s.all != nil && s.held.Add(-n) >= 0 {
		s.uncount(n)
	}
}

// close gives back all.
func (s *share) close() {
	if s.all == nil {
		return
	}
	if n := s.held.Swap(math.MinInt64 / 2); n > 0 {
		s.uncount(n)
	}
}

// append appends p to b, if there is room to spare for what that takes.
func (s *share) append(b, p []byte) ([]byte, error) {
	before := cap(b)
	need := max(0, len(b)+len(p)-before)
	if err := s.takeSpare(int64(need)); err != nil {
		return b, err
	}
	b = append(b, p...)
	s.charge(int64(cap(b) - before - need))
	return b, nil
}

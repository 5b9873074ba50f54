package privsep

import (
	"errors"
	"sync"

	"github.com/fcgid/fcgid/internal/config"
)

// sockets are the listeners that the daemon may ask for.
type sockets struct {
	mu        sync.Mutex // guards the fields below
	now, next []config.Listen
}

func (s *sockets) prepare(next []config.Listen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = next
}

func (s *sockets) abort() { s.prepare(nil) }

func (s *sockets) commit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.next = s.next, nil
}

func (s *spawner) listen(m *Message) (*Message, error) {
	return nil, errors.New("no sockets")
}

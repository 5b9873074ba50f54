package privsep

import (
	"sync"
)

// Serve is hear for a pool or two, and waits for all that is at work.
func Serve(conn *Conn, handle func(*Message) (*Message, error)) error {
	var running sync.WaitGroup
	defer running.Wait()
	return hear(conn, handle, newAdmission(func(string) int { return 1 }), &running)
}

// Close is Wait, and lets go of what pools have.
func (p *Programs) Close() {
	p.Wait()
	p.mu.Lock()
	current, previous := p.current, p.previous
	p.current, p.previous = new(generation), nil
	if p.retire != nil {
		p.retire.Stop()
	}
	p.mu.Unlock()
	p.drop(previous)
	p.drop(current)
}

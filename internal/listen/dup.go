package listen

import "fmt"

// Dup returns a second Listener on the same socket, with the same Options but for
// the address, which is another name of the socket, or the same: they
// share the connections that wait in the kernel, and the socket stays open until
// both are closed. OnRefused is not copied. The file of a unix:/path goes with
// the first Close of the two, unless that one was told to Disown it.
func (l *Listener) Dup(address string) (*Listener, error) {
	fd, err := duplicate(l.ln)
	if err != nil {
		return nil, fmt.Errorf("duplicate listener %s: %w", l.Addr(), err)
	}
	ln, err := listenerOf(fd)
	if err != nil {
		return nil, fmt.Errorf("duplicate listener %s: %w", l.Addr(), err)
	}
	dup := &Listener{ln: ln, by: l.by, file: l.file, passed: l.passed}
	o := l.Options()
	o.Address = address
	dup.options.Store(&o)
	return dup, nil
}

// Disown leaves the socket's file alone at Close, and the socket at Drain: somebody
// else has them now.
func (l *Listener) Disown() {
	l.disowned.Store(true)
	l.unlink.Do(func() {})
}

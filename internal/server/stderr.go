package server

// stderr is what a runner writes a request's STDERR to.
type stderr struct{ *answer }

// Write takes a part of STDERR. It goes out behind the next record of STDOUT, when it
// fills a record, or at the end: web servers read small ones before the header badly.
func (e stderr) Write(p []byte) (int, error) {
	w := e.answer
	w.req.silence.speaks()
	defer w.req.silence.spoke(w.req)
	for rest := p; len(rest) > 0; {
		w.mu.Lock()
		if w.isClosed {
			w.mu.Unlock()
			break
		}
		n := min(len(rest), maxPart-len(w.heldErr))
		w.req.memory.charge(int64(max(0, len(w.heldErr)+n-cap(w.heldErr)))) // the header has to come first
		w.heldErr = append(w.heldErr, rest[:n]...)
		var records []byte
		if len(w.heldErr) == maxPart {
			records = w.appendStderrLocked(nil)
		}
		w.mu.Unlock()
		rest = rest[n:]
		if len(records) > 0 && w.pass(&w.errPatience, records) != nil {
			break // nobody reads it
		}
	}
	return len(p), nil
}

package server

// A lastPart is the end of an answer, in records that wait for those which end the request, so
// that all leave in one write.
type lastPart struct {
	records []byte
	content int     // how much of STDOUT is in them
	buf     *buffer // that they are in; nil if that is the request's lastBuf
}

// keepLastLocked holds the last part of an answer back, if it is little and there is memory.
func (w *answer) keepLastLocked(p []byte) bool {
	content := len(w.held) + len(p)
	if content == 0 && w.last.records != nil {
		return true
	}
	if w.last.records != nil || content > maxHeld || w.req.memory.takeSpare(int64(len(p))) != nil {
		return false
	}
	sent := w.sent
	w.last = w.req.roomFor(content + len(w.heldErr))
	w.last.records = w.appendBodyLocked(w.last.records, p)
	w.sent, w.last.content = sent, content
	return true
}

// appendLastLocked appends what was held back.
func (w *answer) appendLastLocked(dst []byte) []byte {
	if w.last.records == nil {
		return dst
	}
	dst = append(dst, w.last.records...)
	w.sent += int64(w.last.content)
	w.last.drop()
	return dst
}

// takeLastLocked returns what is left of the answer, for what ends the request.
func (w *answer) takeLastLocked() lastPart {
	last := w.last
	w.last = lastPart{}
	w.sent += int64(last.content)
	if last.records == nil {
		last = w.req.roomFor(len(w.held) + len(w.heldErr))
		last.records = w.appendBodyLocked(last.records, nil)
	}
	return last
}

// roomFor is where so much of the streams fits with what ends the request: in a buffer of at
// most about twice the size, since many may wait for a client that does not read.
func (r *request) roomFor(n int) lastPart {
	if n += maxEnd; n <= len(r.lastBuf) {
		return lastPart{records: r.lastBuf[:0]}
	}
	buf := getBufferFor(n)
	return lastPart{records: buf.b, buf: buf}
}

// drop is for when the records are written, or not wanted any more.
func (l *lastPart) drop() {
	if l.buf != nil {
		l.buf.free()
	}
	*l = lastPart{}
}

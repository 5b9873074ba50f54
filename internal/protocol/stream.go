package protocol

import "io"

// A StreamWriter writes one stream of a request (section 3.3): records with at
// most MaxContent bytes each, and at Close the empty record that ends it. Each
// call of W.Write gets one whole record.
type StreamWriter struct {
	W    io.Writer
	Type Type
	ID   uint16

	buf []byte
}

// Write sends p at once, in as many records as it needs. Of an empty p it
// sends nothing, since an empty record would end the stream.
func (s *StreamWriter) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		n := min(len(p), streamContent(s.Type))
		s.buf = AppendRecord(s.buf[:0], s.Type, s.ID, p[:n])
		if _, err := s.W.Write(s.buf); err != nil {
			return written, err
		}
		written += n
		p = p[n:]
	}
	return written, nil
}

// ReadFrom sends what r holds until io.EOF, a record for each read.
func (s *StreamWriter) ReadFrom(r io.Reader) (int64, error) {
	// The stream's content is read to where its record is sent from.
	size := streamContent(s.Type)
	if need := HeaderLen + size + 8; cap(s.buf) < need {
		s.buf = make([]byte, need)
	}
	var total int64
	for {
		buf := s.buf[:cap(s.buf)]
		n, err := r.Read(buf[HeaderLen : HeaderLen+size])
		if n > 0 {
			pad := PaddingFor(s.Type, n)
			AppendHeader(buf[:0], s.Type, s.ID, n, pad)
			clear(buf[HeaderLen+n : HeaderLen+n+pad])
			if _, err := s.W.Write(buf[:HeaderLen+n+pad]); err != nil {
				return total, err
			}
			total += int64(n)
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// Close sends the empty record that ends the stream. It does not close W.
func (s *StreamWriter) Close() error {
	_, err := s.W.Write(AppendRecord(nil, s.Type, s.ID, nil))
	return err
}

// streamContent is the longest content of a record of a stream, padding kept in mind.
func streamContent(t Type) int {
	if t == TypeStderr {
		return MaxContent - 8
	}
	return MaxContent
}

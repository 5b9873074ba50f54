package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// An httpAnswer reads answers over HTTP/1.1 on one connection as they arrive, in pieces
// of any size, and counts the bytes of their bodies without keeping them. The zero value
// is at the start of a connection.
type httpAnswer struct {
	state   httpState
	head    [4096]byte
	headLen int
	left    int64 // of the body, or of the chunk
	body    int64 // of the body, as far as it has come
}

type httpState int

const (
	inHead httpState = iota
	inBody
	inChunkSize
	inChunk
	afterChunk // its end of line
	afterLast  // the end of line that ends the body
)

// feed reads the next bytes. done tells that p has ended an answer, of which body is the
// length until the next feed. The client sends no request before that, so what follows an
// answer breaks the protocol.
func (a *httpAnswer) feed(p []byte) (done bool, err error) {
	for len(p) > 0 {
		if done {
			return true, fmt.Errorf("%d bytes follow the answer", len(p))
		}
		switch a.state {
		case inHead:
			if p, err = a.takeHead(p); err != nil {
				return false, err
			}
			done = a.state == inBody && a.left == 0
		case inBody, inChunk:
			n := min(a.left, int64(len(p)))
			p = p[n:]
			a.left -= n
			a.body += n
			if a.left == 0 && a.state == inChunk {
				a.state = afterChunk
			} else {
				done = a.left == 0 && a.state == inBody
			}
		default:
			if done, err = a.frame(p[0]); err != nil {
				return false, err
			}
			p = p[1:]
		}
		if done {
			a.state, a.headLen = inHead, 0
		}
	}
	return done, nil
}

var (
	headEnd    = []byte("\r\n\r\n")
	isChunked  = []byte("\r\nTransfer-Encoding: chunked\r\n")
	hasLength  = []byte("\r\nContent-Length: ")
	rightStart = []byte("HTTP/1.1 200")
)

// takeHead takes what of p belongs to the header, and returns the rest.
func (a *httpAnswer) takeHead(p []byte) ([]byte, error) {
	n := copy(a.head[a.headLen:], p)
	from := max(0, a.headLen-len(headEnd)+1)
	i := bytes.Index(a.head[from:a.headLen+n], headEnd)
	if i < 0 {
		if a.headLen += n; a.headLen == len(a.head) {
			return nil, fmt.Errorf("header is longer than %d bytes", len(a.head))
		}
		return nil, nil
	}
	end := from + i + len(headEnd)
	head := a.head[:end]
	rest := p[end-a.headLen:]
	if !bytes.HasPrefix(head, rightStart) {
		return nil, fmt.Errorf("answer begins with %q", head[:min(len(head), len(rightStart))])
	}
	a.body, a.left = 0, 0
	if bytes.Contains(head, isChunked) {
		a.state = inChunkSize
		return rest, nil
	}
	_, value, ok := bytes.Cut(head, hasLength)
	if !ok {
		return nil, errors.New("answer has neither a Content-Length nor chunks")
	}
	value, _, _ = bytes.Cut(value, headEnd[:2])
	var err error
	a.state = inBody
	a.left, err = strconv.ParseInt(string(value), 10, 64)
	return rest, err
}

// frame takes a byte of what stands around chunks. It reports whether the last one has ended.
func (a *httpAnswer) frame(b byte) (done bool, err error) {
	digit := bytes.IndexByte([]byte("0123456789abcdef"), b|0x20)
	switch {
	case b == '\r':
	case b == '\n' && a.state == afterChunk:
		a.state = inChunkSize
	case b == '\n' && a.state == afterLast:
		return true, nil
	case b == '\n' && a.left == 0:
		a.state = afterLast
	case b == '\n':
		a.state = inChunk
	case a.state == inChunkSize && digit >= 0 && a.left < 1<<32:
		a.left = a.left<<4 | int64(digit)
	default:
		return false, fmt.Errorf("%q where a chunk begins or ends", b)
	}
	return false, nil
}

package main

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// answers reads the answers on one connection as they arrive, in pieces of any
// size, without keeping them. The zero value is at the start of a connection.
type answers struct {
	head    [8]byte // of a record, as far as it has come
	headLen int
	// Of the record whose header is complete: bytes yet to come.
	content, padding int
	end              [8]byte // content of END_REQUEST
	endLen           int
}

// A sink takes what answers finds.
type sink interface {
	// stdout takes a piece of the STDOUT of request id. It must not keep p.
	stdout(id int, p []byte) error
	// ended tells that request id is complete.
	ended(id int) error
}

// feed reads the next bytes of a FastCGI connection. An error is the sink's, or
// tells what breaks the protocol or what makes an answer a wrong one.
func (a *answers) feed(p []byte, s sink) error {
	for len(p) > 0 {
		if a.headLen < len(a.head) {
			n := copy(a.head[a.headLen:], p)
			a.headLen += n
			p = p[n:]
			if a.headLen < len(a.head) {
				return nil
			}
			if err := a.begin(); err != nil {
				return err
			}
		}
		if n := min(a.content, len(p)); n > 0 {
			a.content -= n
			if err := a.take(p[:n], s); err != nil {
				return err
			}
			p = p[n:]
		}
		if a.content > 0 {
			return nil
		}
		n := min(a.padding, len(p))
		a.padding -= n
		p = p[n:]
		if a.padding == 0 {
			a.headLen = 0
		}
	}
	return nil
}

// begin reads a complete header.
func (a *answers) begin() error {
	a.content, a.padding, a.endLen = int(binary.BigEndian.Uint16(a.head[4:])), int(a.head[6]), 0
	switch kind := a.head[1]; {
	case a.head[0] != 1:
		return fmt.Errorf("record has version %d", a.head[0])
	case kind == typeEnd && a.content != len(a.end):
		return fmt.Errorf("END_REQUEST has %d bytes", a.content)
	case kind != typeEnd && kind != typeStdout && kind != typeStderr:
		return fmt.Errorf("unexpected record of type %d", kind)
	}
	return nil
}

// take takes a piece of a record's content.
func (a *answers) take(p []byte, s sink) error {
	id := int(binary.BigEndian.Uint16(a.head[2:]))
	switch a.head[1] {
	case typeStdout:
		return s.stdout(id, p)
	case typeStderr:
		return fmt.Errorf("STDERR: %s", strings.TrimSpace(string(p)))
	}
	a.endLen += copy(a.end[a.endLen:], p)
	if a.content > 0 {
		return nil
	}
	if app := binary.BigEndian.Uint32(a.end[:]); app != 0 || a.end[4] != 0 {
		return fmt.Errorf("END_REQUEST has appStatus %d and protocolStatus %d", app, a.end[4])
	}
	return s.ended(id)
}

package server

import (
	"errors"
	"io"

	"github.com/fcgid/fcgid/internal/protocol"
)

// The kinds of input that breaks the protocol.
const (
	kindVersion        = "version"              // a record of another FastCGI, or of none
	kindTruncated      = "truncated"            // the connection ended inside a record
	kindStalled        = "stalled"              // a record was not completed in time
	kindSequence       = "sequence"             // a record that cannot come at this point
	kindLength         = "length"               // a record of a fixed length with another one
	kindParams         = "params"               // name-value pairs that cannot be read
	kindUnexpectedType = "unexpected type"      // a record that only we may send
	kindUnknownType    = "unknown type"         // a management record of no known type
	kindFlood          = "flood"                // more than a client may have open or unread
	kindConnections    = "too many connections" // far more than max_conns
	kindRead           = "read"                 // the connection broke
)

// ProtocolErrorKinds are all that Hooks.ProtocolError is called with.
var ProtocolErrorKinds = []string{
	kindVersion, kindTruncated, kindStalled, kindSequence, kindLength, kindParams,
	kindUnexpectedType, kindUnknownType, kindFlood, kindConnections, kindRead,
}

// The ways in which a connection breaks the protocol, and two that are none.
var (
	errSequence = errors.New("record out of sequence")
	errFlood    = errors.New("client sends without end and does not read")
	errStalled  = errors.New("record was not completed within read_timeout")
	errIdle     = errors.New("connection was idle for longer than idle_timeout")
	errStopped  = errors.New("connection was read for as long as intake.stopAfter has let it")
)

// errorKind names what ended a connection, for a metric.
func errorKind(err error) string {
	var version protocol.VersionError
	switch {
	case errors.As(err, &version):
		return kindVersion
	case errors.Is(err, io.ErrUnexpectedEOF):
		return kindTruncated
	case errors.Is(err, errStalled):
		return kindStalled
	case errors.Is(err, errSequence):
		return kindSequence
	case errors.Is(err, protocol.ErrBodyLength):
		return kindLength
	case errors.Is(err, errFlood):
		return kindFlood
	}
	return kindRead
}

// Package protocol is FastCGI 1.0 as bytes in and values out, for both ends of
// the wire: records, name-value pairs, requests and their answers. Section
// numbers refer to the FastCGI Specification, document version 1.0.
//
// It holds no goroutine, lock, log or process and imports nothing of ours, so
// that a rule of the specification can be tested as a table of bytes.
package protocol

import "strconv"

// Version is the only protocol version there is (section 3.3).
const Version = 1

// Limits that the wire sets (section 3.3).
const (
	// HeaderLen is the length of a record's header.
	HeaderLen = 8
	// MaxContent is the longest content this package puts into one record. The
	// format allows 65,535 bytes, but 65,535 and padding overflow the 16-bit
	// counters of some peers, so content and padding stay below that together.
	MaxContent = 65528

	maxContentLength = 65535
	maxPaddingLength = 255
)

// A Type is a record type (section 8).
type Type uint8

// The eleven record types. The first eight belong to a request, the last three
// are management records and have the id 0 (section 3.3).
const (
	TypeBeginRequest    Type = 1
	TypeAbortRequest    Type = 2
	TypeEndRequest      Type = 3
	TypeParams          Type = 4
	TypeStdin           Type = 5
	TypeStdout          Type = 6
	TypeStderr          Type = 7
	TypeData            Type = 8
	TypeGetValues       Type = 9
	TypeGetValuesResult Type = 10
	TypeUnknownType     Type = 11
)

var typeNames = [...]string{
	TypeBeginRequest:    "BEGIN_REQUEST",
	TypeAbortRequest:    "ABORT_REQUEST",
	TypeEndRequest:      "END_REQUEST",
	TypeParams:          "PARAMS",
	TypeStdin:           "STDIN",
	TypeStdout:          "STDOUT",
	TypeStderr:          "STDERR",
	TypeData:            "DATA",
	TypeGetValues:       "GET_VALUES",
	TypeGetValuesResult: "GET_VALUES_RESULT",
	TypeUnknownType:     "UNKNOWN_TYPE",
}

// String is the specification's name without its FCGI_ prefix, or "type N".
func (t Type) String() string {
	if int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return "type " + strconv.Itoa(int(t))
}

// A Role is what a web server asks an application to be (section 6).
type Role uint16

// The three roles.
const (
	RoleResponder  Role = 1
	RoleAuthorizer Role = 2
	RoleFilter     Role = 3
)

// String is the specification's name without its FCGI_ prefix, or "role N".
func (r Role) String() string {
	switch r {
	case RoleResponder:
		return "RESPONDER"
	case RoleAuthorizer:
		return "AUTHORIZER"
	case RoleFilter:
		return "FILTER"
	}
	return "role " + strconv.Itoa(int(r))
}

// A Status is the protocolStatus of an END_REQUEST record (section 5.5).
type Status uint8

// The four values of protocolStatus.
const (
	StatusRequestComplete Status = 0
	StatusCantMpxConn     Status = 1
	StatusOverloaded      Status = 2
	StatusUnknownRole     Status = 3
)

// String is the specification's name without its FCGI_ prefix, or "status N".
func (s Status) String() string {
	switch s {
	case StatusRequestComplete:
		return "REQUEST_COMPLETE"
	case StatusCantMpxConn:
		return "CANT_MPX_CONN"
	case StatusOverloaded:
		return "OVERLOADED"
	case StatusUnknownRole:
		return "UNKNOWN_ROLE"
	}
	return "status " + strconv.Itoa(int(s))
}

// The variables that GET_VALUES may ask for (section 4.1).
const (
	MaxConns  = "FCGI_MAX_CONNS"
	MaxReqs   = "FCGI_MAX_REQS"
	MpxsConns = "FCGI_MPXS_CONNS"
)

package protocol

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strings"
)

// IDParam is the param by which a program is told its request's id.
const IDParam = "REQUEST_ID"

// maxID is the longest id that is taken from a request.
const maxID = 128

// A RequestID names a request for all that have to do with it: programs, and who reads
// their logs. The zero value is none.
type RequestID struct {
	taken string   // from the params
	made  [16]byte // else; it is written in hexadecimal digits
	known bool
	param bool // the params have it as IDParam
}

// Identify returns the id of a request with these params: what the web server says
// (REQUEST_ID), else what the client or a proxy has sent as X-Request-Id, else the
// trace-id of its traceparent, else one that is made. One that was sent is taken only if
// it is harmless wherever it may be written: see isHarmless.
func Identify(params *Params) RequestID {
	var server, client, trace string
	for _, x := range params.pairs {
		switch x.name {
		case IDParam:
			server = x.value
		case "HTTP_X_REQUEST_ID":
			client = x.value
		case "HTTP_TRACEPARENT":
			trace = x.value
		}
	}
	id := RequestID{known: true}
	switch {
	case isHarmless(server):
		id.taken, id.param = server, true
	case isHarmless(client):
		id.taken = client
	default:
		if id.taken = traceID(trace); id.taken == "" {
			id.make()
		}
	}
	return id
}

// KnownID is the id of that text, for who was told it by the one who had the request; "" is
// none.
func KnownID(text string) RequestID { return RequestID{taken: text, known: text != ""} }

// make fills in an id that nobody can guess.
func (id *RequestID) make() {
	binary.LittleEndian.PutUint64(id.made[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(id.made[8:], rand.Uint64())
}

// isHarmless reports whether an id can stand in a log, a header, a shell's word and the
// name of a file: it begins with a letter or a digit, and nothing but those and -_.:=+@
// follow, 128 bytes in all.
func isHarmless(id string) bool {
	for i := 0; i < len(id); i++ {
		c := id[i]
		switch {
		case '0' <= c && c <= '9', 'a' <= c|0x20 && c|0x20 <= 'z':
		case i > 0 && strings.IndexByte("-_.:=+@", c) >= 0:
		default:
			return false
		}
	}
	return id != "" && len(id) <= maxID
}

// traceID is the trace-id in a traceparent (W3C Trace Context, section 3.2), or "".
func traceID(traceparent string) string {
	const before, length = len("00-"), 32
	if len(traceparent) < len("00-0123456789abcdef0123456789abcdef-0123456789abcdef-00") ||
		traceparent[2] != '-' || traceparent[before+length] != '-' {
		return ""
	}
	id := traceparent[before : before+length]
	if strings.Trim(id, "0123456789abcdef") != "" || strings.Trim(id, "0") == "" {
		return ""
	}
	return id
}

// IsKnown reports whether there is one.
func (id *RequestID) IsKnown() bool { return id.known }

// IsParam reports whether the params that it was taken from have it as IDParam.
func (id *RequestID) IsParam() bool { return id.param }

// Append appends it.
func (id *RequestID) Append(dst []byte) []byte {
	switch {
	case id.taken != "":
		return append(dst, id.taken...)
	case id.known:
		return hex.AppendEncode(dst, id.made[:])
	}
	return dst
}

// String is the id, or "". One that was made costs memory.
func (id *RequestID) String() string {
	if id.known && id.taken == "" {
		return hex.EncodeToString(id.made[:])
	}
	return id.taken
}

// appendPair appends it as a pair of the PARAMS stream.
func (id *RequestID) appendPair(dst []byte) []byte {
	if id.taken != "" {
		return AppendPair(dst, IDParam, id.taken)
	}
	dst = append(appendLength(appendLength(dst, len(IDParam)), hex.EncodedLen(len(id.made))), IDParam...)
	return hex.AppendEncode(dst, id.made[:])
}

// pairLen is how long that is.
func (id *RequestID) pairLen() int {
	if id.taken != "" {
		return encodedLen(IDParam) + encodedLen(id.taken)
	}
	return encodedLen(IDParam) + 1 + hex.EncodedLen(len(id.made))
}

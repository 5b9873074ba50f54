package fcgi

import (
	"io"

	"github.com/fcgid/fcgid/internal/protocol"
)

// A Role is what a web server asks an application to be.
type Role uint16

// The roles of FastCGI. A Responder answers a request as a CGI program does, an
// Authorizer says whether it may go on, and a Filter gets a second input.
const (
	RoleResponder  Role = 1
	RoleAuthorizer Role = 2
	RoleFilter     Role = 3
)

// String is the specification's name without its FCGI_ prefix, or "role N".
func (r Role) String() string { return protocol.Role(r).String() }

// A ProtocolStatus says what became of a request before any program of the
// application's had a say.
type ProtocolStatus uint8

// The values of ProtocolStatus. All but StatusRequestComplete are refusals.
const (
	// StatusRequestComplete is the normal end.
	StatusRequestComplete ProtocolStatus = 0
	// StatusCantMultiplex refuses a second request on one connection.
	StatusCantMultiplex ProtocolStatus = 1
	// StatusOverloaded refuses a request for lack of some resource.
	StatusOverloaded ProtocolStatus = 2
	// StatusUnknownRole refuses the Role.
	StatusUnknownRole ProtocolStatus = 3
)

// String is the specification's name without its FCGI_ prefix, or "status N".
func (s ProtocolStatus) String() string { return protocol.Status(s).String() }

// The names that [Client.Values] may ask for.
const (
	MaxConns  = protocol.MaxConns
	MaxReqs   = protocol.MaxReqs
	MpxsConns = protocol.MpxsConns
)

// ErrNoEnd tells that the connection was lost or closed before the end of a
// request: what has come of the answer is not known to be all of it.
var ErrNoEnd = protocol.ErrNoEnd

// A Param is one variable of a request's environment.
type Param struct{ Name, Value string }

// Params are the variables of a request in the order in which they are sent. A
// name may repeat; most applications let the last one win.
type Params []Param

// Get is the value of name, "" without one. Of a repeated name it is the last.
func (p Params) Get(name string) string {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i].Name == name {
			return p[i].Value
		}
	}
	return ""
}

// Add appends a variable.
func (p *Params) Add(name, value string) { *p = append(*p, Param{name, value}) }

// Set gives name this value alone: in the place of its first one, or at the end.
func (p *Params) Set(name, value string) {
	found := false
	kept := (*p)[:0]
	for _, v := range *p {
		if v.Name != name {
			kept = append(kept, v)
			continue
		}
		if !found {
			kept = append(kept, Param{name, value})
			found = true
		}
	}
	if !found {
		kept = append(kept, Param{name, value})
	}
	*p = kept
}

// A Request is one FastCGI request. Nothing of it is changed by sending it.
type Request struct {
	// Role is RoleResponder when it is 0.
	Role   Role
	Params Params
	// Stdin is sent until io.EOF; nil is an empty one. Another error of it ends
	// the request. An Authorizer has none.
	Stdin io.Reader
	// Data is the second input of a Filter, sent after Stdin; nil is an empty one.
	Data io.Reader
	// Stdout takes the answer as it comes: a CGI response, header first. After
	// an error of Write, or the end of the request's context, it gets no more.
	Stdout io.Writer
	// Stderr takes messages for a log. Nil discards, as it does for Stdout.
	Stderr io.Writer
	// KeepConn asks the application to leave the connection open for another request.
	KeepConn bool
}

// A Result is how a request ended.
type Result struct {
	// AppStatus is the exit status of a CGI program. It says nothing unless
	// ProtocolStatus is StatusRequestComplete.
	AppStatus      uint32
	ProtocolStatus ProtocolStatus
}

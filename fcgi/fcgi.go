package fcgi

import (
	"io"
	"slices"

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
	MaxConns  = "FCGI_MAX_CONNS"  // connections at once
	MaxReqs   = "FCGI_MAX_REQS"   // requests at once
	MpxsConns = "FCGI_MPXS_CONNS" // "1": several requests at once on a connection
)

// ErrNoEnd tells that the connection was lost or closed before the end of a
// request: what has come of the answer is not known to be all of it.
var ErrNoEnd error = errNoEnd

var errNoEnd = protocol.ErrNoEnd

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

// Set gives name this value alone: in the place of its last one, or at the end. A
// copy of the params stays as it is.
func (p *Params) Set(name, value string) {
	kept := make(Params, 0, len(*p)+1)
	found := false
	for _, v := range slices.Backward(*p) {
		switch {
		case v.Name != name:
			kept = append(kept, v)
		case !found:
			kept = append(kept, Param{name, value})
			found = true
		}
	}
	slices.Reverse(kept)
	if !found {
		kept = append(kept, Param{name, value})
	}
	*p = kept
}

// A Request is one FastCGI request, for both sides: [Client.Do] sends what is in
// it, and a [Handler] finds in it what has come. Nothing of it is changed by
// sending it.
type Request struct {
	// Role is what the application is to be. A client's 0 is RoleResponder; a
	// handler sees RoleResponder or RoleAuthorizer.
	Role Role
	// Params are the request's environment. A handler may change its own.
	Params Params
	// Stdin is the request's body.
	//
	// A client's is sent until io.EOF; nil is an empty one. Another error of it
	// ends the request. An Authorizer has none.
	//
	// A handler's is never nil. It ends with io.EOF, or with context.Cause of the
	// handler's context when that ends first. Not all of it need be read. With
	// [Server.BufferRequests] all of it is there, and the params have its size as
	// CONTENT_LENGTH, whatever they had before.
	Stdin io.Reader
	// Data is the second input of a Filter, sent after Stdin; nil is an empty one.
	// A handler's is always empty.
	Data io.Reader
	// Stdout takes the answer: a CGI response, header first.
	//
	// A client's gets it as it comes; after an error of Write, or the end of the
	// request's context, it gets no more. Nil discards.
	//
	// A handler's is never nil. It is buffered: what is written leaves when 8 KiB
	// have come together, when the handler has returned, and with Flush. It may
	// be written to by several goroutines at once, until the handler has returned.
	Stdout io.Writer
	// Stderr takes messages for a log. A client's gets those of the application;
	// nil discards. A handler's is never nil, and what is written there is for
	// the web server's log; it may be written to like Stdout, but is not buffered.
	Stderr io.Writer
	// Close is for clients. The request is sent without FCGI_KEEP_CONN, so that the
	// application closes the connection after it.
	Close bool

	call *handlerCall // that it belongs to; nil for one that a server has not made
}

// Flush is for handlers: it sends what has been written to Stdout so far. What it
// calls is Stdout's own method Flush() error; where there is none, as on a
// client's side, it does nothing.
//
// The web server has its own buffers: nginx passes an answer on as it comes with
// fastcgi_buffering off.
func (r *Request) Flush() error {
	if f, ok := r.Stdout.(interface{ Flush() error }); ok {
		return f.Flush()
	}
	return nil
}

// A Result is how a request ended. Beside an error it means nothing.
type Result struct {
	// AppStatus is the exit status of a CGI program. It says nothing unless
	// ProtocolStatus is StatusRequestComplete.
	AppStatus      uint32
	ProtocolStatus ProtocolStatus
}

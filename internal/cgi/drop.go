package cgi

import (
	"strings"
	"sync"
)

// Why a param is kept from a program.
const (
	whyNoName = "it is no name of a variable"
	whyNUL    = "its value has a NUL in it"
	whyProxy  = "clients can set it, and programs take it for the proxy to use (httpoxy)"
	whySteers = "it can have programs run other code"
	whyPath   = "no language has a slash in its name"
)

// arrives reports whether a param becomes a variable of a process's environment.
func (e *Environment) arrives(name, value string) bool {
	why := ""
	switch {
	case strings.IndexByte(value, 0) >= 0:
		why = whyNUL
	case !isName(name):
		why = whyNoName
	case isProxyHeader(name):
		why = whyProxy
	case steers(name):
		why = whySteers
	case isCatalogue(name, value):
		why = whyPath
	default:
		return true
	}
	if why != whyNUL && e.mayPass[name] {
		return true
	}
	if _, is := e.set[name]; !is { // else it arrives with another value
		e.dropped.tell(name, why)
	}
	return false
}

// isProxyHeader reports whether a param is the header field Proxy, which programs take
// for the proxy that they are to use (CVE-2016-5385), some in letters of any case.
func isProxyHeader(name string) bool {
	return len(name) == len("HTTP_PROXY") && strings.HasPrefix(name, "HTTP_") && strings.EqualFold(name, "HTTP_PROXY")
}

// arrivesAtWorker is arrives for what is no process's environment.
func (e *Environment) arrivesAtWorker(name string) bool {
	why := ""
	switch {
	case isProxyHeader(name):
		why = whyProxy
	case !isName(name):
		why = whyNoName
	default:
		return true
	}
	if e.mayPass[name] {
		return true
	}
	if _, is := e.set[name]; !is {
		e.dropped.tell(name, why)
	}
	return false
}

// maxTold is how many names are told of: clients could think of more.
const maxTold = 100

// dropped tells of params that are kept from programs, once for each name.
type dropped struct {
	report func(name, why string)

	mu   sync.Mutex // guards the field below
	told map[string]bool
}

func (d *dropped) tell(name, why string) {
	if d.report != nil && d.isNew(name) {
		d.report(name, why)
	}
}

func (d *dropped) isNew(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.told[name] || len(d.told) >= maxTold {
		return false
	}
	if d.told == nil {
		d.told = make(map[string]bool)
	}
	d.told[strings.Clone(name)] = true // the name is a part of all the params
	return true
}

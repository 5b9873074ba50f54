package fcgi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// A Registry is a set of functions with names, of which a request names one in
// SCRIPT_FILENAME: a [Handler] that chooses another, as an http.ServeMux does. Nothing
// else can be called through it. The zero value is empty and ready; its methods may be
// called at the same time.
type Registry struct {
	// Fallback, if not nil, answers requests that mean no function of the Registry,
	// which are else answered with 404. It is set before the first request.
	Fallback Handler

	// Handlers by name. Each request looks one up, on whatever CPU it is: that is to change
	// nothing, as even a read lock is changed.
	functions sync.Map
}

// maxName is the longest name of a function: that of a file.
const maxName = 255

// Handle gives h a name, such as "orders" or "shop.orders", or one with
// slashes, which is found only if a request gives it as a whole, with or without
// a slash before it.
//
// It panics when the name is taken, empty, longer than 255 bytes, not UTF-8 or
// has control characters; when its last path element is empty, "." or ".."; and
// when h is nil. These are mistakes of a program, to be found at its start.
func (r *Registry) Handle(name string, h Handler) {
	if err := checkName(name); err != nil {
		panic(fmt.Sprintf("fcgi: handle %.300q: %v", name, err))
	}
	if f, isFunc := h.(HandlerFunc); h == nil || isFunc && f == nil {
		panic(fmt.Sprintf("fcgi: handle %q: nil function", name))
	}
	if _, isTaken := r.functions.LoadOrStore(name, h); isTaken {
		panic(fmt.Sprintf("fcgi: handle %q: the name is taken", name))
	}
}

// HandleFunc is Handle for a function.
func (r *Registry) HandleFunc(name string, h func(ctx context.Context, req *Request) (appStatus uint32, err error)) {
	r.Handle(name, HandlerFunc(h))
}

func checkName(name string) error {
	switch last := lastElement(name); {
	case len(name) > maxName:
		return fmt.Errorf("name is longer than %d bytes", maxName)
	case last == "", last == ".", last == "..":
		return errors.New("name has no last path element, by which a request would call it: it may not be empty or end with a slash")
	case !utf8.ValidString(name), strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("name has control characters or is no UTF-8")
	}
	return nil
}

// Names are the names of all functions, sorted.
func (r *Registry) Names() []string {
	var names []string
	for name := range r.functions.Range {
		names = append(names, name.(string))
	}
	slices.Sort(names)
	return names
}

// Lookup finds the function that a request means: the one whose name is the whole
// SCRIPT_FILENAME, or that without its first slash, else the one whose name is its
// last path element. So all of
// "orders", "/srv/www/orders" and Apache's "proxy:fcgi://localhost/orders" mean
// "orders", and "orders/" means none. When SCRIPT_FILENAME is missing or empty,
// SCRIPT_NAME is taken in the same way. Names are compared byte by byte.
func (r *Registry) Lookup(p Params) (name string, h Handler, ok bool) {
	asked := askedName(p)
	for _, name := range [...]string{asked, strings.TrimPrefix(asked, "/"), lastElement(asked)} {
		if len(name) > maxName {
			continue
		}
		if h, ok := r.functions.Load(name); ok {
			return name, h.(Handler), true
		}
	}
	return "", nil, false
}

// askedName is what a request names its function by.
func askedName(p Params) string {
	asked := p.Get("SCRIPT_FILENAME")
	if asked == "" {
		asked = p.Get("SCRIPT_NAME")
	}
	if strings.HasPrefix(asked, "proxy:") {
		// Apache leaves the query string behind "proxy:balancer://…": it is the
		// client's, and must not name a function.
		asked, _, _ = strings.Cut(asked, "?")
	}
	return asked
}

// lastElement is what follows the last slash.
func lastElement(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// ServeFCGI calls the function that the request means, see Lookup, or the Fallback.
// Without one, a request that means none is answered with 404, and appStatus 404.
func (r *Registry) ServeFCGI(ctx context.Context, req *Request) (appStatus uint32, err error) {
	_, h, ok := r.Lookup(req.Params)
	if !ok {
		h = r.Fallback
	}
	if h == nil {
		return 404, &StatusError{Status: 404, Err: fmt.Errorf("no function is registered by the name %.300q", askedName(req.Params))}
	}
	return h.ServeFCGI(ctx, req)
}

package fcgi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// A Registry is a set of functions with names, of which a request names one in
// SCRIPT_FILENAME. Nothing else can be called through it. Its method Respond is
// the Handler of a [Server] that answers with all of them. The zero value is empty
// and ready; its methods may be called at the same time.
type Registry struct {
	mu        sync.RWMutex // guards the field below
	functions map[string]HandlerFunc
}

// maxName is the longest name of a function: that of a file.
const maxName = 255

// Register gives h a name, such as "orders" or "shop.orders", or one with
// slashes, which is found only if a request gives it as a whole, with or without
// a slash before it.
//
// It panics when the name is taken, empty, longer than 255 bytes, not UTF-8 or
// has control characters; when its last path element is empty, "." or ".."; and
// when h is nil. These are mistakes of a program, to be found at its start.
func (r *Registry) Register(name string, h HandlerFunc) {
	if err := checkName(name); err != nil {
		panic(fmt.Sprintf("fcgi: register %.300q: %v", name, err))
	}
	if h == nil {
		panic(fmt.Sprintf("fcgi: register %q: nil function", name))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.functions[name] != nil {
		panic(fmt.Sprintf("fcgi: register %q: the name is taken", name))
	}
	if r.functions == nil {
		r.functions = make(map[string]HandlerFunc)
	}
	r.functions[name] = h
}

func checkName(name string) error {
	switch last := lastElement(name); {
	case len(name) > maxName:
		return fmt.Errorf("name is longer than %d bytes", maxName)
	case last == "", last == ".", last == "..":
		return errors.New("name has no last path element")
	case !utf8.ValidString(name), strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("name has control characters or is no UTF-8")
	}
	return nil
}

// Names are the names of all functions, sorted.
func (r *Registry) Names() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Sorted(maps.Keys(r.functions))
}

// Lookup finds the function that a request means: the one whose name is the whole
// SCRIPT_FILENAME, or that without its first slash, else the one whose name is its
// last path element. So all of
// "orders", "/srv/www/orders" and Apache's "proxy:fcgi://localhost/orders" mean
// "orders", and "orders/" means none. When SCRIPT_FILENAME is missing or empty,
// SCRIPT_NAME is taken in the same way. Names are compared byte by byte.
func (r *Registry) Lookup(p Params) (name string, h HandlerFunc, ok bool) {
	asked := askedName(p)
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, name := range [...]string{asked, strings.TrimPrefix(asked, "/"), lastElement(asked)} {
		if len(name) > maxName {
			continue
		}
		if h := r.functions[name]; h != nil {
			return name, h, true
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

// Respond is a [HandlerFunc]: it calls the function that the request means, see
// Lookup. A request that means none is answered with 404, and appStatus 404.
func (r *Registry) Respond(ctx context.Context, req *Request) (appStatus uint32, err error) {
	_, h, ok := r.Lookup(req.Params)
	if !ok {
		return 404, &StatusError{Status: 404, Err: fmt.Errorf("no function is registered by the name %.300q", askedName(req.Params))}
	}
	return h(ctx, req)
}

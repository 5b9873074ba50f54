package pool

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/function"
	"github.com/fcgid/fcgid/internal/status"
)

// reserved begins the names of the functions that every fcgid has.
const reserved = "fcgid."

// ownFunctions are those functions. Each is made for the pool of that name.
var ownFunctions = map[string]func(s *Set, pool string) fcgi.Handler{
	reserved + "ping":   func(*Set, string) fcgi.Handler { return fcgi.HandlerFunc(ping) },
	reserved + "echo":   func(*Set, string) fcgi.Handler { return fcgi.HandlerFunc(echo) },
	reserved + "status": (*Set).statusFunction,
}

// Functions are those that pools can answer with: our own and a program's.
type Functions struct{ added *fcgi.Registry }

// NewFunctions returns our own functions and those added, which may be nil. It
// panics for a name that is one of ours.
func NewFunctions(added *fcgi.Registry) Functions {
	if added == nil {
		return Functions{}
	}
	for _, name := range added.Names() {
		if strings.HasPrefix(name, reserved) {
			panic(fmt.Sprintf("fcgid: function %q: names that begin with %q are fcgid's own", name, reserved))
		}
	}
	return Functions{added}
}

// Names are all of them, in order: those that a pool may name.
func (f Functions) Names() []string {
	names := slices.Collect(maps.Keys(ownFunctions))
	if f.added != nil {
		names = append(names, f.added.Names()...)
	}
	slices.Sort(names)
	return names
}

// AreAdded reports whether the program has functions of its own.
func (f Functions) AreAdded() bool { return f.added != nil }

// Added are the names of the program's own functions, in order.
func (f Functions) Added() []string {
	if f.added == nil {
		return nil
	}
	return slices.Sorted(slices.Values(f.added.Names()))
}

// unnamed are those of a pool that names none: the program's, and the one of our
// own that tells nothing of the daemon, the web server and others' requests.
func (f Functions) unnamed() []string {
	names := append(f.Added(), reserved+"ping")
	slices.Sort(names)
	return names
}

// newFunction is the runner of a function pool.
func (s *Set) newFunction(cfg *config.Pool) *function.Runner {
	names := cfg.Function.Names
	if len(names) == 0 {
		names = s.opt.Functions.unnamed()
	}
	registry := new(fcgi.Registry)
	for _, name := range names {
		registry.Handle(name, s.handler(name, cfg.Name))
	}
	if len(cfg.Function.Names) == 0 && s.opt.Functions.added != nil {
		registry.Fallback = s.opt.Functions.added.Fallback
	}
	if registry.Fallback == nil {
		registry.Fallback = s.opt.Functions.unlisted(names)
	}
	admit := s.stderrLimit(cfg.Name).Admit
	log, single := s.opt.Logs.With("pool", cfg.Name), cfg.Limits.SingleFields
	call := function.FromHandler(registry)
	return function.New(function.Options{
		Call: func(ctx context.Context, req *protocol.Request) (uint32, error) {
			if err := cgi.CheckFields(&req.Params, single); err != nil {
				return 0, err // two values of what may come once only
			}
			stderr := functionStderr{log: log, admit: admit, req: req}
			defer stderr.flush()
			req.Stderr = &stderr
			return call(ctx, req)
		},
		Log: log,
	})
}

// unlisted answers who asks a pool with those names for another function: with 404,
// which tells what is there and not for this pool from what is nowhere.
func (f Functions) unlisted(names []string) fcgi.Handler {
	all := new(fcgi.Registry)
	nothing := fcgi.HandlerFunc(func(context.Context, *fcgi.Request) (uint32, error) { return 0, nil })
	for _, name := range f.Names() {
		all.Handle(name, nothing)
	}
	return fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
		name, _, ok := all.Lookup(req.Params)
		if !ok {
			return new(fcgi.Registry).ServeFCGI(ctx, req) // it is nowhere
		}
		return 404, &fcgi.StatusError{Status: 404, Err: fmt.Errorf("function %q is registered, but not one of function.names (%s)", name, strings.Join(names, ", "))}
	})
}

// handler is the function of that name, which config has found to be there.
func (s *Set) handler(name, pool string) fcgi.Handler {
	if own := ownFunctions[name]; own != nil {
		return own(s, pool)
	}
	_, h, _ := s.opt.Functions.added.Lookup(fcgi.Params{{Name: "SCRIPT_FILENAME", Value: name}})
	return h
}

const plainHeader = "Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n\r\n"

// ping answers that the pool is there.
func ping(_ context.Context, req *fcgi.Request) (uint32, error) {
	_, err := io.WriteString(req.Stdout, plainHeader+"pong\n")
	return 0, err
}

// echo answers with the request's variables, a line each in the order in which
// they came, and the size and SHA-256 digest of its body.
func echo(_ context.Context, req *fcgi.Request) (uint32, error) {
	digest := sha256.New()
	size, err := io.Copy(digest, req.Stdin)
	if err != nil {
		return 0, err
	}
	var page strings.Builder
	page.WriteString(plainHeader)
	for _, p := range req.Params {
		fmt.Fprintf(&page, "%s=%s\n", status.Printable(p.Name), status.Printable(p.Value))
	}
	fmt.Fprintf(&page, "\nbody: %d bytes, sha256 %x\n", size, digest.Sum(nil))
	_, err = io.WriteString(req.Stdout, page.String())
	return 0, err
}

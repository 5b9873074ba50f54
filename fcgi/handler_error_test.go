package fcgi_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// An oddError has methods that panic when it is a nil pointer, or has no kind.
type oddError struct{ kind *error }

func (e *oddError) Error() string        { return fmt.Sprint("odd ", *e.kind) }
func (e *oddError) Is(target error) bool { return *e.kind == target }
func (e *oddError) As(any) bool          { return *e.kind != nil }

type oddUnwrap struct{ err *error }

func (oddUnwrap) Error() string   { return "odd" }
func (e oddUnwrap) Unwrap() error { return *e.err }

type oddText struct{}

func (oddText) Error() string {
	m := map[string]any{}
	m["self"] = m
	panic(m)
}

// Whatever the methods of its error do, a handler fails its own request only.
func TestOddErrorsOfAHandler(t *testing.T) {
	for name, odd := range map[string]error{
		"typed nil":       (*oddError)(nil),
		"Is":              &oddError{},
		"joined":          errors.Join(oddText{}, oddUnwrap{}),
		"Unwrap":          oddUnwrap{},
		"Error":           oddText{},
		"nil StatusError": (*fcgi.StatusError)(nil),
		"in StatusError":  &fcgi.StatusError{Status: 500, Err: oddText{}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := serve(t, &fcgi.Server{MaxReqs: 1, Handler: fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
					hello(ctx, req)
					if req.Params.Get("ODD") != "" {
						return 0, odd
					}
					return 0, nil
				})})
				w := v.dial()
				w.send(wiretest.Get(1, true, "ODD", "1"))
				w.wantPage(1, 500, 500)
				w.send(wiretest.Get(1, true))
				w.want(1, helloAnswer, 0)
				synctest.Wait()
				if len(v.log.lines("outcome=error")) != 1 {
					t.Errorf("logged %q", v.log.lines())
				}
			})
		})
	}
}

// The reasons that say that the client is gone are known however they are wrapped.
func TestHandlerReturnsThatItsClientIsGone(t *testing.T) {
	for _, gone := range []error{fcgi.ErrAborted, fcgi.ErrClientGone} {
		synctest.Test(t, func(t *testing.T) {
			v := serve(t, &fcgi.Server{Handler: fcgi.HandlerFunc(func(context.Context, *fcgi.Request) (uint32, error) {
				return 0, &fcgi.StatusError{Status: 503, Err: fmt.Errorf("upstream: %w", gone)}
			})})
			w := v.dial()
			w.send(wiretest.Get(1, true))
			w.want(1, "", 0)
			synctest.Wait()
			if got := v.log.lines("outcome=aborted"); len(got) != 1 || !strings.Contains(got[0], "upstream: "+gone.Error()) {
				t.Errorf("logged %q", v.log.lines())
			}
		})
	}
}

package fcgi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/fcgid/fcgid/internal/protocol"
)

var errCrash = errors.New("crash")

type panicky struct{}

func (panicky) Read([]byte) (int, error)  { panic(errCrash) }
func (panicky) Write([]byte) (int, error) { panic(errCrash) }

type exiting struct{}

func (exiting) Read([]byte) (int, error)  { runtime.Goexit(); return 0, nil }
func (exiting) Write([]byte) (int, error) { runtime.Goexit(); return 0, nil }

// A crashing is a Do that is not to return.
type crashing struct {
	value    any // that it panicked with; nil after Goexit
	returned bool
	err      error
	done     chan struct{}
}

func startCrash(ctx context.Context, c *Conn, req *Request) *crashing {
	x := &crashing{done: make(chan struct{})}
	go func() {
		defer close(x.done)
		defer func() { x.value = recover() }()
		_, x.err = c.Do(ctx, req)
		x.returned = true
	}()
	return x
}

// A Stdout that panics, or ends the goroutine, goes through Do. Nothing of its
// request reaches the next: the connection is closed.
func TestStdoutCrashesAlone(t *testing.T) {
	for name, w := range map[string]io.Writer{"panic": panicky{}, "goexit": exiting{}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newSharedPeer(t)
				one := startCrash(t.Context(), c, &Request{Stdout: w})
				p.wantRequest(1)
				p.send(protocol.TypeStdout, 1, "one")
				p.gone()
				<-one.done
				if one.returned || (one.value == errCrash) != (name == "panic") {
					t.Errorf("Do ended with %v, returned %v", one.value, one.returned)
				}
				start(t.Context(), c, &Request{}).wantError(t, net.ErrClosed)
			})
		})
	}
}

// With neighbours its request is aborted, and they go on: whether it was the one
// that read from the connection, or not.
func TestStdoutCrashesAmongOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newSharedPeer(t)
		one := start(t.Context(), c, &Request{})
		p.wantRequest(1)
		two := startCrash(t.Context(), c, &Request{Stdout: panicky{}})
		p.wantRequest(2)
		p.send(protocol.TypeStdout, 2, "two")
		p.want(protocol.TypeAbortRequest, "")
		p.endOf(2)
		<-two.done
		p.send(protocol.TypeStdout, 1, "one")
		p.endOf(1)
		one.want(t, "one", 1)
		if two.value != errCrash {
			t.Errorf("Do ended with %v", two.value)
		}

		slow := &gatedPanic{open: make(chan struct{})}
		leader := startCrash(t.Context(), c, &Request{Stdout: slow})
		p.wantRequest(1)
		p.send(protocol.TypeStdout, 1, "one")
		synctest.Wait()
		four := start(t.Context(), c, &Request{})
		p.wantRequest(2)
		close(slow.open)
		p.want(protocol.TypeAbortRequest, "")
		p.send(protocol.TypeStdout, 2, "four")
		p.endOf(1)
		<-leader.done
		five := start(t.Context(), c, &Request{})
		p.wantRequest(1)
		p.endOf(1)
		p.endOf(2)
		five.want(t, "", 1)
		four.want(t, "four", 2)
	})
}

type gatedPanic struct{ open chan struct{} }

func (w *gatedPanic) Write([]byte) (int, error) { <-w.open; panic(errCrash) }

// A Stdin that panics does so in a goroutine that nobody else can recover. Do
// aborts the request and panics in its place; neighbours live.
func TestStdinPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newSharedPeer(t)
		one := start(t.Context(), c, &Request{})
		p.wantRequest(1)
		two := startCrash(t.Context(), c, &Request{Stdin: panicky{}})
		p.head()
		p.want(protocol.TypeAbortRequest, "")
		p.endOf(2)
		<-two.done
		if two.returned || two.value != errCrash {
			t.Errorf("Do ended with %v, returned %v", two.value, two.returned)
		}
		p.endOf(1)
		one.want(t, "", 1)
	})
}

// One that ends its goroutine has no answer either, but an error.
func TestStdinExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPeer(t)
		one := start(t.Context(), c, &Request{Stdin: io.MultiReader(strings.NewReader("half"), exiting{})})
		p.head()
		p.want(protocol.TypeStdin, "half")
		p.want(protocol.TypeAbortRequest, "")
		p.endOf(1)
		one.wantError(t, errCrashed)
	})
}

// What a Read does that Do has not waited for is lost, a panic too.
func TestStdinPanicsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPeer(t)
		stdin := &gatedPanicReader{open: make(chan struct{})}
		var out bytes.Buffer
		one := start(t.Context(), c, &Request{Close: true, Stdin: stdin, Stdout: &out})
		p.head()
		p.send(protocol.TypeStdout, 1, "early")
		p.endOf(1)
		<-one.done
		if one.err != nil || out.String() != "early" {
			t.Errorf("got %v, %q", one.err, &out)
		}
		close(stdin.open)
		c.Wait()
	})
}

type gatedPanicReader struct{ open chan struct{} }

func (r *gatedPanicReader) Read([]byte) (int, error) { <-r.open; panic(errCrash) }

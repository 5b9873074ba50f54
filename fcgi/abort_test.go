package fcgi

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

var errEnough = errors.New("enough")

func TestAbort(t *testing.T) {
	t.Run("application ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPeer(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() {
				p.head()
				p.stream(protocol.TypeStdin)
				p.send(protocol.TypeStdout, 1, "before")
				synctest.Wait()
				cancel(errEnough)
				p.want(protocol.TypeAbortRequest, "")
				p.send(protocol.TypeStdout, 1, "after")
				p.end(143, protocol.StatusRequestComplete)

				p.head()
				p.stream(protocol.TypeStdin)
				p.end(0, protocol.StatusRequestComplete)
			}()
			var stdout strings.Builder
			_, err := c.Do(ctx, &Request{Stdout: &stdout})
			if err != errEnough || stdout.String() != "before" {
				t.Errorf("got %v, stdout %q", err, &stdout)
			}
			if _, err := c.Do(t.Context(), &Request{}); err != nil {
				t.Errorf("the connection was not kept: %v", err)
			}
		})
	})
	t.Run("application goes on", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPeer(t)
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errEnough)
			defer cancel()
			stdin, w := io.Pipe()
			defer w.Close()
			go func() {
				p.head()
				p.want(protocol.TypeAbortRequest, "")
				p.gone()
			}()
			start := time.Now()
			_, err := c.Do(ctx, &Request{Close: true, Stdin: stdin})
			if took := time.Since(start); err != errEnough || took != time.Minute+abortGrace+stdinGrace {
				t.Errorf("got %v after %v", err, took)
			}
			synctest.Wait()
		})
	})
	t.Run("ended before", func(t *testing.T) {
		c, _ := newPeer(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errEnough)
		if _, err := c.Do(ctx, &Request{Close: true}); err != errEnough {
			t.Errorf("got %v", err)
		}
	})
}

// The application reads nothing, so the sender is inside a record, and no
// ABORT_REQUEST can be sent.
func TestAbortBlockedWrite(t *testing.T) {
	c, _ := newSocketPeer(t)
	c.abortGrace = 50 * time.Millisecond
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errEnough)
	defer cancel()
	if _, err := c.Do(ctx, &Request{Close: true, Stdin: zeros{}}); err != errEnough {
		t.Errorf("got %v", err)
	}
}

func TestAbortWaitingForTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newPeer(t)
		first := make(chan error)
		go func() {
			_, err := c.Do(t.Context(), &Request{Close: true})
			first <- err
		}()
		p.head()
		p.stream(protocol.TypeStdin)
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errEnough)
		defer cancel()
		if _, err := c.Do(ctx, &Request{Close: true}); err != errEnough {
			t.Errorf("got %v", err)
		}
		p.end(0, protocol.StatusRequestComplete)
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}

func TestAbortByStream(t *testing.T) {
	for name, req := range map[string]*Request{
		"stdin":  {Stdin: broken{}},
		"data":   {Role: RoleFilter, Data: broken{}},
		"stdout": {Stdout: broken{}},
		"stderr": {Stderr: broken{}},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, p := newPeer(t)
			go func() {
				p.head()
				for p.next().Type != protocol.TypeAbortRequest {
					p.send(protocol.TypeStdout, 1, "some")
					p.send(protocol.TypeStderr, 1, "thing")
				}
				p.end(0, protocol.StatusRequestComplete)
			}()
			_, err := c.Do(t.Context(), req)
			if !errors.Is(err, errEnough) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: got %v", name, err)
			}
		})
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error)  { return 0, errEnough }
func (broken) Write([]byte) (int, error) { return 0, errEnough }

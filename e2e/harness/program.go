package harness

import (
	"bytes"
	"net"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A Program is a program that a test has started and that ends with it.
type Program struct {
	*exec.Cmd
	Out  *Output
	Done chan struct{} // closed when it has exited
	Err  error         // of Wait, once Done
}

// Output collects what a program prints. It may be read meanwhile.
type Output struct {
	mu  sync.Mutex // guards the field below
	buf bytes.Buffer
}

// Write collects p.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

// String is what has been collected.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Start starts a program in the background. It gets TERM at the end of the test,
// and KILL when it does not end by that; its output is shown if the test fails.
func Start(t testing.TB, cmd *exec.Cmd) *Program {
	t.Helper()
	p := &Program{Cmd: cmd, Out: new(Output), Done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.Out, p.Out
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.Done)
		p.Err = cmd.Wait()
	}()
	t.Cleanup(func() {
		p.Signal(syscall.SIGTERM)
		select {
		case <-p.Done:
		case <-time.After(time.Minute):
			t.Errorf("%s did not end by TERM", cmd.Path)
			p.Signal(syscall.SIGKILL)
			<-p.Done
		}
		if t.Failed() {
			t.Logf("%s %v printed:\n%s", cmd.Path, cmd.Args[1:], Tail(p.Out.String(), 8000))
		}
	})
	return p
}

// Exited reports whether the program has exited.
func (p *Program) Exited() bool {
	select {
	case <-p.Done:
		return true
	default:
		return false
	}
}

// Listening waits until the program accepts connections at an address.
func (p *Program) Listening(t testing.TB, network, address string) {
	t.Helper()
	Await(t, address+" to accept connections", func() bool {
		if p.Exited() {
			t.Fatalf("%s has exited: %v\n%s", p.Path, p.Err, p.Out)
		}
		c, err := net.Dial(network, address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// Signal sends a signal to a program that has not exited.
func (p *Program) Signal(s syscall.Signal) {
	if !p.Exited() {
		p.Process.Signal(s)
	}
}

// Tail is the last n bytes of a text.
func Tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

package process_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/process"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
)

// What the tests of the runners have in common, by short names.
type (
	output      = runnertest.Output
	neverReader = runnertest.NeverReader
	failing     = runnertest.Failing
	life        = runnertest.Life
)

const patience = runnertest.Patience

var (
	params       = runnertest.Params
	newLife      = runnertest.NewLife
	killLater    = runnertest.KillLater
	tempDir      = runnertest.TempDir
	write        = runnertest.WriteFile
	mustDo       = runnertest.Must
	poll         = polltest.Until
	countEntries = runnertest.CountEntries
	hasChildren  = runnertest.HasChildren
	whole        = runnertest.Whole
	random       = runnertest.Random
	nginxParams  = runnertest.NginxParams
)

func TestMain(m *testing.M) { runnertest.Main(m, helpers) }

// Options of the programs under test.
type options = process.Options

// A program is a script with the Process that runs it.
type program struct {
	*process.Runner
	path string
}

// shell makes a shell script. It is given to /bin/sh: to exec a file that was
// just written fails while some child that is being forked still has it open.
func shell(t testing.TB, text string, change ...func(*options)) *program {
	t.Helper()
	script := write(t, filepath.Join(tempDir(t), "script.sh"), text, 0o644)
	opt := options{
		Roots: []string{filepath.Dir(script)}, Interpreters: map[string]string{".sh": "/bin/sh"},
		KillGrace: patience, Software: "fcgid/test",
	}
	for _, f := range change {
		f(&opt)
	}
	return &program{process.New(opt), script}
}

// helperProgram makes the test binary a CGI program. Under the race detector it
// would sleep for a second before it exits.
func helperProgram(t testing.TB, change ...func(*options)) *program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(self))
	if err != nil {
		t.Fatal(err)
	}
	opt := options{Roots: []string{dir}, KillGrace: patience, Env: []string{"GORACE=atexit_sleep_ms=0"}}
	for _, f := range change {
		f(&opt)
	}
	return &program{process.New(opt), filepath.Join(dir, filepath.Base(self))}
}

// A call is one request to a program.
type call struct {
	protocol.Request
	out, errs output
	cancel    context.CancelFunc
	done      chan struct{}
	status    uint32 // valid once done
	err       error  // valid once done
}

func (p *program) call(pairs ...string) *call {
	c := &call{done: make(chan struct{})}
	c.Params = params(append([]string{"SCRIPT_FILENAME", p.path}, pairs...)...)
	c.Stdout, c.Stderr = &c.out, &c.errs
	return c
}

// start runs the call in the background.
func (c *call) start(t testing.TB, p *program) *call {
	ctx, cancel := context.WithCancel(t.Context())
	c.cancel = cancel
	go func() {
		defer close(c.done)
		c.status, c.err = p.Run(ctx, &c.Request)
	}()
	t.Cleanup(func() { cancel(); <-c.done })
	return c
}

// wait waits for the end of a call that was started.
func (c *call) wait(t testing.TB) *call {
	t.Helper()
	select {
	case <-c.done:
	case <-time.After(patience):
		t.Fatal("Run does not return")
	}
	return c
}

// run is a call from its start to its end.
func (c *call) run(t testing.TB, p *program) *call {
	t.Helper()
	return c.start(t, p).wait(t)
}

// want compares how a call has ended.
func (c *call) want(t testing.TB, status uint32, stdout string) {
	t.Helper()
	if c.err != nil || c.status != status {
		t.Errorf("Run returned %d, %v; want %d", c.status, c.err, status)
	}
	if got := c.out.String(); got != stdout {
		t.Errorf("stdout is %.300q, want %.300q", got, stdout)
	}
}

// wantRefusal compares the answer to a call that did not start a program.
func (c *call) wantRefusal(t testing.TB, httpStatus int, appStatus uint32, text string) {
	t.Helper()
	var ref *protocol.Refusal
	if !errors.As(c.err, &ref) {
		t.Fatalf("Run returned %d, %v; want a refusal", c.status, c.err)
	}
	if ref.HTTPStatus != httpStatus || ref.AppStatus != appStatus || !strings.Contains(ref.Error(), text) {
		t.Errorf("refused with %d [%d], %q; want %d [%d], %q",
			ref.HTTPStatus, ref.AppStatus, ref.Error(), httpStatus, appStatus, text)
	}
}

// background is what a test gives to Run when nothing ends it.
var background = context.Background()

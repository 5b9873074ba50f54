package pool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/logs"
	"github.com/fcgid/fcgid/internal/logtest"
	"github.com/fcgid/fcgid/internal/metrics"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/spawn"
)

// The test binary is the workers' program too: it says who it is.
func TestMain(m *testing.M) {
	if name := os.Getenv("POOL_TEST_WORKER"); name != "" {
		l, err := net.FileListener(os.Stdin)
		if err != nil {
			panic(err)
		}
		s := fcgi.Server{Handler: fcgi.HandlerFunc(func(_ context.Context, req *fcgi.Request) (uint32, error) {
			if _, err := io.Copy(io.Discard, req.Stdin); err != nil {
				return 0, err
			}
			if file := req.Params.Get("WAIT"); file != "" {
				f, err := os.Open(file) // a runnertest.Gate
				if err != nil {
					return 0, err
				}
				f.Close()
			}
			_, err := fmt.Fprintf(req.Stdout, "Content-Type: text/plain\r\n\r\n%s", name)
			return 0, err
		})}
		panic(s.Serve(context.Background(), l))
	}
	os.Exit(m.Run())
}

// A testSet is a Set whose configuration is text. In it %D is its folder, and the
// names of its pools and functions are its own business.
type testSet struct {
	*Set
	t    testing.TB
	dir  string
	logs *logtest.Entries
}

func newTestSet(t testing.TB) *testSet {
	t.Helper()
	ignored := goleak.IgnoreCurrent()
	l, err := logs.New(logs.Options{Level: "debug", Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	s := &testSet{t: t, dir: t.TempDir()}
	l.Logger, s.logs = logtest.New()
	t.Setenv("RUNTIME_DIRECTORY", s.dir)
	registry := new(fcgi.Registry)
	for _, name := range []string{"one", "two"} {
		registry.HandleFunc(name, func(_ context.Context, req *fcgi.Request) (uint32, error) {
			_, err := fmt.Fprintf(req.Stdout, "Content-Type: text/plain\r\n\r\n%s", name)
			return 0, err
		})
	}
	s.Set = NewSet(Options{
		Functions: NewFunctions(registry), Logs: l, Metrics: metrics.New(Kinds()), Spawner: new(spawn.Local),
		Broken: func(err error) { t.Errorf("broken: %v", err) },
	})
	t.Cleanup(func() {
		s.Stop()
		goleak.VerifyNone(t, ignored, goleak.IgnoreAnyFunction("github.com/fcgid/fcgid/internal/spawn.launchAll")) // they never end
		if left, _ := filepath.Glob(filepath.Join(s.dir, "fcgid-workers-*")); len(left) > 0 {
			t.Errorf("%q are left", left)
		}
	})
	return s
}

// plan prepares a configuration.
func (s *testSet) plan(pools ...string) (*Plan, error) {
	s.t.Helper()
	text := "shutdown_timeout: 5s\npools:\n  - " + strings.Join(pools, "\n  - ") + "\n"
	file := filepath.Join(s.dir, "fcgid.yaml")
	if err := os.WriteFile(file, []byte(s.expand(text)), 0o600); err != nil {
		s.t.Fatal(err)
	}
	cfg, err := config.LoadAndCheck(file, nil, s.opt.Functions.Names())
	if err != nil {
		s.t.Fatal(err)
	}
	return s.Plan(s.t.Context(), cfg)
}

func (s *testSet) expand(text string) string { return strings.ReplaceAll(text, "%D", s.dir) }

// configure makes a configuration the one in force.
func (s *testSet) configure(pools ...string) {
	s.t.Helper()
	p, err := s.plan(pools...)
	if err != nil {
		s.t.Fatal(err)
	}
	p.Commit()
}

// refused tries a configuration that cannot be taken over.
func (s *testSet) refused(pools ...string) error {
	s.t.Helper()
	p, err := s.plan(pools...)
	if err == nil {
		p.Undo()
		s.t.Fatal("the configuration was not refused")
	}
	return err
}

// ask returns the body of the answer of a socket in the folder, or of tcp:host:port, or
// its status line.
func (s *testSet) ask(socket, script string, params ...string) string {
	s.t.Helper()
	body, err := s.tryAsk(socket, script, params...)
	if err != nil {
		return "error: " + err.Error()
	}
	return body
}

func (s *testSet) tryAsk(socket, script string, params ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	network, address := "unix", filepath.Join(s.dir, socket)
	if hostPort, ok := strings.CutPrefix(socket, "tcp:"); ok {
		network, address = "tcp", hostPort
	}
	c, err := fcgi.Dial(ctx, network+":"+address)
	if err != nil {
		return "", errors.Unwrap(err)
	}
	defer c.Close()
	var out strings.Builder
	req := &fcgi.Request{Close: true, Params: fcgi.Params{{Name: "SCRIPT_FILENAME", Value: s.expand(script)}, {Name: "REQUEST_METHOD", Value: "GET"}}, Stdout: &out}
	for i := 0; i < len(params); i += 2 {
		req.Params.Add(params[i], params[i+1])
	}
	if _, err := c.Do(ctx, req); err != nil {
		return "", err
	}
	header, body, _ := strings.Cut(out.String(), "\r\n\r\n")
	if status, ok := strings.CutPrefix(header, "Status: "); ok {
		status, _, _ = strings.Cut(status, "\r\n")
		return status, nil
	}
	return body, nil
}

// workerPool is the text of a pool of n workers that answer with their name.
func workerText(pool, socket, name string, more ...string) string {
	program, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("{name: %s, listen: unix:%%D/%s, env: [POOL_TEST_WORKER=%s], worker: {command: [%s], scale: static, max: 1, %s}}",
		pool, socket, name, program, strings.Join(more, ", "))
}

// script puts a CGI program into the folder.
func (s *testSet) script(name, text string) {
	s.t.Helper()
	runnertest.WriteFile(s.t, filepath.Join(s.dir, name), "#!/bin/sh\n"+text, 0o700)
}

// answers looks at a socket's answer.
func (s *testSet) answers(socket, script, want string) {
	s.t.Helper()
	if got := s.ask(socket, script); got != want {
		s.t.Errorf("%s answers %q, want %q", socket, got, want)
	}
}

package fcgi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// scripts makes a folder of shell scripts and a Program that runs them. They are given to
// /bin/sh: to execute a file that was just written fails while some child that is being
// forked still has it open.
func scripts(t *testing.T, texts map[string]string) (dir string, p *fcgi.Program) {
	t.Helper()
	dir = runnertest.TempDir(t)
	for name, text := range texts {
		runnertest.WriteFile(t, filepath.Join(dir, name), text, 0o644)
	}
	return dir, &fcgi.Program{Roots: []string{dir}, Interpreters: map[string]string{".sh": "sh"}}
}

// A program gets the request, and its answer and exit status go back.
func TestProgram(t *testing.T) {
	t.Setenv("FROM_US", "passed")
	dir, p := scripts(t, map[string]string{
		"hello.sh": `printf 'Content-Type: text/plain\r\n\r\n%s %s %s %s' "$QUERY_STRING" "$OURS" "$FROM_US" "$PATH_INFO"; cat; echo grumble >&2; exit 3`,
		"mute.sh":  "exit 4",
		"plain.md": "no program",
	})
	p.Env, p.PassEnv, p.Extensions = []string{"OURS=set"}, []string{"FROM_US"}, []string{".sh"}
	sockets(t, func(t *testing.T, l net.Listener) {
		v := serveOn(t, l, &fcgi.Server{Handler: p})
		w := v.dial()
		for _, body := range []string{"", "body", strings.Repeat("x", 1<<20)} {
			w.send(wiretest.Post(1, true, body, "SCRIPT_FILENAME", dir+"/hello.sh/info", "QUERY_STRING", "asked", "OURS", "theirs"))
			r := w.reply(1)
			if got, want := r.Stdout, plain+"asked set passed /info"+body; got != want || r.End != (protocol.End{AppStatus: 3}) || r.Stderr != "grumble\n" {
				t.Errorf("got %.100q, %+v, %q", got, r.End, r.Stderr)
			}
		}
		for name, want := range map[string][2]int{"none.sh": {404, 404}, "plain.md": {403, 403}, "mute.sh": {502, 4}, "../x.sh": {403, 403}} {
			w.send(wiretest.Get(1, true, "SCRIPT_FILENAME", dir+"/"+name))
			w.wantPage(1, want[0], uint32(want[1]))
		}
	})
}

// A time limit ends the whole tree, at once for the client; Serve waits for it, also where
// that takes longer than it waits for functions.
func TestProgramTimeout(t *testing.T) {
	life := runnertest.NewLife(t)
	dir, p := scripts(t, map[string]string{"hang.sh": `trap '' TERM
exec 9>"$LIFE"
setsid sh -c 'trap "" TERM; while :; do sleep 1; done' &
while :; do sleep 1; done`})
	p.Timeout, p.KillGrace = 100*time.Millisecond, 300*time.Millisecond
	v := serveOn(t, listen(t, "unix"), &fcgi.Server{Handler: p, MaxReqs: 1})
	w := v.dial()
	w.send(wiretest.Get(1, true, "SCRIPT_FILENAME", dir+"/hang.sh", "LIFE", life.Path))
	w.wantPage(1, 408, 408)
	life.AwaitEnd(t)
	if lines := v.log.lines("does not return"); len(lines) > 0 {
		t.Errorf("taken for a function that hangs: %q", lines)
	}
}

// A program is run as an exec.Cmd is.
func TestProgramWithoutServer(t *testing.T) {
	dir, p := scripts(t, map[string]string{
		"cat.sh":   `printf 'A: b\n\n'; cat`,
		"sleep.sh": `sleep 1000`,
	})
	var out bytes.Buffer
	status, err := p.ServeFCGI(t.Context(), &fcgi.Request{
		Params: fcgi.Params{{Name: "SCRIPT_FILENAME", Value: dir + "/cat.sh"}}, Stdin: strings.NewReader("body"), Stdout: &out})
	if status != 0 || err != nil || out.String() != "A: b\n\nbody" {
		t.Errorf("got %q, %d, %v", out.String(), status, err)
	}
	var refused *fcgi.StatusError
	if _, err := p.ServeFCGI(t.Context(), &fcgi.Request{}); !errors.As(err, &refused) {
		t.Errorf("no script: %v", err)
	}
	p.Timeout = 0
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = p.ServeFCGI(ctx, &fcgi.Request{Params: fcgi.Params{{Name: "SCRIPT_FILENAME", Value: dir + "/sleep.sh"}}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("timeout: %v", err)
	}
	short := fcgi.TimeoutHandler(p, 50*time.Millisecond)
	_, err = short.ServeFCGI(t.Context(), &fcgi.Request{Params: fcgi.Params{{Name: "SCRIPT_FILENAME", Value: dir + "/sleep.sh"}}})
	if !errors.Is(err, fcgi.ErrTimeout) {
		t.Errorf("TimeoutHandler: %v", err)
	}
}

// What a handler puts in place of the request's streams is what the program gets.
func TestProgramInAHandler(t *testing.T) {
	dir, p := scripts(t, map[string]string{"cat.sh": `printf 'A: b\n\n%s' "$WHO"; cat; echo oops >&2`})
	var errs bytes.Buffer
	v := serveOn(t, listen(t, "unix"), &fcgi.Server{Handler: fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
		req.Params.Set("SCRIPT_FILENAME", dir+"/cat.sh")
		req.Params.Set("WHO", "us ")
		req.Stdin, req.Stderr = io.MultiReader(strings.NewReader("("), req.Stdin, strings.NewReader(")")), &errs
		io.WriteString(req.Stdout, "First: x\n")
		return p.ServeFCGI(ctx, req)
	})})
	w := v.dial()
	w.send(wiretest.Post(1, true, "body", "SCRIPT_FILENAME", "/etc/passwd"))
	w.want(1, "First: x\r\nA: b\r\n\r\nus (body)", 0)
	if errs.String() != "oops\n" {
		t.Errorf("STDERR is %q", errs.String())
	}
}

// What is wrong with a Program says what to set.
func TestProgramNonsense(t *testing.T) {
	for want, p := range map[string]*fcgi.Program{
		"Roots nor Scripts":    {},
		`root is ""`:           {Roots: []string{""}},
		"no absolute path":     {Scripts: []string{"a.cgi"}},
		"begin with a dot":     {Roots: []string{"/"}, Extensions: []string{"cgi"}},
		"interpreter of .zz":   {Roots: []string{"/"}, Interpreters: map[string]string{".zz": "no-such-program"}},
		"which is not NAME=va": {Roots: []string{"/"}, Env: []string{"x"}},
	} {
		if _, err := p.ServeFCGI(t.Context(), &fcgi.Request{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// Serve does not give up a program as it does a function.
func TestServeWaitsForPrograms(t *testing.T) {
	t.Parallel()
	life := runnertest.NewLife(t)
	dir, p := scripts(t, map[string]string{"hang.sh": `trap '' TERM; exec 9>"$LIFE"; printf 'A: b\n\n'; while :; do sleep 1; done`})
	p.KillGrace = 6 * time.Second // longer than Serve waits for functions
	v := serveOn(t, listen(t, "unix"), &fcgi.Server{Handler: p, ShutdownTimeout: -1})
	w := v.dial()
	w.send(wiretest.Get(1, true, "SCRIPT_FILENAME", dir+"/hang.sh", "LIFE", life.Path))
	if rec := w.next(); rec.Type != protocol.TypeStdout {
		t.Fatalf("got %v", rec)
	}
	v.stop()
	if err := <-v.end; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if life.IsHeld(t) {
		t.Error("the program outlives Serve")
	}
}

// The file of a socket gets its mode whatever the umask, a dead one is replaced, and one
// that is alive is not.
func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	for _, mode := range []os.FileMode{0o666, 0o600} {
		l, err := fcgi.Listen("unix:"+path, mode)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("mode is %v, %v; want %v", info.Mode(), err, mode)
		}
		if _, err := fcgi.Listen("unix:"+path, mode); err == nil || !strings.Contains(err.Error(), "another process answers on it") {
			t.Errorf("listen twice: %v", err)
		}
		v := serveOn(t, l, &fcgi.Server{Handler: fcgi.HandlerFunc(hello)})
		v.stop()
		if err := <-v.end; err != nil {
			t.Error(err)
		}
	}
	l, err := fcgi.Listen("tcp:127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	for _, address := range []string{path, "", "unix:relative", "tcp:9000", "systemd:none", "unix:/nowhere/at/all"} {
		if _, err := fcgi.Listen(address, 0o600); err == nil {
			t.Errorf("%q: no error", address)
		}
	}
}

package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/spawn"
)

// lastWords is how long the STDERR of a program that has exited is still taken: what
// it has left in the background may have it open.
const lastWords = 100 * time.Millisecond

// A spawned is a FastCGI program that runs, with the socket that it
// accepts connections on as its descriptor 0.
type spawned struct {
	*spawn.Process
	path   string // of the socket; "": it is the pool's
	stderr *programStderr
	grace  time.Duration
	pump   sync.WaitGroup // a goroutine that takes STDERR
}

// launchProgram starts the program and returns when it has been executed.
func (p *Pool) launchProgram(program *program, id int) (process, error) {
	p.mu.Lock()
	grace, log, admit, box, launcher := p.opt.StopGrace, p.opt.Log, p.opt.Admit, p.opt.Sandbox, program.launcher
	timeout := p.opt.StartTimeout
	p.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(context.Background(), timeout, fmt.Errorf("start a worker: not executed within %v (worker.start_timeout)", timeout))
	defer cancel()
	path, socket, err := p.socketFor(id)
	if err != nil {
		return nil, fmt.Errorf("start a worker: %w", err)
	}
	defer unix.Close(socket)
	w := &spawned{path: path, grace: grace}
	if w.Process, err = launcher.Launch(ctx, socket); err != nil {
		w.removeSocket()
		return nil, err
	}
	w.stderr = &programStderr{log: log, admit: admit, box: box, pid: w.PID}
	w.pump.Go(func() {
		defer w.Stderr.Close()
		w.Stderr.Copy(w.stderr)
		w.stderr.flush()
	})
	return w, nil
}

// socketFor is what a worker accepts connections on: one of its own, or the pool's.
func (p *Pool) socketFor(id int) (path string, fd int, err error) {
	p.mu.Lock()
	isDirect, shared := p.opt.Direct, p.opt.Socket
	p.mu.Unlock()
	if isDirect {
		fd, err = shared()
		return "", fd, err
	}
	return p.listen(strconv.Itoa(id))
}

// removeSocket removes the file of a socket that is the worker's own.
func (w *spawned) removeSocket() {
	if w.path != "" {
		os.Remove(w.path)
	}
}

// listen makes a listening socket of that name in the folder of sockets.
func (p *Pool) listen(name string) (path string, fd int, err error) {
	p.mu.Lock()
	folder := p.folder
	p.unlock()
	path = filepath.Join(folder.path, name)
	fd, err = listenUnix(path)
	if !errors.Is(err, unix.ENOENT) {
		return path, fd, err
	}
	if folder, err = p.renewFolder(folder); err != nil {
		return "", -1, err
	}
	path = filepath.Join(folder.path, name)
	fd, err = listenUnix(path)
	return path, fd, err
}

// renewFolder makes another folder of sockets in place of one that has vanished,
// of another name, since anybody may have taken the old one meanwhile.
func (p *Pool) renewFolder(old *folder) (*folder, error) {
	if p.runDir != "" {
		if err := os.MkdirAll(p.runDir, 0o700); err != nil {
			return nil, fmt.Errorf("make a folder for workers' sockets: %w", err)
		}
	}
	folder, err := makeFolder(p.runDir)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.unlock()
	if p.folder != old { // somebody else was faster
		p.laterLocked(func() { folder.remove() })
		return p.folder, nil
	}
	p.logLocked(slog.LevelWarn, "the folder of workers' sockets has vanished", "folder", old.path, "new", folder.path)
	p.laterLocked(func() { old.lock.Close() })
	p.folder = folder
	return folder, nil
}

// listenUnix makes a listening socket, which blocks as programs expect, with the
// longest queue that the kernel permits.
func listenUnix(path string) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err == nil {
		if err = unix.Listen(fd, unix.SOMAXCONN); err == nil {
			return fd, nil
		}
		os.Remove(path)
	}
	unix.Close(fd)
	return -1, fmt.Errorf("listen on %s: %w", path, err)
}

func (w *spawned) pid() int { return w.PID }

func (w *spawned) askWith(s syscall.Signal) { w.AskWith(s) }

func (w *spawned) leave(grace time.Duration) { w.Leave(grace) }

func (w *spawned) end(grace time.Duration) { w.Terminate(grace) }

// connect makes a connection, which the program need not have accepted.
func (w *spawned) connect(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", w.path)
}

// wait waits for the program's exit and ends what else has its socket.
func (w *spawned) wait() *exit {
	if w.AwaitExit() && !w.IsTerminated() {
		w.EndServing(w.grace)
	}
	w.Stderr.Expire(lastWords)
	w.pump.Wait()
	e, err := w.Wait()
	w.removeSocket()
	return &exit{Exit: *e, err: err, lastLine: w.stderr.last()}
}

// programStderr takes what the program writes to STDERR and STDOUT to the log, and
// keeps its last line.
type programStderr struct {
	log    *slog.Logger
	admit  func(bytes int) bool
	box    *spawn.Sandbox
	pid    int
	cutter cgi.Entries // the pump's

	mu   sync.Mutex // guards the field below
	line string
}

// Write takes a part of STDERR.
func (s *programStderr) Write(p []byte) (int, error) {
	s.cutter.Add(p, s.emit)
	return len(p), nil
}

func (s *programStderr) flush() { s.cutter.Flush(s.emit) }

func (s *programStderr) emit(line string) {
	if s.admit == nil || s.admit(len(line)) {
		fields := []any{"line", line, "pid", s.pid}
		if hint := s.box.Hint(line); hint != "" {
			fields = append(fields, "hint", hint)
		}
		s.log.Info("worker stderr", fields...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line = line[strings.LastIndexByte(line, '\n')+1:]
}

// last is its last line, with why that may be.
func (s *programStderr) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if hint := s.box.Hint(s.line); hint != "" {
		return s.line + " (" + hint + ")"
	}
	return s.line
}

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// cgiLoopArgument makes the benchmark's own binary the limit of a CGI server in Go.
const cgiLoopArgument = "limit-cgi-loop"

var startCGILoop = peer("cgi-loop", func(r *rig, socket string) ([]string, error) {
	return []string{cgiLoopArgument, socket, strconv.Itoa(r.concurrent())}, nil
}, "/proc/self/exe")

// serveCGILoop is that limit: threads that do nothing for a request but what there is to do.
// Each accepts a connection, reads the request, has its params for the program's environment,
// starts it with a pipe for its output, passes that on as records, waits for the program and
// sends the end with the rest. Nothing is checked, limited, logged or counted, and nobody sees
// a client that leaves. No thread waits for another one: each call blocks, and Go's scheduler
// has a processor for each thread. It returns only with an error.
func serveCGILoop(socket, threads string) error {
	n, err := strconv.Atoi(threads)
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(n + 1)
	listener, err := listenUnix(socket)
	if err != nil {
		return err
	}
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	failed := make(chan error)
	for range n {
		go func() {
			l := cgiLoop{listener: listener, null: null, buffer: make([]byte, 64<<10)}
			for {
				if err := l.one(); err != nil {
					failed <- err
				}
			}
		}()
	}
	for err := range failed {
		fmt.Fprintln(os.Stderr, err)
	}
	return nil
}

func listenUnix(socket string) (int, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrUnix{Name: socket})
	}
	if err == nil {
		err = syscall.Listen(fd, 512)
	}
	return fd, err
}

// A cgiLoop is what one thread has.
type cgiLoop struct {
	listener, null int
	buffer         []byte
}

// one answers one request.
func (l *cgiLoop) one() error {
	conn, _, err := syscall.Accept4(l.listener, syscall.SOCK_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("accept", err)
	}
	defer syscall.Close(conn)
	script, env, err := l.receive(conn)
	if errors.Is(err, io.EOF) {
		return nil // who asked whether there is a server
	}
	if err != nil {
		return err
	}
	var pipe [2]int
	if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC); err != nil {
		return os.NewSyscallError("pipe", err)
	}
	defer syscall.Close(pipe[0])
	pid, err := syscall.ForkExec(script, []string{script}, &syscall.ProcAttr{
		Env: env, Files: []uintptr{uintptr(l.null), uintptr(pipe[1]), uintptr(l.null)},
	})
	syscall.Close(pipe[1])
	if err != nil {
		return fmt.Errorf("start %s: %w", script, err)
	}
	rest, err := l.passOn(pipe[0], conn)
	var status syscall.WaitStatus
	if _, waitErr := syscall.Wait4(pid, &status, 0, nil); waitErr != nil || err != nil {
		return errors.Join(err, waitErr)
	}
	rest = appendRecord(rest, typeStdout, 1, nil)
	rest = appendRecord(rest, typeEnd, 1, []byte{0, 0, 0, byte(status.ExitStatus()), 0, 0, 0, 0})
	_, err = syscall.Write(conn, rest)
	return err
}

// receive reads a request to the end of its STDIN, of which there is none.
func (l *cgiLoop) receive(conn int) (script string, env []string, err error) {
	have := 0
	for {
		n, err := syscall.Read(conn, l.buffer[have:])
		if err != nil {
			return "", nil, os.NewSyscallError("read", err)
		}
		if n == 0 {
			return "", nil, io.EOF
		}
		have += n
		if p := l.buffer[:have]; have >= 8 && p[have-7] == typeStdin && p[have-4]|p[have-3] == 0 {
			break
		}
	}
	for p := l.buffer[:have]; len(p) >= 8; {
		content, padding := int(binary.BigEndian.Uint16(p[4:])), int(p[6])
		if p[1] == typeParams {
			env = appendEnv(env, p[8:8+content])
		}
		p = p[8+content+padding:]
	}
	for _, v := range env {
		if name, value, _ := strings.Cut(v, "="); name == "SCRIPT_FILENAME" {
			script = value
		}
	}
	return script, env, nil
}

// appendEnv appends the pairs of a PARAMS record as variables.
func appendEnv(env []string, p []byte) []string {
	length := func() int {
		n := int(p[0])
		if n < 128 {
			p = p[1:]
			return n
		}
		n = int(binary.BigEndian.Uint32(p) &^ (1 << 31))
		p = p[4:]
		return n
	}
	for len(p) > 0 {
		name, value := length(), 0
		value = length()
		env = append(env, string(p[:name])+"="+string(p[name:name+value]))
		p = p[name+value:]
	}
	return env
}

// passOn passes a program's output on as records, but for the last one, which it returns. It
// stands in the buffer, with room for more behind it.
func (l *cgiLoop) passOn(pipe, conn int) (last []byte, err error) {
	const most, room = 32 << 10, 64
	for have := 0; ; {
		n, err := syscall.Read(pipe, l.buffer[8+have:8+most])
		if err != nil {
			return nil, os.NewSyscallError("read", err)
		}
		have += n
		if n > 0 && have < most {
			continue // more, or the end
		}
		copy(l.buffer, []byte{1, typeStdout, 0, 1, byte(have >> 8), byte(have), 0, 0})
		if n == 0 && have > 0 {
			return l.buffer[: 8+have : 8+have+room], nil
		}
		if n == 0 {
			return l.buffer[:0:room], nil
		}
		if _, err := syscall.Write(conn, l.buffer[:8+have]); err != nil {
			return nil, os.NewSyscallError("write", err)
		}
		have = 0
	}
}

package runner_test

import (
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner"
	"github.com/fcgid/fcgid/internal/spawn"
)

const helloC = `
#include <unistd.h>
int main(void) {
	static const char text[] = "Content-Type: text/plain\r\n\r\nhello\n";
	return write(1, text, sizeof text - 1) < 0;
}
`

// hello is a program that costs little more than its start.
func hello(b *testing.B) string {
	dir := tempDir(b)
	source, binary := write(b, filepath.Join(dir, "hello.c"), helloC, 0o644), filepath.Join(dir, "hello")
	if out, err := exec.Command("gcc", "-O2", "-static", "-o", binary, source).CombinedOutput(); err != nil {
		b.Skipf("gcc: %v %s", err, out)
	}
	return binary
}

// nginxParams are what nginx sends with its fastcgi_params, and a browser's header.
func nginxParams(script string) protocol.Params {
	return params("SCRIPT_FILENAME", script, "QUERY_STRING", "", "REQUEST_METHOD", "GET", "CONTENT_TYPE", "", "CONTENT_LENGTH", "",
		"SCRIPT_NAME", "/hello", "REQUEST_URI", "/hello", "DOCUMENT_URI", "/hello", "DOCUMENT_ROOT", filepath.Dir(script),
		"SERVER_PROTOCOL", "HTTP/1.1", "REQUEST_SCHEME", "http", "GATEWAY_INTERFACE", "CGI/1.1", "SERVER_SOFTWARE", "nginx/1.22.1",
		"REMOTE_ADDR", "127.0.0.1", "REMOTE_PORT", "40000", "SERVER_ADDR", "127.0.0.1", "SERVER_PORT", "80", "SERVER_NAME", "localhost",
		"REDIRECT_STATUS", "200", "HTTP_HOST", "localhost", "HTTP_USER_AGENT", "benchmark", "HTTP_ACCEPT", "*/*",
		"HTTP_ACCEPT_ENCODING", "gzip, deflate", "HTTP_ACCEPT_LANGUAGE", "en", "HTTP_COOKIE", "session=0123456789abcdef")
}

// A counting counts bytes; like the server's, it reads into a buffer that it has.
type counting struct {
	n   int64
	buf []byte
}

func (c *counting) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

func (c *counting) ReadFrom(r io.Reader) (int64, error) {
	for {
		n, err := r.Read(c.buf)
		c.n += int64(n)
		if err != nil {
			return c.n, noEOF(err)
		}
	}
}

func noEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

func runHello(b *testing.B, p *runner.Process, script, body string) {
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	out := counting{buf: buf[:]}
	req := protocol.Request{Params: nginxParams(script), Stdout: &out, Stderr: &out}
	if body != "" {
		req.Stdin = strings.NewReader(body)
	}
	if status, err := p.Run(background, &req); status != 0 || err != nil || out.n == 0 {
		b.Errorf("Run returned %d, %v; %d bytes", status, err, out.n)
	}
}

func BenchmarkHello(b *testing.B) {
	script := hello(b)
	p := runner.NewProcess(options{Roots: []string{filepath.Dir(script)}, Spawner: new(spawn.Local), PassEnv: []string{"PATH"}})
	b.Run("get", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			runHello(b, p, script, "")
		}
	})
	b.Run("post", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			runHello(b, p, script, "a=b")
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				runHello(b, p, script, "")
			}
		})
	})
}

// helloGet and helloPost are params as they come from nginx.
var helloGet, helloPost = receivedParams("GET"), receivedParams("POST")

func receivedParams(method string) protocol.Params {
	pairs := nginxParams("/srv/hello.php")
	pairs.Set("REQUEST_METHOD", method)
	received, err := protocol.ParseParams(string(pairs.Append(nil)))
	if err != nil {
		panic(err)
	}
	return received
}

// askHello asks for a page as nginx does, of a pool that answers as soon as it can.
func askHello(tb testing.TB, p *pool, stdin io.Reader) {
	out := counting{}
	req := protocol.Request{Role: protocol.RoleResponder, Params: helloGet, Stdin: stdin, Stdout: &out}
	if stdin != nil {
		req.Params = helloPost
	}
	if status, err := p.Run(background, &req); status != 0 || err != nil || out.n == 0 {
		tb.Errorf("Run returned %d, %v; %d bytes", status, err, out.n)
	}
}

// The steady state of a worker's request stays as lean as it is.
func TestAllocationsOfAWorker(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates too")
	}
	p := workers(t, func(o *runner.WorkerOptions) { o.Max = 1 })
	askHello(t, p, nil)
	for body, most := range map[string]float64{"": 6, "a=b": 13} {
		got := testing.AllocsPerRun(100, func() {
			if body == "" {
				askHello(t, p, nil)
			} else {
				askHello(t, p, whole(body))
			}
		})
		if got > most {
			t.Errorf("body %q: %v allocations, want %v at most", body, got, most)
		}
	}
}

// BenchmarkWorkers asks persistent workers, which answer as soon as they can.
func BenchmarkWorkers(b *testing.B) {
	some := func(o *runner.WorkerOptions) { o.Max = 4 }
	b.Run("get", func(b *testing.B) {
		p := workers(b, some)
		b.ReportAllocs()
		for b.Loop() {
			askHello(b, p, nil)
		}
	})
	b.Run("post", func(b *testing.B) {
		p := workers(b, some)
		b.ReportAllocs()
		for b.Loop() {
			askHello(b, p, whole("a=b"))
		}
	})
	b.Run("upload", func(b *testing.B) {
		p := workers(b, some)
		text := strings.Repeat("x", 1<<20)
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			askHello(b, p, strings.NewReader(text))
		}
	})
	b.Run("parallel", func(b *testing.B) {
		p := workers(b, some)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				askHello(b, p, nil)
			}
		})
	})
	b.Run("200 workers", func(b *testing.B) {
		p := workers(b, func(o *runner.WorkerOptions) { o.Max = 200 })
		p.await("all idle", func(s runner.WorkersSnapshot) bool { return s.Idle == 200 })
		b.ReportAllocs()
		for b.Loop() {
			askHello(b, p, nil)
		}
	})
}

// BenchmarkBare does the least that there is to do for the same program, in a
// thread that waits.
func BenchmarkBare(b *testing.B) {
	script := hello(b)
	params := nginxParams(script)
	var env []string
	for name, value := range params.All() {
		env = append(env, name+"="+value)
	}
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(null)
	b.ReportAllocs()
	buf := make([]byte, 32<<10)
	for b.Loop() {
		var fds [2]int
		unix.Pipe2(fds[:], unix.O_CLOEXEC)
		pid, err := syscall.ForkExec(script, []string{script}, &syscall.ProcAttr{
			Env: env, Files: []uintptr{uintptr(null), uintptr(fds[1]), uintptr(null)},
		})
		if err != nil {
			b.Fatal(err)
		}
		unix.Close(fds[1])
		for {
			if n, _ := unix.Read(fds[0], buf); n <= 0 {
				break
			}
		}
		unix.Close(fds[0])
		unix.Wait4(pid, nil, 0, nil)
	}
}

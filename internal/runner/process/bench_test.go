package process_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/process"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
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
	binary := filepath.Join(tempDir(b), "hello")
	runnertest.Compile(b, binary, helloC)
	return binary
}

var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

func runHello(b *testing.B, p *process.Runner, script, body string) {
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	out := runnertest.Counting{Buf: buf[:]}
	req := protocol.Request{Params: nginxParams(script), Stdout: &out, Stderr: &out}
	if body != "" {
		req.Stdin = strings.NewReader(body)
	}
	if status, err := p.Run(background, &req); status != 0 || err != nil || out.N == 0 {
		b.Errorf("Run returned %d, %v; %d bytes", status, err, out.N)
	}
}

func BenchmarkHello(b *testing.B) {
	script := hello(b)
	p := process.New(options{Roots: []string{filepath.Dir(script)}, Spawner: new(spawn.Local), PassEnv: []string{"PATH"}})
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

// BenchmarkHelloAs is BenchmarkHello of programs that run as somebody else.
func BenchmarkHelloAs(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("only root can start programs as somebody else")
	}
	script := hello(b)
	for dir := filepath.Dir(script); dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755)
	}
	if err := os.Chown(script, daemonUser, daemonUser); err != nil {
		b.Fatal(err)
	}
	ours := options{Roots: []string{filepath.Dir(script)}, PassEnv: []string{"PATH"}}
	user, owner := ours, ours
	user.Identity, owner.Owner = &spawn.Identity{UID: daemonUser, GID: daemonUser}, &process.Owner{MinID: 1}
	for _, as := range []struct {
		name string
		opt  options
	}{{"us", ours}, {"user", user}, {"owner", owner}} {
		p := process.New(as.opt)
		b.Run(as.name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					runHello(b, p, script, "")
				}
			})
		})
	}
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

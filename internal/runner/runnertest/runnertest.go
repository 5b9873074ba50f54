// Package runnertest is what tests of the runners have in common, and other tests that start
// programs or look at files.
package runnertest

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/protocol"
)

// Patience is how long a test waits for what must happen.
const Patience = 20 * time.Second

// Params are pairs of names and values.
func Params(pairs ...string) (p protocol.Params) {
	for i := 0; i < len(pairs); i += 2 {
		p.Add(pairs[i], pairs[i+1])
	}
	return p
}

// An Output collects what is written and tells who waits for it.
type Output struct {
	mu      sync.Mutex // guards the fields below
	buf     bytes.Buffer
	changed chan struct{}
	writes  int
}

// Write adds to it.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writes++
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
	return o.buf.Write(p)
}

// String is all that was written.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Writes is how many writes there were.
func (o *Output) Writes() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.writes
}

// Await waits until text was written, and returns all that was.
func (o *Output) Await(t testing.TB, text string) string {
	t.Helper()
	timeout := time.After(Patience)
	for {
		o.mu.Lock()
		all := o.buf.String()
		if o.changed == nil {
			o.changed = make(chan struct{})
		}
		changed := o.changed
		o.mu.Unlock()
		if strings.Contains(all, text) {
			return all
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("Output is %.300q, want %q in it", all, text)
		}
	}
}

// A Life is a fifo that programs hold open for writing.
type Life struct {
	Path string
	file *os.File
}

// NewLife makes one.
func NewLife(t testing.TB) *Life {
	t.Helper()
	path := filepath.Join(TempDir(t), "life")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &Life{path, f}
}

// IsHeld reports whether somebody has it open.
func (l *Life) IsHeld(t testing.TB) bool {
	t.Helper()
	rc, err := l.file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	rc.Control(func(fd uintptr) { n, err = unix.Read(int(fd), make([]byte, 1)) })
	return n != 0 || err == unix.EAGAIN
}

// AwaitEnd waits until nobody has it open any more.
func (l *Life) AwaitEnd(t testing.TB) {
	t.Helper()
	l.file.SetReadDeadline(time.Now().Add(Patience))
	if _, err := io.Copy(io.Discard, l.file); err != nil {
		t.Fatalf("a program lives on: %v", err)
	}
}

// A Gate is a fifo at which programs wait that open it for reading.
type Gate struct {
	Path string
	test testing.TB
}

// NewGate makes one that is closed.
func NewGate(t testing.TB) *Gate {
	t.Helper()
	g := &Gate{filepath.Join(TempDir(t), "gate"), t}
	Must(t, unix.Mkfifo(g.Path, 0o600))
	return g
}

// Open lets pass who waits, and who comes until the test ends.
func (g *Gate) Open() {
	g.test.Helper()
	f, err := os.OpenFile(g.Path, os.O_RDWR, 0)
	Must(g.test, err)
	g.test.Cleanup(func() { f.Close() })
}

// Pass lets pass one, and waits for it.
func (g *Gate) Pass() {
	g.test.Helper()
	f, err := os.OpenFile(g.Path, os.O_WRONLY, 0)
	Must(g.test, err)
	Must(g.test, f.Close())
}

// KillLater ends what a test leaves behind on purpose.
func KillLater(t testing.TB, pid string) {
	var n int
	if _, err := fmt.Sscan(pid, &n); err != nil || n < 2 {
		t.Fatalf("%q is no pid", pid)
	}
	t.Cleanup(func() { syscall.Kill(n, syscall.SIGKILL) })
}

// TempDir is t.TempDir without symbolic links.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// WriteFile makes a file, with its folder, and returns its name. No process is forked meanwhile, since
// that would hold the file open for writing until it executes something, and what is open for writing
// cannot be executed (ETXTBSY).
func WriteFile(t testing.TB, path, content string, mode os.FileMode) string {
	t.Helper()
	Must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	syscall.ForkLock.RLock()
	err := os.WriteFile(path, []byte(content), mode)
	syscall.ForkLock.RUnlock()
	Must(t, err)
	Must(t, os.Chmod(path, mode))
	return path
}

// Compile makes a small static program of C. Where there is no compiler, the test is skipped.
func Compile(t testing.TB, program, source string) {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip(err)
	}
	text := WriteFile(t, filepath.Join(t.TempDir(), "program.c"), source, 0o644)
	if out, err := exec.Command(gcc, "-O2", "-static", "-o", program, text).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v: %s", err, out)
	}
}

// Main runs the tests and sees to it that no goroutine is left. With HELPER in the
// environment the test binary is that helper program instead.
func Main(m *testing.M, helpers map[string]func() int) {
	if helper := helpers[os.Getenv("HELPER")]; helper != nil {
		os.Exit(helper())
	}
	// What the tests were started with is not theirs; the daemon does the same.
	unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGINT)
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/fcgid/fcgid/internal/spawn.launchAll"))
}

// Must ends the test on an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// NoFile is what DescribeFile says of a file that is not there.
const NoFile = "no such file or directory"

// DescribeFile is a file's mode, owner and group, or why there is none.
func DescribeFile(path string) string {
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%o %d:%d", stat.Mode, stat.Uid, stat.Gid)
}

// WantFile fails the test where a file is another than described.
func WantFile(t testing.TB, path, want string) {
	t.Helper()
	if got := DescribeFile(path); got != want {
		t.Errorf("%s is %s, want %s", path, got, want)
	}
}

// CountEntries is how much there is in a folder.
func CountEntries(t testing.TB, folder string) int {
	t.Helper()
	entries, err := os.ReadDir(folder)
	Must(t, err)
	return len(entries)
}

// HasChildren reports whether there is a child, running or a zombie.
func HasChildren() bool {
	var info unix.Siginfo
	return unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil) != unix.ECHILD
}

// A WholeBody is a Stdin that is at hand as a whole.
type WholeBody struct{ *bytes.Reader }

// Whole is all of it.
func (b WholeBody) Whole() ([]byte, bool) {
	text := make([]byte, b.Len())
	b.ReadAt(text, 0)
	return text, int64(b.Len()) == b.Size()
}

// Whole is a Stdin that is at hand.
func Whole(text string) WholeBody { return WholeBody{bytes.NewReader([]byte(text))} }

// NginxParams are what nginx sends with its fastcgi_params, and a browser's header.
func NginxParams(script string) protocol.Params {
	return Params("SCRIPT_FILENAME", script, "QUERY_STRING", "", "REQUEST_METHOD", "GET", "CONTENT_TYPE", "", "CONTENT_LENGTH", "",
		"SCRIPT_NAME", "/hello", "REQUEST_URI", "/hello", "DOCUMENT_URI", "/hello", "DOCUMENT_ROOT", filepath.Dir(script),
		"SERVER_PROTOCOL", "HTTP/1.1", "REQUEST_SCHEME", "http", "GATEWAY_INTERFACE", "CGI/1.1", "SERVER_SOFTWARE", "nginx/1.22.1",
		"REMOTE_ADDR", "127.0.0.1", "REMOTE_PORT", "40000", "SERVER_ADDR", "127.0.0.1", "SERVER_PORT", "80", "SERVER_NAME", "localhost",
		"REDIRECT_STATUS", "200", "HTTP_HOST", "localhost", "HTTP_USER_AGENT", "benchmark", "HTTP_ACCEPT", "*/*",
		"HTTP_ACCEPT_ENCODING", "gzip, deflate", "HTTP_ACCEPT_LANGUAGE", "en", "HTTP_COOKIE", "session=0123456789abcdef")
}

// A Counting counts bytes; like the server's, it reads into a buffer that it has.
type Counting struct {
	N   int64
	Buf []byte
}

// Write counts.
func (c *Counting) Write(p []byte) (int, error) {
	c.N += int64(len(p))
	return len(p), nil
}

// ReadFrom counts what it reads.
func (c *Counting) ReadFrom(r io.Reader) (int64, error) {
	for {
		n, err := r.Read(c.Buf)
		c.N += int64(n)
		if err != nil {
			return c.N, noEOF(err)
		}
	}
}

func noEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// A NeverReader has nothing to read until it is closed.
type NeverReader struct{ Closed chan struct{} }

// Read waits.
func (n NeverReader) Read([]byte) (int, error) {
	<-n.Closed
	return 0, fmt.Errorf("closed")
}

// Close ends that.
func (n NeverReader) Close() error {
	close(n.Closed)
	return nil
}

// A Failing is a Stdout that takes nothing.
type Failing struct{ Err error }

// Write fails.
func (f Failing) Write([]byte) (int, error) { return 0, f.Err }

// Random is so much text.
func Random(n int64) io.Reader { return io.LimitReader(rand.New(rand.NewSource(n)), n) }

// Leased makes a script that says "released", and that nobody can open, and so execute, as long as
// release is not called, or three quarters of a minute. Who owns a file can do that to it.
func Leased(t testing.TB, name string) (release func()) {
	t.Helper()
	signal.Ignore(unix.SIGIO) // which tells who has the lease that somebody waits
	WriteFile(t, name, "#!/bin/sh\necho released\n", 0o755)
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	Must(t, err)
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skip("there are no leases here: ", err)
	}
	release = sync.OnceFunc(func() { unix.Close(fd) })
	t.Cleanup(release)
	return release
}

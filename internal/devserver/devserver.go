// Package devserver tries programs without a web server: an HTTP server that does what
// nginx would do before a FastCGI application, with static files, and explains what went
// wrong. It has samples that it serves when there is nothing else. What runs the programs
// is somebody else.
package devserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/server"
)

// Options are what is tried, and how.
type Options struct {
	Dir          string // the folder that is served; "" is samples
	HTTP         string // the address, host:port
	Interpreters []string
	Worker       string // the command of a FastCGI program; "" is none
	Router       string // the script that answers for what is no file
	Timeout      time.Duration
	Functions    []string  // those of this program
	Out          io.Writer // for a person
}

// A Server is the folder that is served, a private folder with what that takes,
// and the HTTP server.
type Server struct {
	opt      Options
	site     *site
	front    *front
	sample   string // the path of a program that is sure to be there; "" if none is
	private  string
	listener net.Listener // nil before Listen
}

// New returns a Server. It serves nothing yet. The caller closes it.
func New(o Options) (*Server, error) {
	private, err := os.MkdirTemp("", "fcgid-dev-")
	if err != nil {
		return nil, err
	}
	s := &Server{opt: o, private: private}
	if err := s.choose(); err != nil {
		s.Close()
		return nil, err
	}
	s.front = newFront(s.site, s.dial, newConsole(o.Out))
	s.front.hears = true
	return s, nil
}

// Close gives up the address and removes what New has made.
func (s *Server) Close() error {
	if s.listener != nil {
		s.listener.Close() // or Serve has
	}
	return os.RemoveAll(s.private)
}

// Listen takes the address. Who connects waits for Serve.
func (s *Server) Listen() (err error) {
	if s.listener, err = net.Listen("tcp", s.opt.HTTP); err == nil {
		return nil
	}
	var errno syscall.Errno
	var addr *net.AddrError
	switch host := s.opt.HTTP; {
	case errors.As(err, &errno):
		if errno == syscall.EADDRINUSE {
			return fmt.Errorf("--http %s: %w (--http 127.0.0.1:0 takes a free one)", host, errno)
		}
		return fmt.Errorf("--http %s: %w", host, errno)
	case errors.As(err, &addr) && isPort(host):
		return fmt.Errorf("--http %s: it is host:port: did you mean 127.0.0.1:%s?", host, host)
	case errors.As(err, &addr) && !strings.Contains(host, ":"):
		return fmt.Errorf("--http %s: it is host:port: did you mean %s:8080?", host, host)
	}
	return fmt.Errorf("--http %s: %w", s.opt.HTTP, err)
}

func isPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}

// choose finds out what is served.
func (s *Server) choose() error {
	dir, err := s.folder()
	if err != nil {
		return err
	}
	if s.site, err = newSite(dir, s.opt.Interpreters); err != nil {
		return err
	}
	s.site.functions = s.opt.Functions
	if err := s.site.setWorker(s.opt.Worker); err != nil {
		return err
	}
	return s.site.setRouter(s.opt.Router)
}

func (s *Server) folder() (string, error) {
	if s.opt.Dir == "" {
		s.sample = "hello.sh"
		dir := filepath.Join(s.private, "samples")
		return dir, writeSamples(dir)
	}
	dir, err := filepath.Abs(s.opt.Dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s: there is no such folder", s.opt.Dir)
	}
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return "", fmt.Errorf("%s is not a folder", s.opt.Dir)
	}
	return dir, nil
}

func (s *Server) socket(pool string) string { return filepath.Join(s.private, pool+".sock") }

func (s *Server) dial(ctx context.Context, pool string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", s.socket(pool))
}

// Config is the configuration of the pools behind the server, read from a file: so
// the defaults are those of any other pool.
func (s *Server) Config() (*config.Config, error) {
	var text strings.Builder
	text.WriteString("log: {level: error, format: console}\nadmin: {listen: \"\", control: \"\"}\nshutdown_timeout: 1s\npools:\n")
	pool := func(name, runner string) {
		fmt.Fprintf(&text, "- {name: %s, listen: %q, timeout: %v, pass_env: [%s], %s}\n", name, "unix:"+s.socket(name), s.opt.Timeout, quoted(ownEnvironment()), runner)
	}
	pool(programPool, fmt.Sprintf("process: {root: [%q], stderr: client}", s.site.dir))
	if len(s.site.interpreters) > 0 {
		pool(scriptPool, fmt.Sprintf("process: {root: [%q], stderr: client, interpreters: [%s]}", s.site.dir, quotedPairs(s.site.interpreters)))
	}
	if len(s.site.worker) > 0 {
		rules := ""
		if s.site.hasPHP() {
			rules = fmt.Sprintf(", root: [%q], extensions: [.php]", s.site.dir)
		}
		pool(workerPool, fmt.Sprintf("worker: {command: [%s], stderr: both, max: 4%s}", quoted(s.site.worker), rules))
	}
	if len(s.site.functions) > 0 {
		pool(functionPool, fmt.Sprintf("function: {names: [%s]}", quoted(s.site.functions)))
	}
	file := filepath.Join(s.private, "fcgid.yaml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		return nil, err
	}
	return config.LoadAndCheck(file, nil, s.site.functions)
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// ownEnvironment are the names of the variables of whoever tries something, all of which
// programs get, as those of php -S do; but for what service managers say to a daemon.
func ownEnvironment() (names []string) {
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		isOurs := strings.HasPrefix(name, "LISTEN_") || strings.HasPrefix(name, "FCGID_") || name == "NOTIFY_SOCKET" || name == "WATCHDOG_USEC"
		if variableName.MatchString(name) && !isOurs {
			names = append(names, name)
		}
	}
	return names
}

func quoted(words []string) string {
	all := make([]string, len(words))
	for i, w := range words {
		all[i] = strconv.Quote(w)
	}
	return strings.Join(all, ", ")
}

func quotedPairs(m map[string]string) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		words = append(words, name+"="+m[name])
	}
	return quoted(words)
}

// Ended tells the server how a request of its pools has ended.
func (s *Server) Ended(r *server.Result) { s.front.endings.ended(r) }

// Serve answers at the address of Listen until ctx ends, with the pools of Config behind
// it. It tells a person where, once it does, and calls opened then, if that is not nil.
func (s *Server) Serve(ctx context.Context, log *slog.Logger, opened func(url string)) error {
	srv := &http.Server{
		Handler: s.front, ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelInfo),
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		srv.Close()
	})
	address := s.listener.Addr()
	fmt.Fprintf(s.opt.Out, "%sServing %s at http://%s/ (Ctrl-C stops it). Try:\n\n  curl -i http://%s/%s\n\n", s.warnings(), s.site.dir, address, address, s.sample)
	if opened != nil {
		opened(fmt.Sprintf("http://%s/%s", address, s.sample))
	}
	err := srv.Serve(s.listener)
	if !stop() {
		<-closed
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// warnings are what a person should know before the first request, as lines.
func (s *Server) warnings() string {
	var b strings.Builder
	if a, ok := s.listener.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
		fmt.Fprintf(&b, "Warning: %s is open to the network: whoever reaches it can run these programs; --http 127.0.0.1:%d is for this machine alone\n", s.opt.HTTP, a.Port)
	}
	for _, text := range s.site.lacks() {
		fmt.Fprintf(&b, "Warning: %s\n", text)
	}
	return b.String()
}

//go:build e2e

package e2e

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/fcgid/fcgid/fcgi"
)

// An embedded is a Server in the test's own process, with a function and an
// http.Handler, on a Unix and a TCP socket.
type embedded struct {
	dir, unix, tcp string
	next           chan string // parts of /stream, until it is closed
	waiting        chan string // the names of those in /wait
	ended          chan error  // and why they were ended
}

// embed starts one, on which a request chooses among the functions, unless there
// is only the http.Handler.
func embed(t *testing.T, onlyWeb bool) *embedded {
	t.Helper()
	e := &embedded{dir: folder(t), next: make(chan string), waiting: make(chan string, 10), ended: make(chan error, 10)}
	e.unix = e.dir + "/s"
	e.tcp = freeAddress(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello %s at %s, %s", r.URL.RawQuery, r.Host, fcgi.ParamsFromContext(r.Context()).Get("DOCUMENT_URI"))
	})
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Length", fmt.Sprint(r.ContentLength))
		io.Copy(w, r.Body)
	})
	mux.HandleFunc("GET /stream", e.stream)
	mux.HandleFunc("GET /panic", func(http.ResponseWriter, *http.Request) { panic("boom") })
	var functions fcgi.Registry
	functions.HandleFunc("greet", greet)
	functions.HandleFunc("wait", e.wait)
	functions.Handle("web", fcgi.HTTP(mux))
	s := &fcgi.Server{Handler: &functions, BufferRequests: true} // nginx stops sending where an answer begins
	if onlyWeb {
		s.Handler = fcgi.HTTP(mux)
	}
	s.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	for network, address := range map[string]string{"unix": e.unix, "tcp": e.tcp} {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		go func() { ended <- s.Serve(ctx, l) }()
	}
	t.Cleanup(func() {
		stop()
		for range 2 {
			if err := <-ended; err != nil {
				t.Errorf("Serve: %v", err)
			}
		}
	})
	return e
}

// stream sends each part when it comes.
func (e *embedded) stream(w http.ResponseWriter, r *http.Request) {
	for part := range e.next {
		io.WriteString(w, part)
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
	}
}

func greet(_ context.Context, req *fcgi.Request) (uint32, error) {
	body, err := io.ReadAll(req.Stdin)
	fmt.Fprintf(req.Stdout, "Content-Type: text/plain\r\n\r\ngot %d %x", len(body), sha256.Sum256(body))
	io.WriteString(req.Stderr, "oh dear\n")
	return 3, err
}

// wait waits for the end of its context.
func (e *embedded) wait(ctx context.Context, req *fcgi.Request) (uint32, error) {
	e.waiting <- req.Params.Get("QUERY_STRING")
	<-ctx.Done()
	e.ended <- context.Cause(ctx)
	return 0, context.Cause(ctx)
}

// exercise tries what every web server can do.
func (e *embedded) exercise(t *testing.T, url string) {
	t.Helper()
	for range 5 {
		hello := do(t, "GET", url+"/hello?a=b", nil)
		if hello.status != 200 || !strings.HasPrefix(hello.body, "hello a=b at 127.0.0.1") {
			t.Errorf("hello: got %d %q", hello.status, hello.body)
		}
	}
	for _, size := range []int{0, 1, 100_000, 3_000_000} {
		text := strings.Repeat("x", size)
		got := do(t, "POST", url+"/echo", strings.NewReader(text))
		got.is(t, fmt.Sprintf("echo of %d bytes", size), 200, text)
		if length := got.header.Get("X-Length"); length != fmt.Sprint(size) {
			t.Errorf("ContentLength of %d bytes is %s", size, length)
		}
	}
	if got := do(t, "GET", url+"/none", nil); got.status != 404 {
		t.Errorf("no such page: got %d %q", got.status, got.body)
	}
	if got := do(t, "GET", url+"/panic", nil); got.status != 500 {
		t.Errorf("panic: got %d %q", got.status, got.body)
	}
	if got := do(t, "HEAD", url+"/hello?a=b", nil); got.status != 200 || got.body != "" {
		t.Errorf("HEAD: got %d %q", got.status, got.body)
	}
}

func TestEmbeddedBehindNginx(t *testing.T) {
	for _, keep := range []string{"", keepAlive} {
		t.Run("keep alive: "+keep, func(t *testing.T) {
			e := embed(t, false)
			pool := ""
			if keep != "" {
				pool = "keepalive 8;"
			}
			url := nginxWith(t, e.dir, fmt.Sprintf("upstream app { server unix:%s; %s }", e.unix, pool), fmt.Sprintf(`
				%s
				location / { include /etc/nginx/fastcgi_params; fastcgi_pass app; fastcgi_param SCRIPT_FILENAME web; fastcgi_buffering off; }
				location /fn/ { include /etc/nginx/fastcgi_params; fastcgi_pass app; fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
					fastcgi_ignore_client_abort off; }`, keep))
			e.exercise(t, url)
			e.streams(t, url)
			e.aborts(t, url+"/fn/wait")
			body := strings.Repeat("y", 200_000)
			do(t, "POST", url+"/fn/greet", strings.NewReader(body)).is(t, "function", 200, fmt.Sprintf("got 200000 %x", sha256.Sum256([]byte(body))))
			if got := do(t, "GET", url+"/fn/os.Exit", nil); got.status != 404 {
				t.Errorf("no function: got %d %q", got.status, got.body)
			}
		})
	}
}

// streams checks that each part of an answer comes when it is sent.
func (e *embedded) streams(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", url+"/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() { e.next <- "part 0\n" }()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	for i := range 4 {
		want := fmt.Sprintf("part %d\n", i)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
		if i < 3 {
			e.next <- fmt.Sprintf("part %d\n", i+1)
		}
	}
	close(e.next)
	if rest, err := io.ReadAll(res.Body); len(rest) > 0 || err != nil {
		t.Errorf("at the end there is %q, %v", rest, err)
	}
}

// aborts checks that a function's context ends when the client of the web server
// goes away.
func (e *embedded) aborts(t *testing.T, url string) {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", url+"?x", nil)
	if err != nil {
		t.Fatal(err)
	}
	left := make(chan error)
	go func() {
		res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err == nil {
			res.Body.Close()
		}
		left <- err
	}()
	wait(t, "the function to begin", e.waiting)
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("request: %v", err)
	}
	if err := wait(t, "its context to end", e.ended); !errors.Is(err, fcgi.ErrClientGone) && !errors.Is(err, fcgi.ErrAborted) {
		t.Errorf("cause is %v", err)
	}
}

func TestEmbeddedBehindHAProxy(t *testing.T) {
	for name, options := range map[string]string{
		"a connection each": "    no option keep-conn\n",
		"multiplexed":       "    option keep-conn\n    option get-values\n    option mpxs-conns\n    option max-reqs 50\n",
	} {
		t.Run(name, func(t *testing.T) {
			e := embed(t, true)
			r := &rig{daemon: &daemon{dir: e.dir}, unix: e.unix, tcp: e.tcp}
			e.exercise(t, haproxy(t, r, e.tcp, options))
		})
	}
}

// The tool of libfcgi, which exits with the appStatus.
func TestEmbeddedAskedByCgiFcgi(t *testing.T) {
	e := embed(t, false)
	for _, address := range []string{e.unix, e.tcp} {
		for _, tt := range []struct {
			env  []string
			want string
			code int
		}{
			{[]string{"SCRIPT_FILENAME=/srv/greet"}, fmt.Sprintf("got 4 %x", sha256.Sum256([]byte("abc\n"))), 3},
			{[]string{"SCRIPT_NAME=/greet"}, fmt.Sprintf("got 4 %x", sha256.Sum256([]byte("abc\n"))), 3},
			{[]string{"SCRIPT_FILENAME=web", "REQUEST_URI=/echo", "SERVER_PROTOCOL=HTTP/1.0"}, "abc\n", 0},
			{[]string{"SCRIPT_FILENAME=/srv/none"}, "404 Not Found\n", 404 & 0xff},
		} {
			cmd := exec.Command(need(t, "cgi-fcgi"), "-bind", "-connect", address)
			cmd.Env = append(tt.env, "REQUEST_METHOD=POST", "CONTENT_LENGTH=4")
			cmd.Stdin = strings.NewReader("abc\n")
			var stdout, stderr strings.Builder
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			cmd.Run()
			if code := cmd.ProcessState.ExitCode(); code != tt.code || !strings.HasSuffix(stdout.String(), "\r\n\r\n"+tt.want) {
				t.Errorf("%s %v: exit status %d, stdout %q, stderr %q", address, tt.env, code, &stdout, &stderr)
			}
		}
	}
}

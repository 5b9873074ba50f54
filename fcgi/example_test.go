package fcgi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"strings"
	"time"

	"github.com/fcgid/fcgid/fcgi"
)

// CGI programs behind a web server. One that takes longer than a minute is ended, with all
// that it has started.
func ExampleProgram() {
	folder, _ := os.MkdirTemp("", "cgi-bin")
	defer os.RemoveAll(folder)
	os.WriteFile(folder+"/hello.sh", []byte("printf 'Content-Type: text/plain\n\nhello %s\n' $QUERY_STRING"), 0o644)
	programs := &fcgi.Program{
		Roots:        []string{folder},
		Interpreters: map[string]string{".sh": "sh"},
		Timeout:      time.Minute,
	}
	address, stop := start(&fcgi.Server{Handler: programs})
	defer stop()

	ask(address, fcgi.Params{{Name: "SCRIPT_FILENAME", Value: folder + "/hello.sh"}, {Name: "QUERY_STRING", Value: "world"}})
	// Output: hello world
}

// A client sends a request and waits for the answer.
func ExampleClient_Do() {
	address, stop := startApplication()
	defer stop()
	client := &fcgi.Client{Address: "unix:" + address}
	var answer strings.Builder
	result, err := client.Do(context.Background(), &fcgi.Request{
		Params: fcgi.Params{
			{Name: "REQUEST_METHOD", Value: "POST"}, {Name: "REQUEST_URI", Value: "/upper"},
			{Name: "SERVER_PROTOCOL", Value: "HTTP/1.1"}, {Name: "CONTENT_LENGTH", Value: "5"},
		},
		Stdin: strings.NewReader("hello"), Stdout: &answer, Stderr: os.Stderr,
	})
	_, body, _ := strings.Cut(answer.String(), "\r\n\r\n")
	fmt.Println(body, result.ProtocolStatus, result.AppStatus, err)
	// Output: HELLO REQUEST_COMPLETE 0 <nil>
}

// A function has less time than the server gives to others.
func ExampleTimeoutHandler() {
	slow := fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
		<-ctx.Done()
		fmt.Println(errors.Is(context.Cause(ctx), fcgi.ErrTimeout))
		return 0, context.Cause(ctx)
	})
	address, stop := start(&fcgi.Server{Handler: fcgi.TimeoutHandler(slow, 10*time.Millisecond), Timeout: time.Minute})
	ask(address, nil)
	stop()
	// Unordered output:
	// true
	// 408 Request Timeout
}

// Three limits, and what a web server is told of them.
func ExampleClient_Values() {
	address, stop := start(&fcgi.Server{MaxConns: 10, MaxReqs: 50, NoMultiplex: true})
	defer stop()

	client := &fcgi.Client{Address: "unix:" + address.String()}
	values, err := client.Values(context.Background(), fcgi.MaxConns, fcgi.MaxReqs, fcgi.MpxsConns)
	fmt.Println(values, err)
	// Output: map[FCGI_MAX_CONNS:10 FCGI_MAX_REQS:50 FCGI_MPXS_CONNS:0] <nil>
}

// Whether an application runs shows by who takes connections. [Client.Values] asks more.
func ExampleDial() {
	address, stop := start(&fcgi.Server{})
	isRunning := func() bool {
		conn, err := fcgi.Dial(context.Background(), "unix:"+address.String())
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	before := isRunning()
	stop()
	fmt.Println(before, isRunning())
	// Output: true false
}

// A server runs until its context ends and the last request is answered; then Serve
// returns.
func ExampleServer_Serve() {
	l, err := fcgi.Listen("tcp:127.0.0.1:0", 0) // or "unix:/run/app/app.sock", 0o660
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background()) // or signal.NotifyContext
	server := &fcgi.Server{Handler: fcgi.HTTP(http.NotFoundHandler()), ShutdownTimeout: 30 * time.Second}
	ended := make(chan error)
	go func() { ended <- server.Serve(ctx, l) }()

	stop()
	fmt.Println(<-ended)
	// Output: <nil>
}

// A web server before an application that speaks FastCGI, such as php-fpm.
func ExampleTransport() {
	address, stop := startApplication() // unix:/run/php/php-fpm.sock, say
	defer stop()

	web := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(*httputil.ProxyRequest) {},
		Transport: &fcgi.Transport{
			Client: &fcgi.Client{Address: "unix:" + address},
			Root:   "/srv/www", Index: "index.php", Extensions: []string{".php"},
		},
	})
	defer web.Close()
	resp, err := http.Post(web.URL+"/upper", "text/plain", strings.NewReader("hello"))
	if err == nil {
		io.Copy(os.Stdout, resp.Body)
		resp.Body.Close()
	}
	// Output: HELLO
}

// What a program has written becomes an http.Response.
func ExampleReadResponse() {
	resp, err := fcgi.ReadResponse(strings.NewReader("Status: 404\nContent-Type: text/plain\n\nnot here"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	body, err := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, resp.Header.Get("Content-Type"), string(body), err)
	// Output: 404 text/plain not here <nil>
}

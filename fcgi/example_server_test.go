package fcgi_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/fcgid/fcgid/fcgi"
)

// A web application is served as with net/http/fcgi.
func ExampleServe() {
	http.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello", r.FormValue("name"))
	})
	l, err := net.Listen("tcp", "127.0.0.1:0") // or fcgi.Listen("unix:/run/app/app.sock", 0o666)
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	go fcgi.Serve(l, nil)

	ask(l.Addr(), fcgi.Params{
		{Name: "REQUEST_METHOD", Value: "GET"},
		{Name: "REQUEST_URI", Value: "/hello?name=world"},
		{Name: "SERVER_PROTOCOL", Value: "HTTP/1.1"},
	})
	// Output: hello world
}

// A request names one of several functions in SCRIPT_FILENAME. Nothing else can
// be called.
func ExampleRegistry() {
	var functions fcgi.Registry
	functions.HandleFunc("time", func(ctx context.Context, req *fcgi.Request) (uint32, error) {
		fmt.Fprintf(req.Stdout, "Content-Type: text/plain\r\n\r\n%s\n", time.Unix(0, 0).UTC())
		return 0, nil
	})
	address, stop := start(&fcgi.Server{Handler: &functions})
	defer stop()
	for _, script := range []string{"/srv/www/time", "os.Exit"} {
		ask(address, fcgi.Params{{Name: "SCRIPT_FILENAME", Value: script}})
	}
	// Output:
	// 1970-01-01 00:00:00 +0000 UTC
	// 404 Not Found
}

// A web application behind a web server.
func ExampleHTTP() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello/{name}", func(w http.ResponseWriter, r *http.Request) {
		user := fcgi.ParamsFromContext(r.Context()).Get("REMOTE_USER")
		fmt.Fprintf(w, "hello %s, I am %s for %s\n", r.PathValue("name"), r.Host, user)
	})
	address, stop := start(&fcgi.Server{Handler: fcgi.HTTP(mux)})
	defer stop()

	ask(address, fcgi.Params{
		{Name: "REQUEST_METHOD", Value: "GET"},
		{Name: "REQUEST_URI", Value: "/hello/gopher"},
		{Name: "SERVER_PROTOCOL", Value: "HTTP/1.1"},
		{Name: "HTTP_HOST", Value: "example.org"},
		{Name: "REMOTE_USER", Value: "joe"},
	})
	// Output: hello gopher, I am example.org for joe
}

// What has been written leaves with Flush.
func ExampleRequest_Flush() {
	address, stop := start(&fcgi.Server{Handler: fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
		io.WriteString(req.Stdout, "Content-Type: text/event-stream\r\n\r\n")
		for i := range 3 {
			fmt.Fprintf(req.Stdout, "data: %d\n", i)
			if err := req.Flush(); err != nil { // the client has gone
				return 0, err
			}
		}
		return 0, nil
	})})
	defer stop()

	ask(address, nil)
	// Output:
	// data: 0
	// data: 1
	// data: 2
}

// start runs a Server on a Unix socket.
func start(s *fcgi.Server) (address net.Addr, stop func()) {
	dir, err := os.MkdirTemp("", "fcgi")
	if err != nil {
		panic(err)
	}
	l, err := net.Listen("unix", dir+"/s")
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- s.Serve(ctx, l) }()
	return l.Addr(), func() {
		cancel()
		if err := <-served; err != nil {
			fmt.Println(err)
		}
		os.RemoveAll(dir)
	}
}

// ask plays the web server: it prints the body of the answer.
func ask(address net.Addr, params fcgi.Params) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := fcgi.Dial(ctx, address.Network()+":"+address.String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	var answer strings.Builder
	if _, err := client.Do(ctx, &fcgi.Request{Close: true, Params: params, Stdout: &answer}); err != nil {
		fmt.Println(err)
	}
	_, body, _ := strings.Cut(answer.String(), "\r\n\r\n")
	fmt.Print(body)
}

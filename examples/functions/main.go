// Command functions is fcgid with two functions compiled in: "hello", a plain
// FastCGI function, and "clock", an http.Handler. Its pool file is functions.yaml.
package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/fcgid/fcgid"
	"github.com/fcgid/fcgid/fcgi"
)

func main() {
	var functions fcgi.Registry
	functions.HandleFunc("hello", hello)
	functions.Handle("clock", fcgi.HTTP(http.HandlerFunc(clock)))
	fcgid.Main(&functions)
}

// hello answers as a CGI program would.
func hello(_ context.Context, req *fcgi.Request) (uint32, error) {
	_, err := fmt.Fprintf(req.Stdout, "Content-Type: text/plain\r\n\r\nHello %s\n", req.Params.Get("REMOTE_ADDR"))
	return 0, err
}

// clock tells the time until the client has had enough, or the pool's timeout is over.
func clock(w http.ResponseWriter, r *http.Request) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	flusher := http.NewResponseController(w)
	for {
		fmt.Fprintln(w, time.Now().Format(time.TimeOnly))
		if flusher.Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// Command functions is a daemon whose functions misbehave.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/fcgid/fcgid"
	"github.com/fcgid/fcgid/fcgi"
)

func main() {
	var functions fcgi.Registry
	functions.HandleFunc("panic", func(context.Context, *fcgi.Request) (uint32, error) { panic("out of cheese") })
	functions.HandleFunc("deaf", deaf)
	functions.HandleFunc("obedient", func(ctx context.Context, _ *fcgi.Request) (uint32, error) {
		<-ctx.Done()
		return 0, context.Cause(ctx)
	})
	functions.HandleFunc("status", func(_ context.Context, req *fcgi.Request) (uint32, error) {
		fmt.Fprintln(req.Stderr, "about to fail")
		_, err := io.WriteString(req.Stdout, "Content-Type: text/plain\n\nseven\n")
		return 7, err
	})
	functions.HandleFunc("acts", acts)
	fcgid.Main(&functions)
}

// acts starts a program that writes to the file named by the query.
func acts(ctx context.Context, req *fcgi.Request) (uint32, error) {
	file := req.Params.Get("QUERY_STRING")
	if err := exec.CommandContext(ctx, "/bin/sh", "-c", `id -u >"$0"`, file).Run(); err != nil {
		return 1, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return 1, err
	}
	_, err = fmt.Fprintf(req.Stdout, "Content-Type: text/plain\n\nwritten by %s", text)
	return 0, err
}

// deaf returns when the file named by the query is there, whatever its context says.
func deaf(_ context.Context, req *fcgi.Request) (uint32, error) {
	for {
		if _, err := os.Stat(req.Params.Get("QUERY_STRING")); err == nil {
			_, err := fmt.Fprint(req.Stdout, "Content-Type: text/plain\n\nat last\n")
			return 0, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	stdfcgi "net/http/fcgi"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fcgid/fcgid/fcgi"
)

// A clientApp is a FastCGI application of somebody else's that a client asks.
// It answers GET with "hello " and QUERY_STRING, and POST with the digest of the
// body. The query "stderr" writes "oh dear" there too, and "wait" takes its time.
// None of them tells the exit status of a program.
type clientApp struct {
	name   string
	start  func(t *testing.T, network string) (address string)
	script string // SCRIPT_FILENAME
	stderr bool   // what is written there arrives
	// shares tells that it multiplexes; the query "meet" waits for another such.
	shares bool
}

func clientApps(t *testing.T) []clientApp {
	dir := folder(t)
	page := write(t, dir+"/page.php", `<?php
header('Content-Type: text/plain');
if ($_SERVER['REQUEST_METHOD'] === 'POST') { echo hash('sha256', file_get_contents('php://input')); return; }
echo 'hello ', $_SERVER['QUERY_STRING'];
switch ($_SERVER['QUERY_STRING']) {
case 'stderr': error_log('oh dear'); break;
case 'wait': sleep(30);
}
`)
	cgi := script(t, dir+"/page.cgi", `#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
if [ "$REQUEST_METHOD" = POST ]; then sha256sum | cut -c1-64 | tr -d '\n'; exit; fi
printf 'hello %s' "$QUERY_STRING"
case $QUERY_STRING in
stderr) echo oh dear >&2 ;;
wait) exec sleep 30 ;;
esac
`)
	perl := script(t, dir+"/page.pl", `use FCGI; use Digest::SHA;
my $socket = FCGI::OpenSocket($ARGV[0], 10);
my $request = FCGI::Request(\*STDIN, \*STDOUT, \*STDERR, \%ENV, $socket);
while ($request->Accept() >= 0) {
	print "Content-Type: text/plain\r\n\r\n";
	if ($ENV{REQUEST_METHOD} eq 'POST') {
		my $sha = Digest::SHA->new(256);
		while (read(STDIN, my $part, 65536)) { $sha->add($part) }
		print $sha->hexdigest;
		next;
	}
	print "hello $ENV{QUERY_STRING}";
	print STDERR "oh dear\n" if $ENV{QUERY_STRING} eq 'stderr';
	sleep 30 if $ENV{QUERY_STRING} eq 'wait';
}
`)
	return []clientApp{
		{name: "php-cgi", script: page, stderr: true, start: func(t *testing.T, network string) string {
			return startClientApp(t, network, func(address string) *exec.Cmd {
				return exec.Command(need(t, "php-cgi"), "-d", "log_errors=1", "-b", address)
			})
		}},
		{name: "fcgiwrap", script: cgi, stderr: true, start: func(t *testing.T, network string) string {
			return startClientApp(t, network, func(address string) *exec.Cmd {
				return exec.Command(need(t, "fcgiwrap"), "-f", "-s", network+":"+address)
			})
		}},
		{name: "perl", script: perl, stderr: true, start: func(t *testing.T, network string) string {
			return startClientApp(t, network, func(address string) *exec.Cmd {
				return exec.Command(need(t, "perl"), perl, strings.TrimPrefix(address, "127.0.0.1"))
			})
		}},
		{name: "net/http/fcgi", script: "/page", shares: true, start: startStandardApp},
	}
}

// startClientApp starts a program that listens itself, and waits until it does.
func startClientApp(t *testing.T, network string, command func(address string) *exec.Cmd) string {
	t.Helper()
	address := freeAddress(t)
	if network == "unix" {
		address = folder(t) + "/s"
	}
	p := start(t, command(address))
	await(t, "the application to listen", func() bool {
		select {
		case <-p.done:
			t.Fatalf("the application has exited: %v", p.Err)
		default:
		}
		c, err := net.Dial(network, address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return address
}

// startStandardApp serves with the standard library's package.
func startStandardApp(t *testing.T, network string) string {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = folder(t) + "/s"
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	over, met := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(over); l.Close() })
	go stdfcgi.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		if r.Method == http.MethodPost {
			h := sha256.New()
			io.Copy(h, r.Body)
			fmt.Fprintf(w, "%x", h.Sum(nil))
			return
		}
		switch r.URL.RawQuery {
		case "wait":
			<-over
		case "meet":
			select {
			case met <- struct{}{}:
			case <-met:
			case <-over:
			}
		}
		fmt.Fprint(w, "hello ", r.URL.RawQuery)
	}))
	return l.Addr().String()
}

// A clientAsk is a client of one application.
type clientAsk struct {
	*fcgi.Conn
	app clientApp
}

func dialApp(t *testing.T, network, address string, app clientApp) clientAsk {
	t.Helper()
	c, err := fcgi.Dial(t.Context(), network+":"+address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		c.Wait()
	})
	return clientAsk{c, app}
}

// An appAnswer is what has come of a request.
type appAnswer struct {
	fcgi.Result
	body, stderr string
}

// send asks with GET, or with POST if there is a body, and keeps the connection.
func (c clientAsk) send(ctx context.Context, query string, body []byte) (appAnswer, error) {
	method, stdin := "GET", io.Reader(nil)
	if body != nil {
		method, stdin = "POST", bytes.NewReader(body)
	}
	var stdout, stderr bytes.Buffer
	result, err := c.Do(ctx, &fcgi.Request{
		Stdin: stdin, Stdout: &stdout, Stderr: &stderr,
		Params: fcgi.Params{
			{Name: "GATEWAY_INTERFACE", Value: "CGI/1.1"}, {Name: "SERVER_PROTOCOL", Value: "HTTP/1.1"},
			{Name: "REQUEST_METHOD", Value: method}, {Name: "QUERY_STRING", Value: query},
			{Name: "SCRIPT_FILENAME", Value: c.app.script}, {Name: "SCRIPT_NAME", Value: "/page"},
			{Name: "REQUEST_URI", Value: "/page?" + query}, {Name: "REDIRECT_STATUS", Value: "200"},
			{Name: "CONTENT_LENGTH", Value: strconv.Itoa(len(body))}, {Name: "CONTENT_TYPE", Value: "application/octet-stream"},
		},
	})
	_, after, _ := strings.Cut(stdout.String(), "\r\n\r\n")
	return appAnswer{result, after, stderr.String()}, err
}

// want is send for a GET that is answered.
func (c clientAsk) want(t *testing.T, query string) appAnswer {
	t.Helper()
	got, err := c.send(t.Context(), query, nil)
	if err != nil || got.ProtocolStatus != fcgi.StatusRequestComplete || got.body != "hello "+query {
		t.Errorf("%s: got %+v, %v", query, got, err)
	}
	return got
}

// The client against the applications that people have.
func TestClientApplications(t *testing.T) {
	for _, app := range clientApps(t) {
		for _, network := range []string{"unix", "tcp"} {
			t.Run(app.name+" "+network, func(t *testing.T) {
				t.Parallel() // they let an aborted request run on
				address := app.start(t, network)
				c := dialApp(t, network, address, app)
				t.Run("answers", func(t *testing.T) { c.testAnswers(t) })
				t.Run("at once", func(t *testing.T) { c.testAtOnce(t) })
				c.Close() // some have one connection at a time
				c = dialApp(t, network, address, app)
				t.Run("abort", func(t *testing.T) { c.testAbort(t) })
			})
		}
	}
}

// testAnswers sends one request after the other on one connection.
func (c clientAsk) testAnswers(t *testing.T) {
	c.want(t, "one")
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	got, err := c.send(t.Context(), "", body)
	if err != nil || got.body != fmt.Sprintf("%x", sha256.Sum256(body)) {
		t.Errorf("POST: got %+v, %v", got, err)
	}
	if got := c.want(t, "stderr"); strings.Contains(got.stderr, "oh dear") != c.app.stderr {
		t.Errorf("stderr %q", got.stderr)
	}
	c.want(t, "two")
}

// testAtOnce has two calls at the same time, which share the connection or not.
func (c clientAsk) testAtOnce(t *testing.T) {
	query := "pair"
	if c.app.shares {
		query = "meet"
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { c.want(t, query) })
	}
	wg.Wait()
}

func (c clientAsk) testAbort(t *testing.T) {
	cause := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, cause)
	defer cancel()
	if got, err := c.send(ctx, "wait", nil); err != cause {
		t.Errorf("got %+v, %v", got, err)
	}
}

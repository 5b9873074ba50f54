package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// fcgiServer serves h over FastCGI until the test ends, and returns its socket.
func fcgiServer(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		fcgi.Serve(l, h)
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return socket
}

func hello(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello\n") }

// run puts a load onto a server for a moment.
func runLoad(t *testing.T, ld load) *result {
	t.Helper()
	var err error
	if ld.answer == 0 {
		if ld.answer, err = verify(ld.network, ld.address, ld.request); err != nil {
			t.Fatal(err)
		}
	}
	res, err := ld.run(t.Context(), 10*time.Millisecond, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestLoad(t *testing.T) {
	var served atomic.Int64
	socket := fcgiServer(t, func(w http.ResponseWriter, r *http.Request) { served.Add(1); hello(w, r) })
	for _, test := range []struct {
		name string
		load load
	}{
		{"connection a request", load{request: get("/hello", false, 1), conns: 4}},
		{"keep-alive", load{request: get("/hello", true, 1), conns: 4, keep: true}},
		{"multiplexed", load{request: get("/hello", true, 16), conns: 2, streams: 16, keep: true}},
		{"rate", load{request: get("/hello", false, 1), conns: 64, rate: 400}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.load.network, test.load.address = "unix", socket
			served.Store(0)
			res := runLoad(t, test.load)
			if n := served.Load() - 1; n != res.requests { // one was to verify
				t.Errorf("%d requests were served, %d answers counted", n, res.requests)
			}
			if res.failures > 0 || res.requests == 0 || res.in == 0 || res.out == 0 {
				t.Errorf("%d requests, %d failures: %v", res.requests, res.failures, res.failure)
			}
			if test.load.rate == 0 {
				return
			}
			if res.requests != 24 || len(res.latencies) != 20 || !slices.IsSorted(res.latencies) {
				t.Errorf("%d requests in 60 ms, %d in the window, at 400 a second", res.requests, len(res.latencies))
			}
		})
	}
}

func TestUpload(t *testing.T) {
	const size = 3 << 20
	socket := fcgiServer(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		io.WriteString(w, strconv.FormatInt(n, 10)+"\n")
	})
	res := runLoad(t, load{network: "unix", address: socket, request: post("/upload", size), conns: 2})
	if res.failures > 0 || res.requests == 0 || res.out < res.requests*size {
		t.Errorf("%d requests, %d bytes, %v", res.requests, res.out, res.failure)
	}
}

func TestDownload(t *testing.T) {
	const size = 3 << 20
	socket := fcgiServer(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, size)) })
	request := get("/download", false, 1)
	request.want, request.wantBytes = "", size
	res := runLoad(t, load{network: "unix", address: socket, request: request, conns: 1})
	if res.failures > 0 || res.requests == 0 || res.in < res.requests*size {
		t.Errorf("%d requests, %d bytes, %v", res.requests, res.in, res.failure)
	}
}

func TestHTTP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := http.Server{Handler: http.HandlerFunc(hello)}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	defer func() { s.Close(); <-done }()
	res := runLoad(t, load{network: "tcp", address: l.Addr().String(), request: httpGet("/"), conns: 4, keep: true})
	if res.failures > 0 || res.requests == 0 {
		t.Errorf("%d requests, %d failures: %v", res.requests, res.failures, res.failure)
	}
}

// What is not a right answer is a failure, and ends the load early.
func TestFailures(t *testing.T) {
	socket := fcgiServer(t, hello)
	gone := filepath.Join(t.TempDir(), "gone")
	wrong := load{network: "unix", address: socket, request: get("/", false, 1), conns: 2, answer: 1}
	res, err := wrong.run(t.Context(), 0, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if res.failures < maxFailures || !strings.Contains(res.failure.Error(), "bytes, not 1") {
		t.Errorf("wrong length: %d failures: %v", res.failures, res.failure)
	}
	ld := load{network: "unix", address: gone, request: get("/", false, 1), conns: 2}
	if _, err := ld.run(t.Context(), 0, time.Second); err == nil {
		t.Error("no server, no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ld.address, ld.answer = socket, 1
	if _, err := ld.run(ctx, 0, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancel: %v", err)
	}
}

func TestVerify(t *testing.T) {
	for _, test := range []struct {
		answer http.HandlerFunc
		want   string
	}{
		{hello, ""},
		{func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello world\n") }, "not \"hello\\n\""},
		{func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, "status 503"},
	} {
		_, err := verify("unix", fcgiServer(t, test.answer), get("/", false, 1))
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v, want %q", err, test.want)
		}
	}
}

// The load allocates nothing for a request, so that the client's garbage
// collector is not measured.
func TestRequestsAllocateNothing(t *testing.T) {
	wire := appendRecord(nil, typeStdout, 1, bytes.Repeat([]byte("x"), 34))
	wire = append(wire, endRecord(1, 0, 0)...)
	l := &loop{load: load{request: get("/", true, 1), answer: 34, streams: 1}, until: -1}
	c := &conn{loop: l, fd: -1, streams: make([]stream, 1)}
	n := testing.AllocsPerRun(100, func() {
		c.begin(0)
		c.buf = c.buf[:0]
		if err := c.answers.feed(wire, c); err != nil || !c.done {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}

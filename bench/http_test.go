package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

const chunkedHead = "HTTP/1.1 200 OK\r\nServer: x\r\nTransfer-Encoding: chunked\r\n\r\n"

// Answers are counted alike in pieces of any size, one after the other on a connection.
func TestHTTPAnswers(t *testing.T) {
	const (
		plain = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\nServer: x\r\n\r\nhello\r\n\r\n!!"
		empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
		parts = chunkedHead + "5\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n"
	)
	for size := 1; size <= len(parts); size++ {
		var a httpAnswer
		for _, one := range []struct {
			text string
			body int64
		}{{plain, 11}, {parts, 31}, {empty, 0}, {parts, 31}} {
			text, done := one.text, false
			for text != "" {
				if done {
					t.Fatalf("pieces of %d: done before %q", size, text)
				}
				n := min(size, len(text))
				var err error
				if done, err = a.feed([]byte(text[:n])); err != nil {
					t.Fatalf("pieces of %d: %v", size, err)
				}
				text = text[n:]
			}
			if !done || a.body != one.body {
				t.Fatalf("pieces of %d: done is %v, %d bytes, want %d", size, done, a.body, one.body)
			}
		}
	}
}

func TestWrongHTTPAnswers(t *testing.T) {
	for text, want := range map[string]string{
		"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 1\r\n\r\nx":  `begins with "HTTP/1.1 502"`,
		"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nx":           "neither a Content-Length nor chunks",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy":          "1 bytes follow",
		"HTTP/1.1 200 OK\r\nContent-Length: nine\r\n\r\nxy":       "invalid syntax",
		chunkedHead + "5\r\nhelloworld\r\n":                       "where a chunk begins or ends",
		chunkedHead + "fffffffffff\r\n":                           "where a chunk begins or ends",
		chunkedHead + "five\r\n":                                  "where a chunk begins or ends",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<13):     "header is longer",
		chunkedHead + "1\r\nx\r\n0\r\n\r\n" + "HTTP/1.1 200 OK\r": "follow the answer",
	} {
		var a httpAnswer
		if _, err := a.feed([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: %v, want %s", text, err, want)
		}
	}
}

// A load over HTTP takes answers in chunks, and measures how long each takes.
func TestTimedLoad(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for i := range 3 {
			io.WriteString(w, strings.Repeat("x", 1000*(i+1)))
			w.(http.Flusher).Flush()
		}
		fmt.Fprint(w, r.Host)
	})}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	defer func() { s.Close(); <-done }()
	request := httpGet("/")
	request.want, request.has = "", "xxx"
	res := runLoad(t, load{network: "tcp", address: l.Addr().String(), request: request, conns: 4, keep: true, timed: true})
	if res.failures > 0 || res.requests == 0 || int64(len(res.latencies)) != res.windowRequests {
		t.Errorf("%d requests, %d in the window, %d latencies, %v", res.requests, res.windowRequests, len(res.latencies), res.failure)
	}
	for _, l := range res.latencies {
		if l <= 0 || time.Duration(l) > 10*time.Second {
			t.Errorf("a latency is %v", time.Duration(l))
		}
	}
	request.has = "no such words"
	if _, err := verify("tcp", l.Addr().String(), request); err == nil || !strings.Contains(err.Error(), "no such words") {
		t.Errorf("verify: %v", err)
	}
}

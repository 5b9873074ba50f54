package fcgi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// web are the params of a GET of nginx, and more as name, value, name, value.
func web(more ...string) []string {
	return append([]string{
		"REQUEST_METHOD", "GET", "SERVER_PROTOCOL", "HTTP/1.1", "REQUEST_URI", "/a%20b/c?x=y&z", "SCRIPT_NAME", "/a b",
		"PATH_INFO", "/c", "QUERY_STRING", "x=y&z", "HTTP_HOST", "example.org", "REMOTE_ADDR", "192.0.2.1", "REMOTE_PORT", "5432",
	}, more...)
}

// serveWeb is serve of an http.Handler, and a connection.
func serveWeb(t *testing.T, h http.HandlerFunc) (*served, *wire) {
	t.Helper()
	v := serve(t, &fcgi.Server{Handler: fcgi.HTTP(h)})
	return v, v.dial()
}

func TestHTTPRequest(t *testing.T) {
	for _, tt := range []struct {
		name string
		more []string
		want string
	}{
		{"URL", nil, "GET http://example.org/a%20b/c?x=y&z /a b/c"},
		{"TLS", []string{"HTTPS", "on"}, "GET https://example.org/a%20b/c?x=y&z /a b/c"},
		{"no REQUEST_URI", []string{"REQUEST_URI", ""}, "GET http://example.org/a%20b/c?x=y&z /a b/c"},
		{"no Host", nil, "GET /a%20b/c?x=y&z /a b/c"},
		{"the last wins", []string{"REQUEST_METHOD", "PUT"}, "PUT http://example.org/a%20b/c?x=y&z /a b/c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, w := serveWeb(t, func(w http.ResponseWriter, r *http.Request) {
					fmt.Fprintf(w, "%s %s %s", r.Method, r.URL, r.URL.Path)
					if r.RemoteAddr != "192.0.2.1:5432" || (r.TLS != nil) != (tt.name == "TLS") || r.ContentLength != 0 || r.Body != http.NoBody {
						t.Errorf("request is %+v", r)
					}
					if uri := fcgi.ParamsFromContext(r.Context()).Get("REQUEST_URI"); r.RequestURI != uri {
						t.Errorf("RequestURI is %q, want %q", r.RequestURI, uri)
					}
				})
				params := web(tt.more...)
				if tt.name == "no Host" {
					params[slices.Index(params, "HTTP_HOST")] = "OTHER"
				}
				w.send(wiretest.Get(1, true, params...))
				r := w.reply(1)
				if _, body, _ := strings.Cut(r.Stdout, "\r\n\r\n"); body != tt.want {
					t.Errorf("got %q, want %q", r.Stdout, tt.want)
				}
			})
		})
	}
}

func TestHTTPHeaderFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, w := serveWeb(t, func(w http.ResponseWriter, r *http.Request) {
			for name, want := range map[string]string{
				"X-One": "1", "X-Two": "a, b", "Cookie": "a=1; b=2", "Content-Type": "text/x", "Host": "", "": "",
				"Content-Length": "", "X-Odd": "a, b, c",
			} {
				if got := strings.Join(r.Header.Values(name), " and "); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if _, ok := r.Header[""]; ok {
				t.Error("there is a field without a name")
			}
			p := fcgi.ParamsFromContext(r.Context())
			if p.Get("REMOTE_USER") != "joe" || p.Get("HTTP_X_ONE") != "1" {
				t.Errorf("params are %v", p)
			}
		})
		w.send(wiretest.Get(1, true, web("HTTP_X_ONE", "1", "HTTP_X_TWO", "a", "HTTP_X_TWO", "b", "HTTP_COOKIE", "a=1", "HTTP_COOKIE", "b=2",
			"CONTENT_TYPE", "text/x", "REMOTE_USER", "joe", "HTTP_", "x",
			"HTTP_CONTENT_TYPE", "text/x", "CONTENT_LENGTH", "0", "HTTP_CONTENT_LENGTH", "0",
			"HTTP_X_ODD", "a", "HTTP_X-ODD", "b", "HTTP_x_odd", "c")...))
		w.want(1, "Status: 200 OK\r\n\r\n", 0)
	})
	if fcgi.ParamsFromContext(t.Context()) != nil {
		t.Error("a strange context has params")
	}
}

func TestHTTPBadRequest(t *testing.T) {
	for _, more := range [][]string{
		{"REQUEST_METHOD", ""}, {"SERVER_PROTOCOL", "nonsense"}, {"HTTP_HOST", "a b"}, {"REQUEST_URI", "/%zz"}, {"HTTP_HOST", "other"}, {"HTTP_RANGE", "a", "HTTP_RANGE", "b"},
	} {
		synctest.Test(t, func(t *testing.T) {
			v, w := serveWeb(t, func(http.ResponseWriter, *http.Request) { t.Errorf("%q is served", more) })
			w.send(wiretest.Get(1, true, web(more...)...))
			w.wantPage(1, 400, 400)
			synctest.Wait()
			if len(v.log.lines("outcome=rejected")) != 1 {
				t.Errorf("logged %q", v.log.lines())
			}
		})
	}
}

func TestHTTPBody(t *testing.T) {
	for _, tt := range []struct {
		name, length, sent, want string
		wantLength               int64
		err                      error
	}{
		{"whole", "5", "hello", "hello", 5, nil},
		{"of unknown length", "-1", "hello", "hello", -1, nil},
		{"without a length", "", "hello", "hello", -1, nil},
		{"too short", "6", "hello", "hello", 6, io.ErrUnexpectedEOF},
		{"too long", "4", "hello", "hell", 4, nil},
		{"none", "0", "hello", "", 0, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, w := serveWeb(t, func(w http.ResponseWriter, r *http.Request) {
					body, err := io.ReadAll(r.Body)
					if string(body) != tt.want || err != tt.err || r.ContentLength != tt.wantLength || r.Body.Close() != nil {
						t.Errorf("body is %q, %v, ContentLength %d", body, err, r.ContentLength)
					}
				})
				w.send(wiretest.Begin(1, true), wiretest.Params(1, web("REQUEST_METHOD", "POST", "CONTENT_LENGTH", tt.length)...))
				w.send(wiretest.Stdin(1, tt.sent), wiretest.Stdin(1, ""))
				w.want(1, "Status: 200 OK\r\n\r\n", 0)
			})
		})
	}
}

func TestHTTPBodyOfAnAuthorizer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, w := serveWeb(t, func(w http.ResponseWriter, r *http.Request) {
			if body, err := io.ReadAll(r.Body); len(body) != 0 || err != nil || r.ContentLength != 0 {
				t.Errorf("body is %q, %v", body, err)
			}
		})
		w.send(protocol.AppendBegin(nil, 1, protocol.Begin{Role: protocol.RoleAuthorizer, Keep: true}), wiretest.Params(1, web("CONTENT_LENGTH", "7")...))
		w.want(1, "Status: 200 OK\r\n\r\n", 0)
	})
}

// Responses byte by byte.
func TestHTTPResponse(t *testing.T) {
	const ok = "Status: 200 OK\r\n"
	for _, tt := range []struct {
		name   string
		method string
		h      func(t *testing.T, w http.ResponseWriter)
		want   string
	}{
		{"nothing", "GET", func(*testing.T, http.ResponseWriter) {}, ok + "\r\n"},
		{"empty Write", "GET", func(_ *testing.T, w http.ResponseWriter) { w.Write(nil) }, ok + "\r\n"},
		{"sniffed", "GET", func(_ *testing.T, w http.ResponseWriter) { io.WriteString(w, "<html>") }, ok + "Content-Type: text/html; charset=utf-8\r\n\r\n<html>"},
		{"sniffed bytes", "GET", func(_ *testing.T, w http.ResponseWriter) { w.Write([]byte("%PDF-")) }, ok + "Content-Type: application/pdf\r\n\r\n%PDF-"},
		{"type given", "GET", func(_ *testing.T, w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/x")
			io.WriteString(w, "<html>")
		}, ok + "Content-Type: text/x\r\n\r\n<html>"},
		{"no type wanted", "GET", func(_ *testing.T, w http.ResponseWriter) {
			w.Header()["Content-Type"] = nil
			io.WriteString(w, "<html>")
		}, ok + "\r\n<html>"},
		{"encoded", "GET", func(_ *testing.T, w http.ResponseWriter) {
			w.Header().Set("Content-Encoding", "x")
			io.WriteString(w, "<html>")
		}, ok + "Content-Encoding: x\r\n\r\n<html>"},
		{"status", "GET", func(_ *testing.T, w http.ResponseWriter) { w.WriteHeader(404) }, "Status: 404 Not Found\r\n\r\n"},
		{"status without a text", "GET", func(_ *testing.T, w http.ResponseWriter) { w.WriteHeader(299) }, "Status: 299\r\n\r\n"},
		{"1xx", "GET", func(_ *testing.T, w http.ResponseWriter) {
			w.WriteHeader(103)
			w.WriteHeader(101)
			w.WriteHeader(201)
		}, "Status: 201 Created\r\n\r\n"},
		{"changed too late", "GET", func(_ *testing.T, w http.ResponseWriter) {
			w.Header().Set("A", "1")
			w.WriteHeader(200)
			w.Header().Set("A", "2")
			w.Header().Set("B", "3")
		}, ok + "A: 1\r\n\r\n"},
		{"sorted and repeated", "GET", func(_ *testing.T, w http.ResponseWriter) {
			for _, n := range []string{"C", "A", "B"} {
				w.Header().Add(n, "1")
				w.Header().Add(n, "2")
			}
			w.WriteHeader(200)
		}, ok + "A: 1\r\nA: 2\r\nB: 1\r\nB: 2\r\nC: 1\r\nC: 2\r\n\r\n"},
		{"injection", "GET", func(_ *testing.T, w http.ResponseWriter) {
			w.Header().Set("A", " 1\r\nSet-Cookie: x\x00y\x7fz\n")
			w.Header()["Bad\r\nName"] = []string{"1"}
			w.Header()["Bad Name"] = []string{"1"}
			w.Header()[""] = []string{"1"}
			w.Header().Set("Status", "500")
			w.Header().Set("Transfer-Encoding", "chunked")
			w.Header().Set(http.TrailerPrefix+"T", "1")
			w.WriteHeader(200)
		}, ok + "A: 1  Set-Cookie: x y z\r\n\r\n"},
		{"HEAD", "HEAD", func(t *testing.T, w http.ResponseWriter) {
			n, err := io.WriteString(w, "<html>")
			n2, err2 := io.Copy(w, strings.NewReader("more"))
			if n != 6 || err != nil || n2 != 4 || err2 != nil {
				t.Errorf("got %d, %v; %d, %v", n, err, n2, err2)
			}
		}, ok + "Content-Type: text/html; charset=utf-8\r\n\r\n"},
		{"HEAD with a length", "HEAD", func(_ *testing.T, w http.ResponseWriter) { w.Header().Set("Content-Length", "70") }, ok + "Content-Length: 70\r\n\r\n"},
		{"204", "GET", func(t *testing.T, w http.ResponseWriter) {
			w.Header().Set("Content-Length", "2")
			w.WriteHeader(204)
			if n, err := io.WriteString(w, "no"); n != 0 || err != http.ErrBodyNotAllowed {
				t.Errorf("got %d, %v", n, err)
			}
		}, "Status: 204 No Content\r\n\r\n"},
		{"304", "GET", func(t *testing.T, w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/x")
			w.Header().Set("ETag", "e")
			w.WriteHeader(304)
			if n, err := w.Write([]byte("no")); n != 0 || err != http.ErrBodyNotAllowed {
				t.Errorf("got %d, %v", n, err)
			}
		}, "Status: 304 Not Modified\r\nEtag: e\r\n\r\n"},
		{"Content-Length", "GET", func(t *testing.T, w http.ResponseWriter) {
			w.Header().Set("Content-Length", "5")
			io.WriteString(w, "hello")
			if n, err := io.WriteString(w, "x"); n != 0 || err != http.ErrContentLength {
				t.Errorf("got %d, %v", n, err)
			}
		}, ok + "Content-Length: 5\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nhello"},
		{"Content-Length is none", "GET", func(_ *testing.T, w http.ResponseWriter) {
			w.Header().Set("Content-Length", "-5")
			io.WriteString(w, "hello")
		}, ok + "Content-Type: text/plain; charset=utf-8\r\n\r\nhello"},
		{"ReadFrom", "GET", func(t *testing.T, w http.ResponseWriter) {
			if n, err := io.Copy(w, strings.NewReader(strings.Repeat("x", 100_000))); n != 100_000 || err != nil {
				t.Errorf("got %d, %v", n, err)
			}
		}, ok + "Content-Type: text/plain; charset=utf-8\r\n\r\n" + strings.Repeat("x", 100_000)},
		{"ReadFrom with a length", "GET", func(t *testing.T, w http.ResponseWriter) {
			w.Header().Set("Content-Length", "5")
			if _, err := io.Copy(w, struct{ io.Reader }{strings.NewReader("hello, world")}); err != http.ErrContentLength {
				t.Errorf("got %v", err)
			}
			io.WriteString(w, "hello")
		}, "Status: 500 Internal Server Error\r\nContent-Type: text/plain\r\n\r\n500 Internal Server Error\n"},
		{"two Content-Lengths", "GET", func(_ *testing.T, w http.ResponseWriter) {
			w.Header()["Content-Length"] = []string{"1", "2"}
			w.Header()["content-length"] = []string{"3"}
			w.Header()["transfer-encoding"] = []string{"chunked"}
			w.Header()["STATUS"] = []string{"201"}
			io.WriteString(w, "x")
		}, ok + "Content-Length: 1\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nx"},
		{"ReadFrom nothing", "GET", func(_ *testing.T, w http.ResponseWriter) { io.Copy(w, bytes.NewReader(nil)) }, ok + "\r\n"},
		{"redirect", "GET", func(_ *testing.T, w http.ResponseWriter) {
			w.Header().Set("Location", "http://example.org/")
			w.WriteHeader(307)
		}, "Status: 307 Temporary Redirect\r\nLocation: http://example.org/\r\n\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, w := serveWeb(t, func(w http.ResponseWriter, _ *http.Request) { tt.h(t, w) })
				w.send(wiretest.Get(1, true, web("REQUEST_METHOD", tt.method)...))
				w.want(1, tt.want, wantStatus(tt.want))
			})
		})
	}
}

// wantStatus is the appStatus of an answer.
func wantStatus(answer string) uint32 {
	if strings.HasPrefix(answer, "Status: 500 ") {
		return 500
	}
	return 0
}

// A body that is shorter than its Content-Length fails the request: web servers
// would take what follows it, or nothing, for the rest.
func TestHTTPShortBody(t *testing.T) {
	for _, flush := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			v, w := serveWeb(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "100")
				w.Header().Set("Content-Type", "text/x")
				io.WriteString(w, "short")
				if flush {
					w.(http.Flusher).Flush()
				}
			})
			w.send(wiretest.Get(1, true, web()...))
			if flush {
				w.want(1, "Status: 200 OK\r\nContent-Length: 100\r\nContent-Type: text/x\r\n\r\nshort", 500)
			} else {
				w.wantPage(1, 500, 500)
			}
			synctest.Wait()
			if len(v.log.lines("outcome=error", "wrote 5 bytes, Content-Length is 100")) != 1 {
				t.Errorf("logged %q", v.log.lines())
			}
		})
	}
}

func TestHTTPSuperfluousHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, w := serveWeb(t, func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "x")
			w.WriteHeader(500)
		})
		w.send(wiretest.Get(1, true, web()...))
		r := w.reply(1)
		if got := r.Stderr; !strings.Contains(got, "superfluous WriteHeader(500) at ") || !strings.Contains(got, "http_test.go:") {
			t.Errorf("STDERR is %q", got)
		}
		if !strings.HasPrefix(r.Stdout, "Status: 200") {
			t.Errorf("STDOUT is %q", r.Stdout)
		}
	})
}

func TestHTTPInvalidStatusPanics(t *testing.T) {
	for _, code := range []int{0, 99, 600, 999, 1000, -1} {
		synctest.Test(t, func(t *testing.T) {
			v, w := serveWeb(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
			w.send(wiretest.Get(1, true, web()...))
			w.wantPage(1, 500, 500)
			synctest.Wait()
			if len(v.log.lines("ERROR", "invalid WriteHeader code")) != 1 {
				t.Errorf("logged %q", v.log.lines())
			}
		})
	}
}

// Streaming: what was written leaves with Flush, the header first.
func TestHTTPFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := make(chan struct{})
		_, w := serveWeb(t, func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			<-next
			io.WriteString(w, "one")
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			<-next
			io.WriteString(w, "two")
		})
		w.send(wiretest.Get(1, true, web()...))
		if rec := w.next(); rec.Content != "Status: 200 OK\r\n\r\n" {
			t.Errorf("got %v", rec)
		}
		w.wantSilence()
		next <- struct{}{}
		if rec := w.next(); rec.Content != "one" {
			t.Errorf("got %v", rec)
		}
		w.wantSilence()
		next <- struct{}{}
		w.want(1, "two", 0)
	})
}

// Both ways at once.
func TestHTTPFullDuplex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := serve(t, &fcgi.Server{Handler: fcgi.HTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
				t.Error(err)
			}
			w.Header().Set("Content-Type", "text/x")
			io.Copy(w, r.Body)
		}))}).dial()
		w.send(wiretest.Begin(1, true), wiretest.Params(1, web("CONTENT_LENGTH", "9")...), wiretest.Stdin(1, "one"))
		got := ""
		for strings.Count(got, "one") == 0 {
			got += w.next().Content
		}
		for _, part := range []string{"two", "six"} {
			w.send(wiretest.Stdin(1, part))
			if rec := w.next(); rec.Content != part {
				t.Errorf("got %v, want %q", rec, part)
			}
		}
		w.send(wiretest.Stdin(1, ""))
		w.want(1, "", 0)
	})
}

// Abort, lost client, timeout and shutdown end the http.Request's context.
func TestHTTPContext(t *testing.T) {
	for _, tt := range []struct {
		name  string
		end   func(v *served, w *wire)
		cause error
	}{
		{"abort", func(_ *served, w *wire) { w.send(wiretest.Abort(1)) }, fcgi.ErrAborted},
		{"lost client", func(_ *served, w *wire) { w.nc.Close() }, fcgi.ErrClientGone},
		{"timeout", func(*served, *wire) {}, fcgi.ErrTimeout},
		{"silent client", func(*served, *wire) {}, fcgi.ErrReadTimeout},
		{"shutdown", func(v *served, _ *wire) { v.stop() }, fcgi.ErrShutdown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cause := make(chan error, 1)
				s := &fcgi.Server{ShutdownTimeout: -1, ReadTimeout: 30 * time.Second, BodyMemory: 1, Handler: fcgi.HTTP(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					_, err := io.ReadAll(r.Body)
					<-r.Context().Done()
					if cause := context.Cause(r.Context()); !errors.Is(err, cause) {
						t.Errorf("body ends with %v, context with %v", err, cause)
					}
					cause <- context.Cause(r.Context())
				}))}
				if tt.cause == fcgi.ErrTimeout {
					s.Timeout = time.Second
				}
				v := serve(t, s)
				w := v.dial()
				w.send(wiretest.Begin(1, true), wiretest.Params(1, web("CONTENT_LENGTH", "9")...), wiretest.Stdin(1, "one"))
				w.wantSilence()
				tt.end(v, w)
				if got := <-cause; !errors.Is(got, tt.cause) {
					t.Errorf("cause is %v, want %v", got, tt.cause)
				}
			})
		})
	}
}

func TestHTTPAbortHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, w := serveWeb(t, func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "some")
			panic(http.ErrAbortHandler)
		})
		w.send(wiretest.Get(1, true, web()...))
		w.wantPage(1, 500, 500)
		synctest.Wait()
		if len(v.log.lines("stack")) > 0 {
			t.Errorf("logged %q", v.log.lines())
		}
	})
}

// The standard library's own pieces work with it.
func TestHTTPServeMuxAndContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mux := http.NewServeMux()
		mux.HandleFunc("GET /files/{name}", func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, r.PathValue("name"), time.Time{}, strings.NewReader("0123456789"))
		})
		_, w := serveWeb(t, mux.ServeHTTP)
		w.send(wiretest.Get(1, true, web("REQUEST_URI", "/files/a.txt", "HTTP_RANGE", "bytes=2-4")...))
		w.want(1, "Status: 206 Partial Content\r\nAccept-Ranges: bytes\r\nContent-Length: 3\r\nContent-Range: bytes 2-4/10\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n234", 0)
		w.send(wiretest.Get(1, true, web("REQUEST_URI", "/none")...))
		if r := w.reply(1); !strings.HasPrefix(r.Stdout, "Status: 404 ") || r.End.AppStatus != 0 {
			t.Errorf("got %q, %+v", r.Stdout, r.End)
		}
	})
}

// A handler called without a server, as in a test.
func TestHTTPWithoutStreams(t *testing.T) {
	h := fcgi.HTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.WriteHeader(200)
		io.Copy(w, r.Body)
		w.(http.Flusher).Flush()
	}))
	req := &fcgi.Request{}
	for i, more := 0, web("CONTENT_LENGTH", "5"); i < len(more); i += 2 {
		req.Params.Add(more[i], more[i+1])
	}
	if status, err := h.ServeFCGI(t.Context(), req); status != 0 || err != nil {
		t.Errorf("got %d, %v", status, err)
	}
	var out bytes.Buffer
	req.Stdin, req.Stdout = strings.NewReader("hello"), &out
	if _, err := h.ServeFCGI(t.Context(), req); err != nil || !strings.HasSuffix(out.String(), "\r\n\r\nhello") {
		t.Errorf("got %q, %v", out.String(), err)
	}
}

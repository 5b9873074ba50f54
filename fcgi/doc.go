// Package fcgi speaks FastCGI 1.0 from both ends: a [Server] answers what nginx,
// Apache, HAProxy and others send with Go functions or an [http.Handler], in this
// process, and a [Client] asks such an application, as a web server does.
//
// A FastCGI request is a process invocation, so a [Request] looks like an os/exec
// Cmd: an environment, the [Params]; standard input, output and error; and at the
// end a status, the appStatus.
//
// # Serving
//
// A web application behind nginx is a listener and a handler:
//
//	l, err := fcgi.Listen("unix:/run/app/app.sock", 0o666)
//	…
//	err = fcgi.Serve(l, mux)
//
// with, in nginx's configuration,
//
//	location / { include fastcgi_params; fastcgi_pass unix:/run/app/app.sock; }
//
// A [Server] has limits, timeouts and a log, and stops when its context ends. What
// needs no http.Request can be a [HandlerFunc], which is cheaper; a [Registry] lets a
// request choose between functions that have names, and a [Program] runs CGI programs.
//
// Unlike net/http/fcgi, it serves the requests of one connection independently of
// each other, ends a handler's context when its client goes away, keeps to what
// it advertises with GET_VALUES, bounds what a request may take, and can be
// stopped without losing one.
//
// # Asking
//
// A [Client] asks an application, on as many connections as it needs; a [Conn] is one of
// them. A [Transport] is an http.RoundTripper on top: with it, an httputil.ReverseProxy
// is a web server before php-fpm, say.
//
// # Stability
//
// This package, and the function Main of the module's root package, are the Go API
// of this module that is promised to stay.
package fcgi

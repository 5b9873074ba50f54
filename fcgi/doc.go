// Package fcgi speaks FastCGI 1.0, for programs that want to be a part of it
// without fcgid between: for now it is the client's side, what a web server
// does behind its fastcgi_pass.
//
// It is the one Go package of this module that is promised to stay. A FastCGI
// request is a process invocation, so a [Request] looks like an os/exec Cmd:
// an environment, standard input, output and error, and at the end a status,
// the [Result].
package fcgi

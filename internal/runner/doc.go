// Package runner does the work of requests. Process runs a CGI program for each
// one (RFC 3875): it finds the script, builds its environment, starts it, moves
// its input and output, and sees to it that it ends. Workers keeps FastCGI programs
// running and gives them the requests: docs/workers.md says how.
//
// A runner knows a request, never the connection that it came from.
package runner

// Package cgi reads what RFC 3875 says of requests and answers: which script a
// request names, the environment that a program gets for its params, the header
// of a response, and the lines that a program complains in. It knows no process
// and no connection.
package cgi

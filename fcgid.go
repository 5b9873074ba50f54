// Package fcgid is the program fcgid as a library of one function: a daemon
// behind nginx's fastcgi_pass that runs CGI programs and answers with Go
// functions.
//
// A program of yours that registers functions and calls [Main] is the whole
// daemon, with all its commands, and your functions in it:
//
//	func main() {
//		var functions fcgi.Registry
//		functions.HandleFunc("hello", hello)
//		fcgid.Main(&functions)
//	}
//
// A pool with the key function answers with them; SCRIPT_FILENAME names the
// one that is meant. See the folder examples/functions. To serve FastCGI in a
// program of your own, without the daemon, use package
// [github.com/fcgid/fcgid/fcgi].
package fcgid

import (
	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/cli"
)

// Main is the main function of the program fcgid: it does what the command line
// says and exits with its status. It is to be called first in main, since it
// may start the program anew.
//
// Its pools answer with functions, which are not to be added to later, and with
// those that every fcgid has: fcgid.ping, and where a pool names them fcgid.echo
// and fcgid.status. Names that begin with "fcgid." are theirs, and Main panics for one of them in functions.
// A nil functions is an empty one.
func Main(functions *fcgi.Registry) { cli.Main(functions) }

package fcgi_test

import (
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"os"
	"path/filepath"
	"strings"
)

// startApplication runs a FastCGI application, the standard library's, that
// answers in upper case.
func startApplication() (address string, stop func()) {
	dir, err := os.MkdirTemp("", "fcgi")
	if err != nil {
		panic(err)
	}
	address = filepath.Join(dir, "s")
	ln, err := net.Listen("unix", address)
	if err != nil {
		panic(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		fcgi.Serve(ln, http.HandlerFunc(upper))
	}()
	return address, func() {
		ln.Close()
		<-ended
		os.RemoveAll(dir)
	}
}

func upper(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "text/plain")
	io.WriteString(w, strings.ToUpper(string(body)))
}

package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/fcgi"
	"os"
	"os/exec"
	"strconv"
)

// children is how many PHP processes each side has.
const children = 4

// phpMaxRequests keeps php-cgi from ending after 500 requests.
const phpMaxRequests = "PHP_FCGI_MAX_REQUESTS=1000000"

// peer starts a server at the Unix socket that is named after it. The program is
// the first that is found; arguments are made of the socket's path.
func peer(name string, arguments func(r *rig, socket string) ([]string, error), program ...string) func(*rig) (*server, error) {
	return func(r *rig) (*server, error) {
		socket := r.path(name + ".sock")
		return r.once(name, "unix", socket, func() (*exec.Cmd, error) {
			path, err := need(program...)
			if err != nil {
				return nil, err
			}
			args, err := arguments(r, socket)
			return exec.Command(path, args...), err
		})
	}
}

// concurrent is how many CGI programs each side runs at once: fcgid's default.
func (r *rig) concurrent() int { return 4 * r.cpus }

var startFcgiwrap = peer("fcgiwrap", func(r *rig, socket string) ([]string, error) {
	return []string{"-c", strconv.Itoa(r.concurrent()), "-s", "unix:" + socket}, nil
}, "fcgiwrap")

var startUWSGI = peer("uwsgi", func(r *rig, socket string) ([]string, error) {
	return []string{
		"--plugin", "cgi", "--fastcgi-socket", socket, "--fastcgi-modifier1", "9", "--cgi", r.program("hello"),
		"--master", "--die-on-term", "--processes", strconv.Itoa(r.concurrent()), "--disable-logging",
	}, nil
}, "uwsgi-core", "uwsgi")

// startPHPFPM starts a php-fpm under that name. A case that gives it connections
// that are kept needs one of its own, since each of them holds a child.
func startPHPFPM(name string) func(*rig) (*server, error) {
	return peer(name, phpFPMArguments, "/usr/sbin/php-fpm*")
}

func phpFPMArguments(_ *rig, socket string) ([]string, error) {
	file := socket + ".conf"
	text := fmt.Sprintf("[global]\nerror_log = /proc/self/fd/2\n[www]\nlisten = %s\nlisten.mode = 0666\npm = static\npm.max_children = %d\n", socket, children)
	args := []string{"-F", "-y", file}
	if os.Getuid() == 0 {
		text += "user = " + userName() + "\n"
		args = append(args, "-R")
	}
	return args, os.WriteFile(file, []byte(text), 0o644)
}

var startSpawnFcgi = peer("spawn-fcgi", func(_ *rig, socket string) ([]string, error) {
	php, err := need("php-cgi")
	return []string{"-n", "-s", socket, "-C", strconv.Itoa(children), "--", "/usr/bin/env", phpMaxRequests, php}, err
}, "spawn-fcgi")

// startMultiwatch starts the program in C at descriptor 0, as many times.
var startMultiwatch = peer("multiwatch", func(r *rig, socket string) ([]string, error) {
	multiwatch, err := need("multiwatch")
	return []string{"-n", "-s", socket, "--", multiwatch, "-f", strconv.Itoa(libfcgiProcesses), "--", r.program("libfcgi_hello")}, err
}, "spawn-fcgi")

// startProxyLimit is what any proxy with as many workers of its own can reach.
func startProxyLimit(r *rig) (*server, error) {
	return peer("proxy", func(_ *rig, socket string) ([]string, error) {
		php, err := need("php-cgi")
		return []string{socket, strconv.Itoa(children), php}, err
	}, r.program("limit_proxy"))(r)
}

// libfcgiProcesses is how many processes the program in C has. Each holds one
// connection until it is closed.
const libfcgiProcesses = 2

func startLibfcgi(r *rig) (*server, error) {
	return peer("libfcgi", func(_ *rig, socket string) ([]string, error) {
		return []string{socket, strconv.Itoa(libfcgiProcesses)}, nil
	}, r.program("libfcgi_hello"))(r)
}

func startEchoLimit(r *rig) (*server, error) {
	return peer("echo", func(_ *rig, socket string) ([]string, error) {
		return []string{socket}, nil
	}, r.program("limit_echo"))(r)
}

// netHTTPArgument makes the benchmark's own binary the program with net/http/fcgi.
const netHTTPArgument = "peer-net-http-fcgi"

var startNetHTTP = peer("nethttp", func(_ *rig, socket string) ([]string, error) {
	return []string{netHTTPArgument, socket}, nil
}, "/proc/self/exe")

// serveNetHTTP is that program. It returns only with an error.
func serveNetHTTP(socket string) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	return fcgi.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Write([]byte("hello\n"))
	}))
}

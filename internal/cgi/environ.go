package cgi

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/fcgid/fcgid/internal/protocol"
)

// defaultPath is the PATH of a program for which nothing else sets one.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// maxString is the longest string of an environment, with its end: what the
// kernel calls MAX_ARG_STRLEN (execve(2)), 128 KiB with pages of 4 KiB.
var maxString = 32 * os.Getpagesize()

// steering are variables with which a client could steer the dynamic loader or
// an interpreter. A web server hands on what the client sent as HTTP_* only, but
// a request on a socket need not come from a web server.
var steering = map[string]bool{
	"HTTP_PROXY": true, // httpoxy, CVE-2016-5385 and others
	"ENV":        true, "IFS": true, "CDPATH": true, "PS4": true, "SHELLOPTS": true, "BASHOPTS": true,
	"BASH_ENV": true, "ZDOTDIR": true, "FPATH": true,
	"PERLLIB": true, "PERL_UNICODE": true, "PERL_SIGNALS": true, "PERLIO": true, "PERLIO_DEBUG": true,
	"RUBYOPT": true, "RUBYLIB": true, "RUBYSHELL": true, "GEM_HOME": true, "GEM_PATH": true,
	"NODE_OPTIONS": true, "NODE_PATH": true, "NODE_EXTRA_CA_CERTS": true,
	"JAVA_TOOL_OPTIONS": true, "JDK_JAVA_OPTIONS": true, "_JAVA_OPTIONS": true, "CLASSPATH": true,
	"PHPRC": true, "PHP_INI_SCAN_DIR": true, "TCLLIBPATH": true, "GUILE_LOAD_PATH": true,
	"GCONV_PATH": true, "LOCPATH": true, "NLSPATH": true, "GLIBC_TUNABLES": true, "HOSTALIASES": true,
	"RES_OPTIONS": true, "LOCALDOMAIN": true, "GETCONF_DIR": true, "TZDIR": true,
	"OPENSSL_CONF": true, "OPENSSL_MODULES": true, "OPENSSL_ENGINES": true, "SSLKEYLOGFILE": true,
}

// steeringPrefixes begin further ones: none of these families has a name that a
// web server would set.
var steeringPrefixes = []string{"LD_", "DYLD_", "MALLOC_", "BASH_FUNC_", "PYTHON", "PERL5", "LUA_", "JULIA_"}

// Steers reports whether a param of that name is kept from programs.
func Steers(name string) bool {
	return steering[name] ||
		slices.ContainsFunc(steeringPrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// An environ is an environment that is put together: each name once, in the
// order in which it first came.
type environ struct {
	list  []string
	text  strings.Builder  // what list consists of
	index map[string]int   // from environIndexes
	more  map[int][]string // further values of an HTTP header's fields, by place in list
}

// add takes a param; of a repeated name the last wins, but the fields of an
// HTTP header are one list.
func (e *environ) add(name, value string) {
	i, known := e.index[name]
	if !known || !strings.HasPrefix(name, "HTTP_") {
		e.set(name, value)
		return
	}
	if e.more == nil {
		e.more = make(map[int][]string)
	}
	e.more[i] = append(e.more[i], value)
}

// join makes lists of repeated fields (RFC 9110, section 5.3; RFC 6265, section 5.4).
func (e *environ) join() {
	for i, values := range e.more {
		separator := ", "
		if strings.HasPrefix(e.list[i], "HTTP_COOKIE=") {
			separator = "; "
		}
		e.list[i] += separator + strings.Join(values, separator)
	}
}

func (e *environ) set(name, value string) {
	pair := e.pair(name, value)
	if i, known := e.index[name]; known {
		e.list[i] = pair
		return
	}
	e.index[name] = len(e.list)
	e.list = append(e.list, pair)
}

// pair is name=value. Many share one piece of memory.
func (e *environ) pair(name, value string) string {
	if need := len(name) + 1 + len(value); e.text.Cap()-e.text.Len() < need {
		e.text = strings.Builder{}
		e.text.Grow(max(need, 2<<10))
	}
	start := e.text.Len()
	e.text.WriteString(name)
	e.text.WriteByte('=')
	e.text.WriteString(value)
	return e.text.String()[start:]
}

// environIndexes are empty maps, for they take more memory than what they tell of.
var environIndexes = sync.Pool{New: func() any { return make(map[string]int, 64) }}

// done gives back what the environment was made with. A map that was large stays so.
func (e *environ) done() {
	if len(e.index) <= 256 {
		clear(e.index)
		environIndexes.Put(e.index)
	}
}

func (e *environ) setMissing(name, value string) {
	if _, known := e.index[name]; !known {
		e.set(name, value)
	}
}

// An Environment is what the scripts of a pool get beside the params.
type Environment struct {
	Software string   // SERVER_SOFTWARE when the web server sent none
	Fixed    []string // NAME=value: what the pool passes on and sets, from FixedEnv
}

// Of is the environment of a script: the params, what RFC 3875 demands of a
// server, and what is fixed, which wins. An error is a *protocol.Refusal.
func (p *Environment) Of(params *protocol.Params, s *Script) ([]string, error) {
	size := params.Len() + 8
	e := environ{list: make([]string, 0, size), index: environIndexes.Get().(map[string]int)}
	defer e.done()
	for name, value := range params.All() {
		if isName(name) && !Steers(name) && strings.IndexByte(value, 0) < 0 {
			e.add(name, value)
		}
	}
	e.join()
	e.set("SCRIPT_FILENAME", s.Path)
	if s.PathInfo != "" {
		setPathInfo(&e, params, s.PathInfo)
	}
	e.setMissing("GATEWAY_INTERFACE", "CGI/1.1")
	e.setMissing("SERVER_SOFTWARE", p.Software)
	e.setMissing("QUERY_STRING", "")
	if len(s.Argv) > 1 {
		e.setMissing("REDIRECT_STATUS", "200") // php-cgi's cgi.force_redirect
	}
	for _, kv := range p.Fixed {
		name, value, _ := strings.Cut(kv, "=")
		e.set(name, value)
	}
	e.setMissing("PATH", defaultPath)
	for _, kv := range e.list {
		if len(kv)+1 > maxString {
			name, _, _ := strings.Cut(kv, "=")
			return nil, &protocol.Refusal{
				HTTPStatus: 431, AppStatus: 431,
				Reason: fmt.Errorf("%.200s is longer than the %d bytes that the kernel takes", name, maxString),
			}
		}
	}
	return e.list, nil
}

// setPathInfo tells a script what followed its name where that was found in
// SCRIPT_FILENAME or SCRIPT_NAME (RFC 3875, sections 4.1.5, 4.1.6 and 4.1.13).
// SCRIPT_NAME and PATH_INFO, put together, are the URL's path before and after.
func setPathInfo(e *environ, params *protocol.Params, pathInfo string) {
	e.set("PATH_INFO", pathInfo)
	url := cleaned(params.Get("SCRIPT_NAME"))
	if !strings.HasSuffix(url, pathInfo) {
		url += params.Get("PATH_INFO")
	}
	if name, ok := strings.CutSuffix(url, pathInfo); ok {
		e.set("SCRIPT_NAME", name)
	}
	if root := params.Get("DOCUMENT_ROOT"); root != "" {
		e.set("PATH_TRANSLATED", strings.TrimSuffix(root, "/")+pathInfo)
	}
}

// isName reports whether s may name a variable of a program: other names are
// not reachable from a shell, or are no names at all.
func isName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// WorkerEnvironment is the environment of a worker: what is fixed, and PATH. Of a
// repeated name the last wins.
func WorkerEnvironment(fixed ...string) []string {
	e := environ{index: make(map[string]int, len(fixed)+1)}
	for _, kv := range fixed {
		name, value, _ := strings.Cut(kv, "=")
		e.set(name, value)
	}
	e.setMissing("PATH", defaultPath)
	return e.list
}

// FixedEnv is what a pool adds to every environment: names of pass that are
// set in the daemon's own, then env.
func FixedEnv(pass, env []string) []string {
	var all []string
	for _, name := range pass {
		if v, ok := os.LookupEnv(name); ok {
			all = append(all, name+"="+v)
		}
	}
	return append(all, env...)
}

package cgi

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/fcgid/fcgid/internal/protocol"
)

// defaultPath is the PATH of a program for which nothing else sets one.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// maxString is the longest string of an environment, with its end: what the
// kernel calls MAX_ARG_STRLEN (execve(2)), 128 KiB with pages of 4 KiB.
var maxString = 32 * os.Getpagesize()

// Options say what the programs of a pool are told beside the params of a request.
type Options struct {
	Software     string   // SERVER_SOFTWARE where the web server sent none
	Env          []string // NAME=value: wins over params
	PassEnv      []string // variables of the daemon's environment, for what neither has
	PassParams   []string // names of params that would else be dropped
	SingleFields []string // path.Match patterns of HTTP_ params that may come once only
	// Command is a worker's command line; a CGI pool has none. From it follows whether the
	// worker finds its script among the params by itself, as php-cgi does.
	Command []string
	// User is the number of the user that the programs run as; nil is ours.
	User *uint32
	// Chroot is the root of the programs; "" is ours. Params that name files of it say
	// what these are called there.
	Chroot string
	// Dropped is called for a param that is kept from a program, once for each
	// name, and why. It may be called by several goroutines at once. It may be nil.
	Dropped func(name, why string)
}

// An Environment makes of the params of requests what the programs of a pool
// are told. It may be used by many goroutines at once.
//
// What Env has wins over the params, these over PassEnv, and that over what is
// missing and cannot be.
type Environment struct {
	opt     Options
	pass    []string          // NAME=value
	user    []string          // NAME=value, of the user that programs run as
	set     map[string]string // Options.Env: the last of each name
	mayPass map[string]bool
	dropped dropped
	alone   bool // the worker finds its script by itself
}

// NewEnvironment returns an Environment. It looks at the daemon's own
// environment, at who programs run as, and at the files of Command now.
func NewEnvironment(opt Options) *Environment {
	uid := os.Geteuid()
	if opt.User != nil {
		uid = int(*opt.User)
	}
	e := &Environment{opt: opt, user: userVariables(uid), set: make(map[string]string), mayPass: make(map[string]bool)}
	for _, name := range opt.PassEnv {
		if value, ok := os.LookupEnv(name); ok {
			e.pass = append(e.pass, name+"="+value)
		}
	}
	for _, pair := range opt.Env {
		name, value, _ := strings.Cut(pair, "=")
		e.set[name] = value
	}
	for _, name := range opt.PassParams {
		e.mayPass[name] = true
	}
	e.dropped.report = opt.Dropped
	e.alone = opt.Chroot != "" || commandLooksItself(opt.Command, e.path(new(variables)))
	return e
}

// userVariables are those that login(1) and php-fpm set for a user.
func userVariables(uid int) []string {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return []string{"HOME=/"}
	}
	return []string{"HOME=" + u.HomeDir, "USER=" + u.Username, "LOGNAME=" + u.Username}
}

// Of is the environment of a script that is started for one request, which has that id,
// if any. The error is a *protocol.Refusal.
func (e *Environment) Of(params *protocol.Params, id *protocol.RequestID, s *Script) ([]string, error) {
	v := newVariables()
	defer v.done()
	for name, value := range params.All() {
		if e.arrives(name, value) {
			v.add(name, value)
		}
	}
	if err := v.join(e.opt.SingleFields); err != nil {
		return nil, err
	}
	told := *s
	told.alone = s.alone || s.mayLook && looksItself(s.Path, e.path(v))
	told.agree(v, e.mayPass)
	v.enterChroot(e.opt.Chroot)
	if told.alone {
		v.setMissing("REDIRECT_STATUS", "200") // php-cgi's cgi.force_redirect
	}
	if id.IsKnown() {
		v.set(protocol.IDParam, id.String())
	}
	v.setPairs(e.opt.Env)
	v.setMissingPairs(e.pass)
	v.setMissing("GATEWAY_INTERFACE", "CGI/1.1")
	v.setMissing("SERVER_SOFTWARE", e.opt.Software)
	v.setMissing("QUERY_STRING", "")
	e.setDefaults(v)
	return v.strings()
}

// path is the PATH that a program with these params gets.
func (e *Environment) path(v *variables) string {
	path := defaultPath
	take := func(pairs []string) {
		for _, pair := range pairs {
			if value, ok := strings.CutPrefix(pair, "PATH="); ok {
				path = value
			}
		}
	}
	take(e.pass)
	if i, ok := v.index["PATH"]; ok {
		path = v.list[i].value
	}
	take(e.opt.Env)
	return path
}

func (e *Environment) setDefaults(v *variables) {
	v.setMissing("PATH", defaultPath)
	v.setMissingPairs(e.user)
}

// OfWorker is the environment of a program that is started before there is a
// request, which has these pairs, NAME=value, where nothing else has one.
func (e *Environment) OfWorker(defaults ...string) []string {
	v := newVariables()
	defer v.done()
	v.setPairs(e.opt.Env)
	v.setMissingPairs(e.pass)
	v.setMissingPairs(defaults)
	e.setDefaults(v)
	list := make([]string, 0, len(v.list))
	for _, x := range v.list {
		list = append(list, x.name+"="+x.value)
	}
	return list
}

// strings are NAME=value. All share one piece of memory.
func (v *variables) strings() ([]string, error) {
	size := 0
	for _, x := range v.list {
		if len(x.name)+1+len(x.value)+1 > maxString {
			return nil, &protocol.Refusal{
				HTTPStatus: 431, AppStatus: 431,
				Reason: fmt.Errorf("%.200s is longer than the %d bytes that the kernel takes", x.name, maxString),
			}
		}
		size += len(x.name) + 1 + len(x.value)
	}
	var text strings.Builder
	text.Grow(size)
	list := make([]string, 0, len(v.list))
	for _, x := range v.list {
		if x.name == "" {
			continue
		}
		start := text.Len()
		text.WriteString(x.name)
		text.WriteByte('=')
		text.WriteString(x.value)
		list = append(list, text.String()[start:])
	}
	return list, nil
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

package cgi

import (
	"path"
	"strings"

	"github.com/fcgid/fcgid/internal/protocol"
)

// ForWorker are what a worker is sent of a request's params: as they came where
// that can be, else each name once. Where rules is not nil the script is looked
// for, and the worker is asked for that file and no other. Without rules the
// worker looks itself; what Apache sends to php-fpm has php-cgi run what php-fpm
// would run. A php-cgi that looks itself is told of nothing beside SCRIPT_FILENAME that
// it would take for its script. The error is a *protocol.Refusal.
func (e *Environment) ForWorker(params *protocol.Params, rules *Rules) (*protocol.Params, error) {
	s, err := e.workerScript(params, rules)
	if err != nil {
		return nil, err
	}
	if s.Path == "" && e.opt.Chroot == "" && e.arriveAsTheyCame(params) {
		return params, nil
	}
	return e.rewrite(params, &s)
}

// IDForWorker is the id that a worker is to be sent besides its params, or nil: they may
// have it, and what the pool sets wins.
func (e *Environment) IDForWorker(id *protocol.RequestID) *protocol.RequestID {
	if _, set := e.set[protocol.IDParam]; set || !id.IsKnown() || id.IsParam() {
		return nil
	}
	return id
}

// rewrite is ForWorker of what may have to be changed.
func (e *Environment) rewrite(params *protocol.Params, s *Script) (*protocol.Params, error) {
	v := newVariables()
	defer v.done()
	for name, value := range params.All() {
		if e.arrivesAtWorker(name) {
			v.add(name, value)
		} else {
			v.changed = true
		}
	}
	if err := v.join(e.opt.SingleFields); err != nil {
		return nil, err
	}
	_, redirected := v.index["REDIRECT_URL"]
	switch {
	case s.Path != "":
		s.agree(v, e.mayPass)
	case redirected:
		v.leaveAlone(e.mayPass)
	case e.alone && v.get("SCRIPT_FILENAME") != "":
		v.takeOut("PATH_TRANSLATED")
	}
	v.enterChroot(e.opt.Chroot)
	e.complete(v)
	if !v.changed {
		return params, nil
	}
	return v.params(), nil
}

// maxPlain is for how many params a nameSet has bits enough. Of more most names look like
// another one, and a map is cheaper than to look at all that came before.
const maxPlain = 256

// arriveAsTheyCame reports whether a worker that looks for its script itself is sent the
// params as they came, which is the usual case: none is dropped, repeated or set. It may
// say no where that is so.
func (e *Environment) arriveAsTheyCame(params *protocol.Params) bool {
	if params.Len() > maxPlain {
		return false
	}
	var seen nameSet
	gateway, software := false, e.opt.Software == ""
	named, translated := false, false
	n := 0
	for name, value := range params.All() {
		switch name {
		case "GATEWAY_INTERFACE":
			gateway = true
		case "SERVER_SOFTWARE":
			software = true
		case "SCRIPT_FILENAME":
			named = value != ""
		case "PATH_TRANSLATED":
			translated = e.alone
		case "REDIRECT_URL":
			return false
		}
		switch {
		case !e.arrivesAtWorker(name),
			seen.add(name) && comesBefore(params, n, name),
			!e.hasSet(name, value):
			return false
		}
		n++
	}
	return gateway && software && !(named && translated)
}

// hasSet reports whether what the pool sets leaves a param as it is.
func (e *Environment) hasSet(name, value string) bool {
	set, is := e.set[name]
	return !is || set == value
}

// A nameSet is a set of names that takes no memory from the heap. Each name has a bit, and
// some names share one: it may have a name that was never added.
type nameSet [16]uint64

// add reports whether the name may be there already.
func (s *nameSet) add(name string) bool {
	h := uint32(len(name))
	for i := 0; i < len(name); i++ {
		h = h*31 + uint32(name[i])
	}
	h = h * 0x9e3779b1 >> 22
	word, bit := &s[h/64], uint64(1)<<(h%64)
	known := *word&bit != 0
	*word |= bit
	return known
}

// comesBefore reports whether one of the first n params has that name.
func comesBefore(params *protocol.Params, n int, name string) bool {
	for other := range params.All() {
		if n == 0 {
			break
		}
		if other == name {
			return true
		}
		n--
	}
	return false
}

// workerScript is the script that a worker is asked for. Its Path is "" where
// that is the worker's business.
func (e *Environment) workerScript(params *protocol.Params, rules *Rules) (Script, error) {
	if rules != nil {
		return rules.FindRead(params)
	}
	r, err := readRequest(params)
	looks := e.alone && (r.isURL || leadsThroughFile(r.filename))
	if err != nil || !r.isURL && !looks {
		return Script{}, err
	}
	f, err := r.locate()
	switch {
	case err == nil && looks && !isPHP(f.name) && isPHP(r.extra):
		return Script{}, forbidden("script %.200q: it is path info that is named as a script is, and the file %s is none", r.filename, f.name)
	case !r.isURL:
		return Script{}, nil
	case err != nil:
		return Script{Path: r.filename, alone: true}, nil // it may be there for the worker
	}
	return Script{Path: f.name, request: r, alone: true}, nil
}

// leadsThroughFile reports whether a folder of the name may be a file, by its extension.
func leadsThroughFile(name string) bool {
	return strings.Contains(name[:strings.LastIndexByte(name, '/')+1], ".")
}

// isPHP reports whether a web server may take the path for one of a script of PHP: some
// part of it has the extension. PHP runs photo.jpg when it is asked for photo.jpg/x.php.
func isPHP(name string) bool {
	for part := range strings.SplitSeq(strings.ToLower(name), "/") {
		if extension := path.Ext(part); strings.HasPrefix(extension, ".ph") {
			return true
		}
	}
	return false
}

// complete has what the pool sets win over the params, and adds what RFC 3875,
// section 4.1, demands. What the pool sets and no param does the worker has in its
// own environment.
func (e *Environment) complete(v *variables) {
	for _, pair := range e.opt.Env {
		name, value, _ := strings.Cut(pair, "=")
		if _, known := v.index[name]; known {
			v.set(name, value)
		}
	}
	v.setMissing("GATEWAY_INTERFACE", "CGI/1.1")
	if e.opt.Software != "" {
		v.setMissing("SERVER_SOFTWARE", e.opt.Software)
	}
}

func (v *variables) params() *protocol.Params {
	p := new(protocol.Params)
	for _, x := range v.list {
		if x.name != "" {
			p.Add(x.name, x.value)
		}
	}
	return p
}

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
	e.complete(v)
	if !v.changed {
		return params, nil
	}
	return v.params(), nil
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

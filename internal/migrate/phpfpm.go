package migrate

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/ini.v1"
)

// PHPOptions say what php-fpm's files do not.
type PHPOptions struct {
	Program string   // php-cgi's path
	Root    []string // the folders of the scripts; empty: workers look for any, as php-fpm does
}

// A directive is a line of php-fpm's.
type directive struct {
	name, value string
	isQuoted    bool // it was in quotes: PHP takes it for text, with neither operators nor words in it
}

// An fpm is what php-fpm was told, with the files that it includes.
type fpm struct {
	global []directive
	pools  []fpmPool
	seen   map[string]bool
}

type fpmPool struct {
	name       string
	directives []directive
}

// PHPFPM writes the configuration for what these files say, each a php-fpm.conf or a file
// of pools.
func PHPFPM(o PHPOptions, files ...string) (string, error) {
	f := fpm{seen: make(map[string]bool)}
	for _, file := range files {
		if err := f.read(file); err != nil {
			return "", err
		}
	}
	if len(f.pools) == 0 {
		return "", fmt.Errorf("%s: there is no pool, which is a section [name]", strings.Join(files, ", "))
	}
	var p page
	p.comment(0, "Made by fcgid import php-fpm %s", strings.Join(files, " "))
	f.writeGlobal(&p)
	p.line(0, "pools:")
	for i := range f.pools {
		if err := f.pools[i].write(&p, &o, len(f.pools) == 1); err != nil {
			return "", err
		}
	}
	return p.String(), nil
}

// read takes a file and those that it includes.
func (f *fpm) read(name string) error {
	if f.seen[name] {
		return nil
	}
	f.seen[name] = true
	file, err := ini.LoadSources(ini.LoadOptions{
		AllowShadows: true, AllowDuplicateShadowValues: true, AllowBooleanKeys: true,
		IgnoreInlineComment: true, PreserveSurroundedQuote: true, IgnoreContinuation: true, KeyValueDelimiters: "=",
	}, name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, section := range file.Sections() {
		for _, key := range section.Keys() {
			for _, value := range key.ValueWithShadows() {
				if err := f.add(name, section.Name(), newDirective(key.Name(), value)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

var (
	quotedValue = regexp.MustCompile(`^"((?:[^"\\]|\\.)*)"`)
	rawValue    = regexp.MustCompile(`^'([^']*)'`)
)

// newDirective reads a value as PHP's files have it: in quotes, with \" and \\ in them, in
// single ones, or up to a semicolon.
func newDirective(name, text string) directive {
	if m := quotedValue.FindStringSubmatch(text); m != nil {
		return directive{name, strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(m[1]), true}
	}
	if m := rawValue.FindStringSubmatch(text); m != nil {
		return directive{name, m[1], true}
	}
	value, _, _ := strings.Cut(text, ";")
	return directive{name, strings.TrimSpace(value), false}
}

// setting is the value for php-cgi's -d, which reads it as PHP's files are read.
func (d directive) setting() string {
	if d.isQuoted {
		return `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(d.value) + `"`
	}
	return d.value
}

func (f *fpm) add(file, section string, d directive) error {
	switch {
	case d.name == "include":
		return f.include(file, d.value)
	case section == "global" || section == ini.DefaultSection:
		f.global = append(f.global, d)
		return nil
	}
	d.value = strings.ReplaceAll(d.value, "$pool", section)
	i := slices.IndexFunc(f.pools, func(p fpmPool) bool { return p.name == section })
	if i < 0 {
		i = len(f.pools)
		f.pools = append(f.pools, fpmPool{name: section})
	}
	f.pools[i].directives = append(f.pools[i].directives, d)
	return nil
}

func (f *fpm) include(file, pattern string) error {
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(filepath.Dir(file), pattern)
	}
	matches, err := filepath.Glob(pattern)
	if err != nil {
		return fmt.Errorf("%s: include %s: %w", file, pattern, err)
	}
	for _, m := range matches {
		if err := f.read(m); err != nil {
			return err
		}
	}
	return nil
}

func (f *fpm) writeGlobal(p *page) {
	var whole, log mapping
	for _, d := range f.global {
		switch d.name {
		case "error_log":
			switch {
			case d.value == "/proc/self/fd/2" || d.value == "/dev/stderr":
				// so it is
			case filepath.IsAbs(d.value):
				log.set("output", quote(d.value))
			default:
				p.comment(0, "error_log = %s: %s", d.value, "the daemon's log goes to stderr, so to the journal; log.output may be the absolute path of a file")
			}
		case "log_level":
			level := map[string]string{"alert": "error", "error": "error", "warning": "warn", "notice": "info", "debug": "debug"}[d.value]
			if level != "" {
				log.set("level", level)
			}
		case "process_control_timeout":
			if t, err := duration(d.value); err == nil && t > 0 {
				whole.set("shutdown_timeout", t.String())
			}
		default:
			p.comment(0, "%s = %s: %s", d.name, d.value, why(d.name))
		}
	}
	if len(log) > 0 {
		whole.set("log", log.flow())
	}
	if access := f.access(); len(access) > 0 {
		whole.set("access_log", access.flow())
	}
	p.mapping(0, whole)
}

// access is the access log of the one pool, if there is one; of several it is for people to
// say what the daemon's is.
func (f *fpm) access() (keys mapping) {
	if len(f.pools) != 1 {
		return nil
	}
	var suppressed []string
	for _, d := range f.pools[0].directives {
		switch {
		case d.name == "access.log" && (d.value == "/proc/self/fd/2" || d.value == "/dev/stderr"):
			keys.set("output", "stderr")
		case d.name == "access.log":
			keys.set("output", quote(d.value))
		case d.name == "access.format":
			keys.set("format", quote(d.value))
		case strings.HasPrefix(d.name, "access.suppress_path"):
			suppressed = append(suppressed, d.value)
		}
	}
	if len(suppressed) > 0 {
		keys.set("suppress", list(suppressed))
	}
	return keys
}

// noCounterpart says why a directive is a comment.
var noCounterpart = map[string]string{
	"pid":                         "fcgid writes none; its service manager knows it",
	"daemonize":                   "fcgid stays in the foreground",
	"syslog.facility":             "stderr goes to the journal, with priorities",
	"syslog.ident":                "stderr goes to the journal, with priorities",
	"log_limit":                   "a line of a program's is not cut at so many bytes",
	"log_buffering":               "lines are whole in any case",
	"emergency_restart_threshold": "workers that die are started again, more slowly each time, and their pool is degraded meanwhile",
	"emergency_restart_interval":  "workers that die are started again, more slowly each time, and their pool is degraded meanwhile",
	"process.max":                 "worker.max is of each pool",
	"process.priority":            "sandbox.nice is of each pool",
	"events.mechanism":            "it is epoll",
	"rlimit_files":                "sandbox.rlimits is of each pool",
	"rlimit_core":                 "sandbox.rlimits is of each pool",
	"prefix":                      "paths are absolute",
	"systemd_interval":            "the unit's WatchdogSec= is looked at",
	"listen.setfib":               "is for FreeBSD",
	"listen.acl_users":            "listen.allow_uids names users that may connect, and listen.owner and group those whom the mode lets in",
	"listen.acl_groups":           "listen.group names the group whom the mode lets in",
	"apparmor_hat":                "the unit's AppArmorProfile=, or sandbox.read and write",
	"process.dumpable":            "the kernel's default stays",
	"pm.status_listen":            "status stays there when a pool is full, and /status of the admin server tells of all pools",
	"decorate_workers_output":     "a line of a worker is a field of a log entry",
	"clear_env":                   "nothing of the daemon's environment arrives but pass_env: name there what the program needs",
	"request_terminate_timeout_track_finished": "timeout counts until the worker is free",
	"request_slowlog_trace_depth":              "slow.command may be a program that makes a trace",
}

func why(name string) string {
	if text, ok := noCounterpart[name]; ok {
		return text
	}
	return "is no directive of php-fpm that is known here"
}

// An fpmKey is the key that has a directive's value, in a part of the pool, and how the
// value is written there.
type fpmKey struct {
	part  func(*poolPage) *mapping
	key   string
	write func(string) string
}

func ofPool(w *poolPage) *mapping    { return &w.pool }
func ofListen(w *poolPage) *mapping  { return &w.listen }
func ofWorker(w *poolPage) *mapping  { return &w.worker }
func ofSandbox(w *poolPage) *mapping { return &w.sandbox }
func ofRlimits(w *poolPage) *mapping { return &w.rlimits }
func ofSlow(w *poolPage) *mapping    { return &w.slow }
func asItIs(value string) string     { return value }

// fpmKeys are those of directives that need no more than another name.
var fpmKeys = map[string]fpmKey{
	"user": {ofPool, "user", quote}, "group": {ofPool, "group", quote},
	"listen.owner": {ofListen, "owner", quote}, "listen.group": {ofListen, "group", quote}, "listen.mode": {ofListen, "mode", quote},
	"pm": {ofWorker, "scale", quote}, "pm.max_children": {ofWorker, "max", number}, "pm.start_servers": {ofWorker, "min", number},
	"pm.min_spare_servers": {ofWorker, "min_spare", number}, "pm.max_spare_servers": {ofWorker, "max_spare", number},
	"pm.max_spawn_rate": {ofWorker, "spawn_rate", number}, "pm.max_requests": {ofWorker, "max_requests", number},
	"chdir": {ofWorker, "dir", quote}, "chroot": {ofSandbox, "chroot", quote}, "process.priority": {ofSandbox, "nice", number},
	"rlimit_files": {ofRlimits, "nofile", asItIs}, "rlimit_core": {ofRlimits, "core", asItIs}, "slowlog": {ofSlow, "log", quote},
	"pm.status_path": {ofPool, "status_path", quote}, "ping.path": {ofPool, "ping_path", quote}, "ping.response": {ofPool, "ping_response", quote},
}

// A poolPage is a pool that is being written: its keys, in the order of configs/fcgid.yaml.
type poolPage struct {
	o         *PHPOptions
	name      string
	isOnly    bool    // there is no other pool
	listen    mapping // but its address
	allow     []string
	pool      mapping // its own keys
	worker    mapping
	sandbox   mapping
	slow      mapping
	rlimits   mapping  // of words
	env       mapping  // of words
	passed    []string // of the daemon's environment
	argv      []string
	comments  []string
	address   string
	extension []string
}

func (p *fpmPool) write(out *page, o *PHPOptions, isOnly bool) error {
	w := poolPage{o: o, name: p.name, isOnly: isOnly, argv: []string{o.Program}, extension: []string{".php", ".phar"}}
	for _, d := range p.directives {
		if err := w.take(d); err != nil {
			return fmt.Errorf("[%s] %s = %s: %w", p.name, d.name, d.value, err)
		}
	}
	if w.address == "" {
		return fmt.Errorf("[%s]: there is no listen", p.name)
	}
	w.write(out)
	return nil
}

var indexed = regexp.MustCompile(`^(env|php_value|php_flag|php_admin_value|php_admin_flag)\[(.+)\]$`)

// take takes a directive.
func (w *poolPage) take(d directive) error {
	if m := indexed.FindStringSubmatch(d.name); m != nil {
		return w.takeIndexed(m[1], m[2], d)
	}
	if k, ok := fpmKeys[d.name]; ok {
		k.part(w).set(k.key, k.write(d.value))
		return nil
	}
	switch d.name {
	case "listen":
		w.address = address(d.value)
	case "listen.backlog":
		if n, err := strconv.Atoi(d.value); err == nil && n > 0 {
			w.listen.set("backlog", number(d.value))
		}
	case "listen.allowed_clients":
		w.allow = strings.FieldsFunc(d.value, func(r rune) bool { return r == ',' || r == ' ' })
	case "pm.process_idle_timeout":
		return w.takeDuration(&w.worker, "idle_timeout", d.value)
	case "request_terminate_timeout":
		if limit, _ := duration(d.value); limit >= 50*time.Second {
			w.comments = append(w.comments, "timeout: with queue_timeout's 10s it reaches nginx's fastcgi_read_timeout (60s): raise that, or have less here")
		}
		return w.takeDuration(&w.pool, "timeout", d.value)
	case "request_slowlog_timeout":
		return w.takeDuration(&w.slow, "after", d.value)
	case "security.limit_extensions":
		w.extension = strings.Fields(strings.ReplaceAll(d.value, ",", " "))
	case "catch_workers_output": // it is always so
	case "access.log", "access.format", "access.suppress_path[]", "access.suppress_path":
		if !w.isOnly {
			w.comments = append(w.comments, d.name+" = "+d.value+": access_log is of the whole daemon, and each line names its pool")
		}
	default:
		w.comments = append(w.comments, d.name+" = "+d.value+": "+why(d.name))
	}
	return nil
}

// takeIndexed takes env[NAME] and PHP's settings.
func (w *poolPage) takeIndexed(kind, name string, d directive) error {
	switch value := d.value; kind {
	case "env":
		if variable, ok := strings.CutPrefix(value, "$"); ok {
			if variable != name {
				w.comments = append(w.comments, "env["+name+"] = "+value+": pass_env passes a variable on by its own name only")
				return nil
			}
			if len(w.passed) == 0 {
				w.passed = []string{"PATH", "LANG", "TZ"} // as without the key
			}
			if !slices.Contains(w.passed, name) {
				w.passed = append(w.passed, name)
			}
			return nil
		}
		w.env.set(name, value)
		return nil
	case "php_value", "php_flag":
		w.comments = append(w.comments, kind+"["+name+"]: with -d a .user.ini cannot change it")
	case "php_admin_value", "php_admin_flag":
		if text := whoChanges(name); text != "" {
			w.comments = append(w.comments, kind+"["+name+"]: "+text)
		}
	}
	w.argv = append(w.argv, "-d", name+"="+d.setting())
	return nil
}

// whoChanges says what a script can do to a setting that php-fpm would hold; "" is nothing.
func whoChanges(setting string) string {
	switch setting {
	case "disable_functions", "disable_classes":
		return ""
	case "open_basedir":
		return "a script can make it narrower with ini_set, not wider"
	}
	return "a script can change it with ini_set, which php-fpm forbids; disable_functions it cannot"
}

func (w *poolPage) takeDuration(keys *mapping, key, value string) error {
	d, err := duration(value)
	if err != nil {
		return err
	}
	keys.set(key, d.String())
	return nil
}

// duration reads one of php-fpm's: seconds, or with s, m, h or d.
func duration(value string) (time.Duration, error) {
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}
	unit, number := time.Second, value
	if value != "" && units[value[len(value)-1]] != 0 {
		unit, number = units[value[len(value)-1]], value[:len(value)-1]
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 {
		return 0, errors.New("is no time, such as 30 or 30s")
	}
	return time.Duration(n) * unit, nil
}

// address is a listen of php-fpm's: a path, a port, or host:port.
func address(text string) string {
	if strings.HasPrefix(text, "/") {
		return "unix:" + text
	}
	if _, err := strconv.Atoi(text); err == nil {
		return "tcp:[::]:" + text
	}
	if host, port, ok := strings.Cut(text, ":"); ok && host == "*" {
		return "tcp:[::]:" + port
	}
	return "tcp:" + text
}

func (w *poolPage) write(p *page) {
	p.line(1, "- name: %s", quote(w.name))
	for _, text := range w.comments {
		p.comment(2, "%s", text)
	}
	w.writeListen(p)
	if !w.pool.has("timeout") {
		p.comment(2, "php-fpm has no limit here, and PHP's max_execution_time counts no waiting; this one is below nginx's fastcgi_read_timeout")
		p.line(2, "silence: "+silence)
	}
	p.mapping(2, w.pool)
	if len(w.passed) > 0 {
		p.line(2, "pass_env: %s", list(w.passed))
	}
	if len(w.env) > 0 {
		p.line(2, "env: %s", w.env.words())
	}
	if len(w.rlimits) > 0 {
		w.sandbox.set("rlimits", w.rlimits.words())
	}
	if len(w.sandbox) > 0 {
		p.line(2, "sandbox: %s", w.sandbox.flow())
	}
	if w.slow.has("after") {
		p.line(2, "slow: %s", w.slow.flow())
	}
	w.writeWorker(p)
}

func (w *poolPage) writeListen(p *page) {
	if strings.HasPrefix(w.address, "tcp:") {
		switch {
		case len(w.allow) > 0:
			w.listen = mapping{{"allow", list(w.allow)}}
		case !isOpen(w.address):
			w.listen = nil
		default:
			p.comment(2, "php-fpm lets anybody connect here, and who can connect can run any PHP: name the web servers")
			w.listen = mapping{{"allow", localOnly}}
		}
	}
	p.line(2, "listen: %s", append(mapping{{"address", quote(w.address)}}, w.listen...).flow())
}

func (w *poolPage) writeWorker(p *page) {
	p.line(2, "worker:")
	p.line(3, "command: %s", list(w.argv))
	if len(w.o.Root) > 0 {
		p.line(3, "root: %s", list(w.o.Root))
	} else {
		p.comment(3, "root: php-fpm runs a script wherever it lies: name the folders of yours (--root)")
	}
	if len(w.extension) > 0 {
		p.line(3, "extensions: %s", list(w.extension))
	}
	isDynamic := slices.Contains(w.worker, pair{"scale", "dynamic"})
	for _, k := range w.worker {
		if !isDynamic && slices.Contains([]string{"min", "min_spare", "max_spare"}, k.key) {
			p.comment(3, "%s: %s: is for scale: dynamic", k.key, k.value)
			continue
		}
		p.line(3, "%s: %s", k.key, k.value)
	}
}

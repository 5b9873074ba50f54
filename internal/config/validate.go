package config

import (
	"fmt"
	"math"
	"net/netip"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/fcgid/fcgid/internal/access"
	"github.com/fcgid/fcgid/internal/address"
)

const (
	minBodyMemory    = 4 << 10
	minParams        = 1 << 10
	minRequestMemory = 16 << 20
	// maxHeld bounds what one request may hold in memory, and maxCount what the kernel
	// would give nobody: descriptors, and requests that have one.
	maxHeld  = 1 << 30
	maxCount = 1 << 20
)

var (
	poolName     = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
	urlPath      = regexp.MustCompile(`^/[A-Za-z0-9/._~-]+$`)
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// validate reports what breaks a rule that needs no look at the machine.
func (r *report) validate(c *Config) {
	r.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	r.oneOf("log.format", c.Log.Format, "auto", "console", "json")
	if c.Log.Output == "" {
		r.add("log.output", "is empty: write stderr, stdout or a file")
	} else {
		r.output("log.output", c.Log.Output)
	}
	r.accessLog(&c.AccessLog)
	users := map[string]string{} // address id: key of who has it
	r.admin(c.Admin, users)
	if c.Memory != 0 && c.Memory < minRequestMemory {
		r.add("memory", "must be at least %s, or 0 for a quarter of what there is", formatSize(minRequestMemory))
	}
	if c.SpoolDir != "" {
		r.absolute("spool_dir", c.SpoolDir)
	}
	if len(c.Pools) == 0 {
		r.noPools(c)
	}
	owners := map[string]string{} // pool name: key of who has it
	for i := range c.Pools {
		key := fmt.Sprintf("pools[%d]", i)
		r.poolName(key+".name", c.Pools[i].Name, owners)
		r.pool(key, &c.Pools[i])
		for j, l := range c.Pools[i].Listen {
			r.listen(fmt.Sprintf("%s.listen[%d]", key, j), l, users)
		}
	}
}

// noPools says of patterns of include why there are no pools, if that is why.
func (r *report) noPools(c *Config) {
	told := false
	for i, pattern := range c.Include {
		if key := fmt.Sprintf("include[%d]", i); r.matchless[key] {
			r.add(key, "%q matches no file, and there are no pools", pattern)
			told = true
		}
	}
	if !told {
		r.add("pools", "no pools")
	}
}

func (r *report) accessLog(a *AccessLog) {
	if _, err := access.Parse(a.Format); err != nil {
		r.add("access_log.format", "%v%s", err, didYouMean(nearest(a.Format, []string{access.JSON, access.Combined}, whole)))
	}
	r.output("access_log.output", a.Output)
	for i, path := range a.Suppress {
		if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "?\x00\n") {
			r.add(fmt.Sprintf("access_log.suppress[%d]", i), "%q is not the path of a URL, for example /ping", path)
		}
	}
}

func (r *report) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		r.add(key, "%q is not one of %s%s", value, strings.Join(allowed, ", "), didYouMean(nearest(value, allowed, whole)))
	}
}

// unique reports a value that an earlier key has.
func (r *report) unique(key, value string, seen map[string]string) {
	if first, taken := seen[value]; taken {
		p := r.find(first)
		r.add(key, "already used at %s (%s)", p, p.path)
		return
	}
	seen[value] = key
}

func (r *report) admin(c Admin, users map[string]string) {
	const key = "admin.listen"
	r.oneOf("admin.uris", c.URIs, "hidden", "full")
	for i, name := range c.Hosts {
		if !address.IsHostName(name) {
			r.add(fmt.Sprintf("admin.hosts[%d]", i), "%q is not the name of a host, without a port", name)
		}
	}
	r.control("admin.control", c.Control, users)
	if c.Listen == "" {
		return
	}
	a, err := address.Parse(c.Listen)
	switch {
	case err != nil:
		r.add(key, "%v", err)
		return
	case a.Kind != address.TCP && a.Kind != address.Unix:
		r.add(key, "%q is not tcp:host:port or unix:/path", c.Listen)
		return
	case a.ID != "":
		r.unique(key, a.ID, users)
	}
	r.networks("admin.allow", c.Listen, c.Allow, a)
}

func (r *report) control(key, value string, users map[string]string) {
	if value == "" || value == autoControl {
		return
	}
	a, err := address.Parse(value)
	switch {
	case err != nil:
		r.add(key, "%v", err)
	case a.Kind != address.Unix:
		r.add(key, "%q is not auto or unix:/path", value)
	default:
		r.unique(key, a.ID, users)
	}
}

func (r *report) poolName(key, name string, owners map[string]string) {
	switch {
	case name == "":
		r.add(key, "needs a name")
	case !poolName.MatchString(name):
		r.add(key, "%q may hold letters, digits, '_', '.' and '-' only", name)
	default:
		r.unique(key, name, owners)
	}
}

func (r *report) pool(key string, p *Pool) {
	if len(p.Listen) == 0 {
		r.add(key+".listen", "needs at least one address")
	}
	r.limits(key+".limits", &p.Limits)
	if p.OnClientAbort != "" {
		r.oneOf(key+".on_client_abort", p.OnClientAbort, "kill", "close", "ignore")
	}
	for i, v := range p.Env {
		r.env(fmt.Sprintf("%s.env[%d]", key, i), v)
	}
	for i, name := range p.PassEnv {
		if !variableName.MatchString(name) {
			r.add(fmt.Sprintf("%s.pass_env[%d]", key, i), "%q is not the name of a variable", name)
		}
	}
	for i, name := range p.PassParams {
		if !variableName.MatchString(name) {
			r.add(fmt.Sprintf("%s.pass_params[%d]", key, i), "%q is not the name of a variable", name)
		}
	}
	for i, pattern := range p.Limits.SingleFields {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			r.add(fmt.Sprintf("%s.limits.single_fields[%d]", key, i), "%q is not a pattern of names, for example *_USER", pattern)
		}
	}
	r.ownPages(key, p)
	r.runners(key, p)
	r.identity(key, p)
	r.owner(key, p)
	r.sandbox(key+".sandbox", &p.Sandbox)
	r.sandboxOfPool(key, p)
	r.silence(key, p)
	r.slow(key, p)
	r.direct(key, p)
}

// ownPages reports paths of pages that no URL can have.
func (r *report) ownPages(key string, p *Pool) {
	for name, path := range map[string]string{".status_path": p.StatusPath, ".ping_path": p.PingPath} {
		if path != "" && !urlPath.MatchString(path) {
			r.add(key+name, "%q is not the path of a URL, for example /status", path)
		}
	}
	switch {
	case p.PingPath != "" && p.PingPath == p.StatusPath:
		r.add(key+".ping_path", "%q is status_path too", p.PingPath)
	case p.PingPath != "" && p.PingResponse == "":
		r.add(key+".ping_response", "is empty: who asks could not tell it from no answer")
	}
}

// limits reports bounds that bound nothing, or that nothing stays within.
func (r *report) limits(key string, l *Limits) {
	r.count(key+".max_conns", l.MaxConns, 0, maxCount)
	r.count(key+".max_reqs", l.MaxReqs, 0, maxCount)
	r.count(key+".queue", l.Queue, 0, maxCount)
	if l.Params != 0 && l.Params < minParams || l.Params > maxHeld {
		r.add(key+".params", "must be from %s to %s, or 0 for no limit: they are held in memory", formatSize(minParams), formatSize(maxHeld))
	}
	if l.StderrRate != 0 && l.StderrRate < minParams {
		r.add(key+".stderr_rate", "must be at least %s a second, or 0 for no limit", formatSize(minParams))
	}
	if l.BodyMemory < minBodyMemory {
		r.add(key+".body_memory", "must be at least %s: a body passes through this buffer", formatSize(minBodyMemory))
	}
	if l.BodyMemory > maxHeld {
		r.add(key+".body_memory", "must be at most %s: it is held in memory", formatSize(maxHeld))
	}
}

func (r *report) env(key, text string) {
	name, _, assigned := strings.Cut(text, "=")
	switch {
	case !assigned || !variableName.MatchString(name):
		r.add(key, "%q is not NAME=value", text)
	case strings.ContainsRune(text, 0):
		r.add(key, "%q contains NUL", text)
	}
}

func (r *report) listen(key string, l Listen, users map[string]string) {
	if l.Address == "" {
		r.add(key+".address", "needs an address")
		return
	}
	a, err := address.Parse(l.Address)
	if text := gluedItemText(l.Address); text != "" {
		r.add(key+".address", "%s", text)
	}
	if err != nil {
		r.add(key+".address", "%v", err)
		return
	}
	if a.ID != "" {
		r.unique(key+".address", a.ID, users)
	}
	r.count(key+".backlog", l.Backlog, 0, math.MaxInt32)
	r.fileKeys(key, l, a)
	r.clientKeys(key, l, a)
}

// fileKeys reports keys of a socket file beside an address that has none.
func (r *report) fileKeys(key string, l Listen, a address.Address) {
	if a.Kind == address.Unix {
		return
	}
	mode := r.given(key + ".mode") // the field alone may hold the default
	for name, given := range map[string]bool{"mode": mode, "owner": l.Owner != "", "group": l.Group != ""} {
		if given {
			r.add(key+"."+name, "is for unix:/path only")
		}
	}
}

// clientKeys reports rules for clients that the address cannot apply, and a
// lack of them where every machine could connect.
func (r *report) clientKeys(key string, l Listen, a address.Address) {
	r.networks(key+".allow", l.Address, l.Allow, a)
	if len(l.AllowUIDs) > 0 && a.Kind == address.TCP {
		r.add(key+".allow_uids", "is for unix and systemd only")
	}
}

// networks reports networks at key beside an address that has no such clients, and a
// lack of them.
func (r *report) networks(key, listen string, allow []netip.Prefix, a address.Address) {
	if len(allow) > 0 && a.Kind != address.TCP && a.Kind != address.Systemd {
		r.add(key, "is for tcp and systemd only")
	}
	if len(allow) == 0 && a.Kind == address.TCP && !a.IsLoopback {
		r.add(key, "%q is open to other machines: name the networks that may connect", listen)
	}
}

func (r *report) process(key string, p *Process) {
	if len(p.Root) == 0 && len(p.Scripts) == 0 {
		r.add(key+".root", "needs at least one folder, unless scripts is given")
	}
	r.files(key, p.Root, p.Extensions)
	for i, script := range p.Scripts {
		k := fmt.Sprintf("%s.scripts[%d]", key, i)
		r.absolute(k, script)
		if _, err := filepath.Match(script, ""); err != nil {
			r.add(k, "%q: %v", script, err)
		}
	}
	seen := map[string]string{}
	for i, in := range p.Interpreters {
		if in.Extension != "" {
			r.unique(fmt.Sprintf("%s.interpreters[%d]", key, i), in.Extension, seen)
		}
	}
	if p.Dir != "" {
		r.absolute(key+".dir", p.Dir)
	}
	r.oneOf(key+".stderr", p.Stderr, "log", "client", "both")
}

// files reports folders and extensions of scripts that are none.
func (r *report) files(key string, roots, extensions []string) {
	for i, root := range roots {
		r.absolute(fmt.Sprintf("%s.root[%d]", key, i), root)
	}
	for i, extension := range extensions {
		if !isExtension(extension) {
			r.add(fmt.Sprintf("%s.extensions[%d]", key, i), "%q is not an extension, for example .cgi%s", extension, didYouMean(dotted(extension)))
		}
	}
}

// dotted is the extension that "php" or "*.php" means, if it is one.
func dotted(extension string) string {
	if name := strings.TrimPrefix(strings.TrimPrefix(extension, "*"), "."); name != "" && isExtension("."+name) {
		return "." + name
	}
	return ""
}

// function looks at the names alone: whether the program has them, the machine
// check says.
func (r *report) function(key string, f *Function) {
	seen := map[string]string{}
	for i, name := range f.Names {
		k := fmt.Sprintf("%s.names[%d]", key, i)
		if name == "" {
			r.add(k, "is empty: write the name of a function")
			continue
		}
		r.unique(k, name, seen)
	}
}

// output reports a log's file that depends on the folder in which the daemon is started.
func (r *report) output(key, output string) {
	if output != "" && output != "stderr" && output != "stdout" && !filepath.IsAbs(output) {
		r.add(key, "%q is not an absolute path, stderr or stdout", output)
	}
}

func (r *report) absolute(key, path string) {
	if text := gluedItemText(path); text != "" {
		r.add(key, "%s", text)
	}
	if !filepath.IsAbs(path) {
		r.add(key, "%q is not an absolute path", path)
	}
}

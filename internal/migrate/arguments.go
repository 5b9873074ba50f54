package migrate

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// silence is how long a program may say nothing where the other program has no limit: nginx
// waits for 60s, and answers 504 without a word of why.
const silence = "45s"

// A Wrap is what fcgiwrap was told on its command line.
type Wrap struct {
	Socket   string // as fcgiwrap has it: unix:/path, tcp:host:port, tcp6:[host]:port; "" is descriptor 0
	Children int
	Forward  bool     // STDERR to the web server
	Scripts  []string // that may run; empty: all
	// Mode is that of the file of a socket, as "0755"; "" is the default of listen.mode.
	Mode string
}

// AddFlags defines fcgiwrap's own flags.
func (w *Wrap) AddFlags(flags *pflag.FlagSet) {
	flags.StringVarP(&w.Socket, "socket", "s", "", "`address` to listen on: unix:/path, tcp:host:port, tcp6:[host]:port; without it descriptor 0, as from systemd or spawn-fcgi")
	flags.IntVarP(&w.Children, "children", "c", 1, "how many programs run at once")
	flags.BoolVarP(&w.Forward, "forward", "f", false, "send what programs write to STDERR to the web server")
	flags.StringArrayVarP(&w.Scripts, "path", "p", nil, "`program` that may run, and no other (repeatable)")
}

// FCGIWrap writes the configuration of such a fcgiwrap.
func FCGIWrap(w *Wrap) (string, error) {
	address := w.Socket
	if rest, ok := strings.CutPrefix(address, "tcp6:"); ok {
		address = "tcp:" + rest
	}
	if w.Children < 1 {
		return "", fmt.Errorf("-c %d: at least one", w.Children)
	}
	var p page
	p.comment(0, "In place of fcgiwrap")
	p.line(0, "pools:")
	p.line(1, "- name: cgi")
	if address == "" {
		p.comment(2, "fcgiwrap took descriptor 0: the socket unit's FileDescriptorName=")
		address = "systemd:fcgiwrap.socket"
	}
	switch {
	case w.Mode != "" && strings.HasPrefix(address, "unix:/"):
		p.line(2, "listen: %s", mapping{{"address", quote(address)}, {"mode", quote(w.Mode)}}.flow())
	case strings.HasPrefix(address, "unix:/"):
		p.comment(2, "the socket's mode is 0660; that of fcgiwrap's was 0777 less its umask")
		p.listen(address)
	default:
		p.listen(address)
	}
	p.comment(2, "fcgiwrap has no limit of time; this one is below nginx's fastcgi_read_timeout")
	p.line(2, "silence: "+silence)
	p.line(2, "limits: {max_reqs: %d}", w.Children)
	p.line(2, "process:")
	if len(w.Scripts) > 0 {
		p.line(3, "scripts: %s", list(w.Scripts))
	} else {
		p.comment(3, "fcgiwrap runs any file that the web server names: name the folders of the programs")
		p.line(3, `root: ["/"]`)
	}
	if w.Forward {
		p.line(3, "stderr: client")
	}
	return p.String(), nil
}

// localOnly are the networks of an address that is open, until somebody names others.
const localOnly = `[127.0.0.1, "::1"]`

// isOpen reports whether other machines may reach an address.
func isOpen(address string) bool {
	hostport, isTCP := strings.CutPrefix(address, "tcp:")
	host, _, _ := net.SplitHostPort(hostport)
	return isTCP && host != "localhost" && !net.ParseIP(host).IsLoopback()
}

// listen writes an address, with the networks that it needs.
func (p *page) listen(address string) {
	if isOpen(address) {
		p.comment(2, "who can connect can run any program: name the web servers")
		p.line(2, "listen: %s", mapping{{"address", quote(address)}, {"allow", localOnly}}.flow())
		return
	}
	p.line(2, "listen: %s", quote(address))
}

// A spawnFCGI is what spawn-fcgi was told on its command line.
type spawnFCGI struct {
	flags map[string]*string // by letter; "" is that it was not given
	argv  []string           // of the program, whose path is absolute
}

// SpawnFCGI writes the configuration for the arguments of a spawn-fcgi.
func SpawnFCGI(args []string) (string, error) {
	s, err := parseSpawnFCGI(args)
	if err != nil {
		return "", fmt.Errorf("spawn-fcgi: %w", err)
	}
	var p page
	p.comment(0, "In place of spawn-fcgi %s", strings.Join(args, " "))
	p.line(0, "pools:")
	p.line(1, "- name: %s", quote(poolName(s.argv[0])))
	s.writeListen(&p)
	for _, k := range [][2]string{{"u", "user"}, {"g", "group"}} {
		if v := *s.flags[k[0]]; v != "" {
			p.line(2, "%s: %s", k[1], quote(v))
		}
	}
	if v := *s.flags["c"]; v != "" {
		p.line(2, "sandbox: %s", mapping{{"chroot", quote(v)}}.flow())
	}
	p.comment(2, "spawn-fcgi has no limit of time; this one is below nginx's fastcgi_read_timeout")
	p.line(2, "silence: "+silence)
	if err := s.writeWorkers(&p); err != nil {
		return "", fmt.Errorf("spawn-fcgi: %w", err)
	}
	return p.String(), nil
}

func parseSpawnFCGI(args []string) (*spawnFCGI, error) {
	flags := pflag.NewFlagSet("spawn-fcgi", pflag.ContinueOnError)
	flags.SetOutput(new(strings.Builder)) // its error says what is wrong
	s := &spawnFCGI{flags: make(map[string]*string)}
	for _, name := range strings.Fields("f d a p s M C F b P u g U G c") {
		s.flags[name] = flags.StringP("flag-"+name, name, "", "")
	}
	flags.BoolP("flag-n", "n", false, "")
	flags.BoolP("flag-S", "S", false, "") // sockets are bound before a program starts, whatever its root
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	s.argv = append(strings.Fields(*s.flags["f"]), flags.Args()...)
	if len(s.argv) == 0 {
		return nil, errors.New("no program: write its arguments after --, as it has them")
	}
	if !filepath.IsAbs(s.argv[0]) {
		return nil, fmt.Errorf("%s is not the absolute path of a program", s.argv[0])
	}
	return s, nil
}

func (s *spawnFCGI) writeListen(p *page) {
	address, isFile := "unix:"+*s.flags["s"], *s.flags["s"] != ""
	if !isFile {
		address = "tcp:" + cmp.Or(*s.flags["a"], "0.0.0.0") + ":" + *s.flags["p"]
	}
	keys := mapping{{"address", quote(address)}}
	for _, k := range [][2]string{{"M", "mode"}, {"U", "owner"}, {"G", "group"}} {
		if v := *s.flags[k[0]]; v != "" && isFile {
			keys.set(k[1], quote(v))
		}
	}
	if v := *s.flags["b"]; v != "" {
		keys.set("backlog", number(v))
	}
	if len(keys) > 1 && isFile {
		p.line(2, "listen: %s", keys.flow())
	} else {
		p.listen(address)
	}
}

func (s *spawnFCGI) writeWorkers(p *page) error {
	children, err := count(*s.flags["C"], 0)
	if err != nil {
		return fmt.Errorf("-C %w", err)
	}
	forks, err := count(*s.flags["F"], 1)
	if err != nil {
		return fmt.Errorf("-F %w", err)
	}
	if children > 0 {
		p.line(2, "env: %s", list([]string{fmt.Sprint("PHP_FCGI_CHILDREN=", children)}))
	}
	p.line(2, "worker:")
	p.line(3, "command: %s", list(s.argv))
	p.line(3, "scale: static")
	p.line(3, "max: %d", forks)
	if children > 0 {
		p.line(3, "concurrency: %d", children)
	}
	if dir := *s.flags["d"]; dir != "" {
		p.line(3, "dir: %s", quote(dir))
	}
	if v := *s.flags["P"]; v != "" {
		p.comment(2, "-P %s: no file of a pid is written", v)
	}
	return nil
}

func count(text string, otherwise int) (int, error) {
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q is not a number from 1", text)
	}
	return n, nil
}

func poolName(program string) string {
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune(plain, r) && r != '/' {
			return r
		}
		return '-'
	}, filepath.Base(program))
	return strings.TrimLeft(name, ".-") + map[bool]string{true: "app"}[strings.Trim(name, ".-") == ""]
}

// IsSocket reports whether descriptor 0 is a socket, as fcgiwrap expects without -s.
func IsSocket() bool {
	info, err := os.Stdin.Stat()
	return err == nil && info.Mode()&os.ModeSocket != 0
}

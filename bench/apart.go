package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// apart is a configuration under which root starts a daemon of another user, and programs of a
// third one: each start is a question to the process that stays root.
const apart = `user: daemon
admin: {listen: ""}
pools:
  - name: NAME
    listen: {address: "unix:DIR/apart/runtime/NAME.sock"}
`

// What its pool runs.
const (
	apartScripts = `    user: nobody
    process:
      root: [DIR/cgi]
`
	apartWorkers = `    user: nobody
    worker:
      command: [PHP-CGI]
      scale: static
      max: 4
`
	apartFunctions = `    function: {}
`
)

// confined are limits and files of a pool, as sandbox has them.
const confined = `    sandbox:
      no_new_privs: true
      rlimits: [nofile=1024, core=0]
      read: [DIR/cgi]
`

// startApart returns the server of a pool of such a daemon, with these keys.
func startApart(name, keys string) func(*rig) (*server, error) {
	return func(r *rig) (*server, error) {
		if os.Geteuid() != 0 {
			return nil, fmt.Errorf("not supported by this account: only root starts a daemon of another user")
		}
		for _, dir := range []string{"apart", "apart/runtime", "apart/state"} {
			if err := os.Mkdir(r.path(dir), 0o755); err != nil && !os.IsExist(err) {
				return nil, err
			}
		}
		file := r.path("apart/" + name + ".yaml")
		phpCGI, err := need("php-cgi")
		if err != nil && strings.Contains(keys, "PHP-CGI") {
			return nil, err
		}
		text := strings.NewReplacer("DIR", r.dir, "NAME", name, "PHP-CGI", phpCGI).Replace(apart + keys)
		if err := check(r.ctx, r.fcgid, file, text); err != nil {
			return nil, fmt.Errorf("not supported by this binary: %w", err)
		}
		return r.once("fcgid "+name, "unix", r.path("apart/runtime/"+name+".sock"), func() (*exec.Cmd, error) {
			cmd := exec.Command(r.fcgid, "serve", "-c", file)
			cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+r.path("apart/runtime"), "STATE_DIRECTORY="+r.path("apart/state"))
			return cmd, nil
		})
	}
}

// apartSides compare such a pool with one of a daemon that starts its programs itself.
func apartSides(name, keys, alone string, ld func(*rig) load) func(*rig) []side {
	return func(r *rig) []side {
		return []side{
			{name: "fcgid", start: startApart(name, keys), load: ld(r)},
			{name: "one process", start: startFcgid(alone), load: ld(r)},
		}
	}
}

// pingLoad asks for fcgid.ping on connections that are kept.
func pingLoad(r *rig) load {
	return pings(load{request: r.keepAlive(1), conns: clients, keep: true})
}

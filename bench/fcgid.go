package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// stock is the head of the configuration that fcgid runs with, in all cases. DIR
// is the folder of the run.
const stock = `admin: {listen: "unix:DIR/admin.sock"}
pools:
`

// pools are those of the configuration. A limit stands there where a case needs
// more at once than the defaults allow.
var pools = []struct{ name, text string }{
	{"cgi", `  - name: cgi
    listen: unix:DIR/cgi.sock
    process:
      root: [DIR/cgi]
`},
	{"live", `  - name: live
    listen: unix:DIR/live.sock
    limits: {request_buffering: false}
    process:
      root: [DIR/cgi]
`},
	{"sleepers", `  - name: sleepers
    listen: unix:DIR/sleepers.sock
    limits: {max_reqs: 500}
    process:
      root: [DIR/cgi]
`},
	{"idle", `  - name: idle
    listen: unix:DIR/idle.sock
    limits: {max_conns: 11000}
    process:
      root: [DIR/cgi]
`},
	{"php", `  - name: php
    listen: [{address: "unix:DIR/php.sock", mode: "0666"}] # Apache is another user
    worker:
      command: [PHP-CGI]
      scale: static
      max: 4
`},
	{"php-shared", `  - name: php-shared
    listen: unix:DIR/php-shared.sock
    env: [PHP_FCGI_CHILDREN=4]
    worker:
      command: [PHP-CGI]
      scale: static
      max: 1
      concurrency: 4
`},
	{"git", `  - name: git
    listen: unix:DIR/git.sock
    process:
      scripts: [GIT-HTTP-BACKEND]
`},
	{"php-own", `  - name: php-own
    listen: unix:DIR/php-own.sock
    worker:
      command: [PHP-CGI]
      connections: direct
      scale: static
      max: 4
`},
	{"php-own-shared", `  - name: php-own-shared
    listen: unix:DIR/php-own-shared.sock
    env: [PHP_FCGI_CHILDREN=4]
    worker:
      command: [PHP-CGI]
      connections: direct
      scale: static
      max: 1
`},
	{"c-own", `  - name: c-own
    listen: unix:DIR/c-own.sock
    worker:
      command: [DIR/cgi/libfcgi_hello]
      connections: direct
      scale: static
      max: 2
`},
	{"function", `  - name: function
    listen: unix:DIR/function.sock
    function: {}
`},
}

// A configuration is the file that fcgid runs with.
type configuration struct {
	file string
	text string // with DIR in it
	// unsupported tells of pools that are left out why this binary does not take them.
	unsupported map[string]string
}

// configure writes the configuration with all pools that the binary supports.
func configure(ctx context.Context, dir, fcgid string) (configuration, error) {
	c := configuration{file: filepath.Join(dir, "fcgid.yaml"), unsupported: make(map[string]string)}
	c.text = stock
	expand := strings.NewReplacer("DIR", dir).Replace
	for _, p := range pools {
		text := poolText(p.name)
		if err := check(ctx, fcgid, filepath.Join(dir, "check.yaml"), expand(stock+text)); err != nil {
			c.unsupported[p.name] = err.Error()
			continue
		}
		c.text += text
	}
	if len(c.unsupported) == len(pools) {
		return c, fmt.Errorf("%s supports no pool: %s", fcgid, c.unsupported[pools[0].name])
	}
	return c, check(ctx, fcgid, c.file, expand(c.text))
}

// poolText is the part of the configuration that is one pool, with the programs that it
// names where they are on this machine.
func poolText(name string) string {
	for _, p := range pools {
		if p.name == name {
			return strings.NewReplacer(
				"PHP-CGI", needOr("php-cgi", "/usr/bin/php-cgi"), "GIT-HTTP-BACKEND", needOr(gitBackend, gitBackend),
			).Replace(p.text)
		}
	}
	panic("no pool is named " + name)
}

// needOr is a program, or where it would be.
func needOr(name, otherwise string) string {
	path, err := need(name)
	if err != nil {
		return otherwise
	}
	return path
}

// check writes a configuration and asks the binary whether it is right.
func check(ctx context.Context, fcgid, file, text string) error {
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, fcgid, "check", "-c", file).CombinedOutput()
	if err == nil {
		return nil
	}
	said := strings.TrimSpace(strings.ReplaceAll(string(out), file+":", "line "))
	if said == "" {
		return err
	}
	return errors.New(said)
}

// startFcgid returns the server of one of fcgid's pools. All pools of a case
// are one daemon.
func startFcgid(pool string) func(*rig) (*server, error) {
	return func(r *rig) (*server, error) {
		if why := r.config.unsupported[pool]; why != "" {
			return nil, fmt.Errorf("not supported by this binary: %s", why)
		}
		address := r.path(pool + ".sock")
		s, err := r.once("fcgid", "unix", address, func() (*exec.Cmd, error) {
			return exec.Command(r.fcgid, "serve", "-c", r.config.file), nil
		})
		if err != nil {
			return nil, err
		}
		return &server{s.process, "unix", address}, s.ready(r.ctx, "unix", address)
	}
}

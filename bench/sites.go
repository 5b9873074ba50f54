package main

import (
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed sites
var siteFiles embed.FS

// A site is an application of which a page is measured.
type site struct {
	name string
	page string // its path
	has  string // what stands on it
	// needs starts the server that it has its data in, if it has one.
	needs func(*rig) error
	// install installs it below root, with its data in the rig's folder.
	install func(r *rig, root string) error
}

var (
	dokuwiki  = site{name: "dokuwiki", page: "/doku.php?id=start", has: "footnote, and", install: installDokuWiki}
	wordpress = site{name: "wordpress", page: "/", has: "Hello world!", needs: (*rig).startMariaDB, install: installWordPress}
)

// siteClients is how many people look at the page at once.
const siteClients = 16

// siteCase compares a page under fcgid and php-fpm. Each has as many children, which share
// an OPcache.
func siteCase(s site, work string) *benchCase {
	return &benchCase{
		name: s.name, work: fmt.Sprintf("%s, %d clients of nginx", work, siteClients),
		sides: func(*rig) []side {
			return []side{
				{name: "fcgid", measure: measureSite, oneOf: []side{
					s.side("a connection a request", startSitePool, "php-shared", 0),
					s.side("keep-alive", startSitePool, "php-shared", 64),
				}},
				{name: "php-fpm", measure: measureSite, oneOf: []side{
					s.side("a connection a request", startPHPFPM("php-fpm"), "php-fpm", 0),
				}},
			}
		},
		rows: []rowSpec{
			{requestRate, "php-fpm", atLeast(0.99)},
			{medianLatency, "php-fpm", atMost(1.05)},
			{p99, "php-fpm", atMost(1.05)},
			{poolMemory, "php-fpm", atMost(1.1)},
		},
	}
}

// side is one behind nginx, which keeps so many connections to it.
func (s site) side(name string, back func(*rig) (*server, error), socket string, keep int) side {
	request := httpGet(s.page)
	request.want, request.has = "", s.has
	front := func(r *rig) (*server, error) { return s.startNginx(r, socket, keep) }
	return side{
		name: name, start: through(front, back),
		load: load{request: request, conns: siteClients, keep: true, timed: true},
	}
}

// measureSite puts the load onto a site, and weighs all processes behind nginx.
func measureSite(r *rig, s *side) (sample, error) {
	m, err := r.measureLoad(s.server, s.load)
	if err != nil {
		return nil, err
	}
	m[poolMemory], err = proportionalSize(s.server.pid())
	return m, err
}

// startSitePool starts fcgid with the pool php-shared alone, so that all that it holds in
// memory is for the site.
func startSitePool(r *rig) (*server, error) {
	const pool = "php-shared"
	if why := r.config.unsupported[pool]; why != "" {
		return nil, fmt.Errorf("not supported by this binary: %s", why)
	}
	return r.once("fcgid "+pool, "unix", r.path(pool+".sock"), func() (*exec.Cmd, error) {
		file := r.path(pool + ".yaml")
		return exec.Command(r.fcgid, "serve", "-c", file), check(r.ctx, r.fcgid, file, strings.ReplaceAll(stock+poolText(pool), "DIR", r.dir))
	})
}

// siteNginx is nginx for one site and one server behind it.
const siteNginx = `  upstream back { server unix:{socket}; {keep} }
  server {
    listen {address};
    root {root};
    index index.php;
    location / { try_files $uri $uri/ /index.php$is_args$args; }
    location ~ \.php$ {
      include /etc/nginx/fastcgi_params;
      fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
      {keepConn}
      fastcgi_pass back;
    }
  }
`

// startNginx starts the nginx of a site that has one server behind it. Each has its own,
// since a page has the name of its host in it.
func (s site) startNginx(r *rig, socket string, keep int) (*server, error) {
	address := freeAddress()
	return r.once(fmt.Sprintf("nginx %s %d", socket, keep), "tcp", address, func() (*exec.Cmd, error) {
		root, err := r.installed(s)
		if err != nil {
			return nil, err
		}
		keepText, keepConn := keepDirectives(keep)
		return r.nginx(fmt.Sprintf("nginx-%s-%d", socket, keep), strings.NewReplacer("{socket}", r.path(socket+".sock"), "{keep}", keepText, "{keepConn}", keepConn,
			"{address}", address, "{root}", root).Replace(siteNginx))
	})
}

// installed installs a site once, starts what it needs, and returns its folder.
func (r *rig) installed(s site) (root string, err error) {
	if s.needs != nil {
		if err := s.needs(r); err != nil {
			return "", err
		}
	}
	root = r.path(s.name + "/www")
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	if err = s.install(r, root); err == nil {
		err = makeOld(r.path(s.name))
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("install %s: %w", s.name, err), os.RemoveAll(root))
	}
	return root, nil
}

// makeOld has all files of a folder be of an hour ago. DokuWiki makes its cache anew, at each
// request and several at once, while what it is made of is not older; the OPcache takes no file
// of the last two seconds.
func makeOld(dir string) error {
	then := time.Now().Add(-time.Hour)
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.Type()&os.ModeSymlink != 0 {
			return err
		}
		return os.Chtimes(path, then, then)
	})
}

// copyPackage copies a folder of a Debian package. A link that leads nowhere is left out.
func (r *rig) copyPackage(from, to string) error {
	if _, err := need(from); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	exec.CommandContext(r.ctx, "cp", "-rL", from, to).Run()
	_, err := os.Stat(to)
	return err
}

// writeSite writes a file of bench/sites.
func (r *rig) writeSite(name, to string) error {
	text, err := siteFiles.ReadFile("sites/" + name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, []byte(strings.ReplaceAll(string(text), "{dir}", r.dir)), 0o644)
}

// installDokuWiki installs Debian's DokuWiki with one page. Its sessions are kept here, and
// not where Debian keeps those of this machine.
func installDokuWiki(r *rig, root string) error {
	conf, data := r.path("dokuwiki/conf"), r.path("dokuwiki/data")
	if err := errors.Join(r.copyPackage("/usr/share/dokuwiki", root), r.copyPackage("/etc/dokuwiki", conf)); err != nil {
		return err
	}
	for _, name := range []string{"attic", "cache", "index", "locks", "log", "media", "media_attic", "media_meta", "meta", "tmp", "sessions"} {
		if err := os.MkdirAll(filepath.Join(data, name), 0o755); err != nil {
			return err
		}
	}
	return errors.Join(
		os.WriteFile(root+"/inc/preload.php", fmt.Appendf(nil, "<?php\ndefine('DOKU_CONF', '%s/');\ndefine('DOKU_MAIN_CONF', DOKU_CONF);\n", conf), 0o644),
		os.WriteFile(root+"/.user.ini", fmt.Appendf(nil, "session.save_path = %s/sessions\n", data), 0o644),
		r.writeSite("dokuwiki.php", conf+"/local.php"), r.writeSite("start.txt", data+"/pages/start.txt"))
}

// installWordPress installs Debian's WordPress as it is after its installer.
func installWordPress(r *rig, root string) error {
	php, err := need("php-cgi")
	if err != nil {
		return err
	}
	if err := r.copyPackage("/usr/share/wordpress", root); err != nil {
		return err
	}
	os.Remove(root + "/wp-config.php") // Debian's, which looks below /etc
	install := root + "/wp-install.php"
	if err := errors.Join(r.writeSite("wp-config.php", root+"/wp-config.php"), r.writeSite("wp-install.php", install)); err != nil {
		return err
	}
	out, err := exec.CommandContext(r.ctx, php, "-q", install).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", install, err, out)
	}
	return os.Remove(install)
}

// startMariaDB starts the database of WordPress, and makes it the first time.
func (r *rig) startMariaDB() error {
	socket, data := r.path("mariadb.sock"), r.path("mariadb")
	_, err := r.once("mariadb", "unix", socket, func() (*exec.Cmd, error) {
		server, err := need("mariadbd", "/usr/sbin/mariadbd")
		if err != nil {
			return nil, err
		}
		options := []string{"--no-defaults", "--datadir=" + data}
		if os.Geteuid() == 0 {
			options = append(options, "--user=root")
		}
		if _, err := os.Stat(data); err != nil {
			make := exec.CommandContext(r.ctx, "mariadb-install-db", append(options, "--auth-root-authentication-method=normal", "--skip-test-db")...)
			if out, err := make.CombinedOutput(); err != nil {
				return nil, fmt.Errorf("mariadb-install-db: %w: %s", err, out)
			}
		}
		return exec.Command(server, append(options, "--socket="+socket, "--pid-file="+data+"/pid", "--skip-networking",
			"--tmpdir="+data, "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M")...), nil
	})
	return err
}

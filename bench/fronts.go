package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// through puts a web server before another server: its side is asked over HTTP,
// its processes are still the other's.
func through(front, back func(*rig) (*server, error)) func(*rig) (*server, error) {
	return func(r *rig) (*server, error) {
		b, err := back(r)
		if err != nil {
			return nil, err
		}
		f, err := front(r)
		if err != nil {
			return nil, err
		}
		return &server{b.process, f.network, f.address}, nil
	}
}

// upstreams are what nginx knows: by name, the socket, and how many connections
// each of its processes keeps, 0 for one connection a request.
var upstreams = []struct {
	name, socket string
	keep         int
}{
	{"fpm", "php-fpm", 0},
	{"fpm-keep", "php-fpm-keep", children / nginxProcesses}, // one more would wait for a child for ever
	{"fcgid", "php", 0},
	{"fcgid-keep", "php", 64},
	{"fcgid-shared", "php-shared", 0},
	{"fcgid-shared-keep", "php-shared", 64},
}

const nginxProcesses = 2

// startNginx starts the nginx that stands before php-fpm and fcgid alike, with a
// location for each upstream.
func startNginx(r *rig) (*server, error) {
	address := freeAddress()
	return r.once("nginx", "tcp", address, func() (*exec.Cmd, error) {
		var more, locations strings.Builder
		for _, u := range upstreams {
			keep, keepConn := keepDirectives(u.keep)
			fmt.Fprintf(&more, "  upstream %s { server unix:%s; %s }\n", u.name, r.path(u.socket+".sock"), keep)
			fmt.Fprintf(&locations, "    location /%s { %s fastcgi_pass %s; }\n", u.name, keepConn, u.name)
		}
		fmt.Fprintf(&more, nginxServer, address, r.program("hello.php"), locations.String())
		return r.nginx("nginx", more.String())
	})
}

// keepDirectives are those of an upstream and of its location that have nginx keep so many
// connections.
func keepDirectives(n int) (upstream, location string) {
	if n == 0 {
		return "", ""
	}
	return fmt.Sprintf("keepalive %d; keepalive_requests 100000000;", n), "fastcgi_keep_conn on;"
}

const nginxServer = `  server {
    listen %s;
    include /etc/nginx/fastcgi_params;
    fastcgi_param SCRIPT_FILENAME %s;
%s  }
`

// nginx is an nginx with these servers. The name is that of its files.
func (r *rig) nginx(name, servers string) (*exec.Cmd, error) {
	path, err := need("nginx", "/usr/sbin/nginx")
	if err != nil {
		return nil, err
	}
	file := r.path(name + ".conf")
	text := fmt.Sprintf(nginxText, r.path(name), nginxProcesses, nginxUser(), servers)
	return exec.Command(path, "-c", file, "-p", r.dir), os.WriteFile(file, []byte(text), 0o644)
}

const nginxText = `daemon off; pid %[1]s.pid; error_log stderr; %[3]s
worker_processes %[2]d;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 100000000;
  client_body_temp_path %[1]s-body; fastcgi_temp_path %[1]s-fastcgi; proxy_temp_path %[1]s-proxy;
  uwsgi_temp_path %[1]s-uwsgi; scgi_temp_path %[1]s-scgi;
%[4]s}
`

// nginxUser is the directive that lets nginx's processes reach all sockets.
func nginxUser() string {
	if os.Getuid() != 0 {
		return ""
	}
	return "user root;"
}

// startApache starts the Apache that runs PHP by mod_fcgid below /mod_fcgid, and
// hands it to fcgid by mod_proxy_fcgi below /fcgid.
func startApache(r *rig) (*server, error) {
	address := freeAddress()
	return r.once("apache", "tcp", address, func() (*exec.Cmd, error) {
		path, err := need("apache2", "/usr/sbin/apache2")
		if err != nil {
			return nil, err
		}
		php, err := need("php-cgi")
		if err != nil {
			return nil, err
		}
		const modules = "/usr/lib/apache2/modules"
		if _, err := need(filepath.Join(modules, "mod_fcgid.so")); err != nil {
			return nil, err
		}
		// Apache is installed as root and started as www-data if root starts it.
		state := r.path("apache")
		if err := os.Mkdir(state, 0o777); err != nil {
			return nil, err
		}
		if err := os.Chmod(state, 0o777); err != nil {
			return nil, err
		}
		file := r.path("apache.conf")
		text := strings.NewReplacer("{modules}", modules, "{state}", state, "{address}", address, "{php}", php,
			"{children}", fmt.Sprint(children), "{cgi}", r.path("cgi"), "{socket}", r.path("php.sock"), "{user}", apacheUser()).Replace(apacheText)
		return exec.Command(path, "-f", file, "-DFOREGROUND"), os.WriteFile(file, []byte(text), 0o644)
	})
}

const apacheText = `ServerName bench
ServerRoot {state}
PidFile {state}/pid
DefaultRuntimeDir {state}
Listen {address}
{user}
ErrorLog /proc/self/fd/2
LogLevel warn
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule alias_module {modules}/mod_alias.so
LoadModule mime_module {modules}/mod_mime.so
LoadModule proxy_module {modules}/mod_proxy.so
LoadModule proxy_fcgi_module {modules}/mod_proxy_fcgi.so
LoadModule fcgid_module {modules}/mod_fcgid.so
LoadModule env_module {modules}/mod_env.so
SetEnv ap_trust_cgilike_cl yes
TypesConfig /etc/mime.types
MaxKeepAliveRequests 0
KeepAliveTimeout 60
ServerLimit 1
StartServers 1
ThreadLimit 128
ThreadsPerChild 128
MaxRequestWorkers 128
MinSpareThreads 1
MaxSpareThreads 128
<Directory {cgi}>
  Require all granted
  Options +ExecCGI
</Directory>
Alias /mod_fcgid/ {cgi}/
<Location /mod_fcgid/>
  SetHandler fcgid-script
</Location>
FcgidWrapper {php}
FcgidIPCDir {state}
FcgidProcessTableFile {state}/table
FcgidInitialEnv PHP_FCGI_MAX_REQUESTS 1000000
FcgidMaxRequestsPerProcess 0
FcgidMaxProcesses {children}
FcgidMinProcessesPerClass {children}
FcgidMaxProcessesPerClass {children}
ProxyPass /fcgid/ unix:{socket}|fcgi://bench{cgi}/ enablereuse=on
`

// apacheUser is the directive for Apache's processes, which may not be root.
func apacheUser() string {
	if os.Getuid() != 0 {
		return ""
	}
	return "User www-data\nGroup www-data"
}

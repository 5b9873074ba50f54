package main

import (
	"fmt"
	"strings"
)

// clients is how many requests the CGI, the direct PHP and the function cases
// have under way.
const clients = 8

// reach at least or at most.
func atLeast(n float64) reach { return reach{atLeast: n} }
func atMost(n float64) reach  { return reach{atMost: n} }

// cases are all that there are, in the order in which they run.
var cases = []*benchCase{
	{
		name: "cgi-c", work: "CGI, static C hello, 8 clients, a connection a request",
		sides: func(r *rig) []side {
			ld := helloLoad(r)
			return []side{
				{name: "fcgid", start: startFcgid("cgi"), load: ld},
				{name: "fcgiwrap", start: startFcgiwrap, load: ld},
				{name: "Go loop", start: startCGILoop, load: ld},
				{name: "posix_spawn", measure: spawnLimit},
				{name: "uwsgi cgi", start: startUWSGI, load: ld},
			}
		},
		rows: []rowSpec{
			{requestRate, "fcgiwrap", atLeast(1.2)},
			{requestRate, "Go loop", atLeast(0.9)},
			{requestRate, "posix_spawn", reach{}},
			{requestRate, "uwsgi cgi", reach{}},
			{daemonPerRequest, "fcgiwrap", reach{}},
			{daemonPerRequest, "Go loop", reach{}},
		},
	},
	{
		name: "cgi-spawner", work: "CGI, static C hello, 8 clients, started by another process",
		sides: apartSides("spawner", apartScripts, "cgi", helloLoad),
		rows:  []rowSpec{{requestRate, "one process", atLeast(0.85)}},
	},
	{
		name: "cgi-confined", work: "the same, with limits and Landlock",
		sides: apartSides("confined", apartScripts+confined, "cgi", helloLoad),
		rows:  []rowSpec{{requestRate, "one process", atLeast(0.8)}},
	},
	{
		name: "php-spawner", work: "PHP hello, 8 clients, workers started by another process",
		sides: apartSides("workers", apartWorkers, "php", phpLoad),
		rows:  []rowSpec{{requestRate, "one process", atLeast(0.95)}},
	},
	{
		name: "function-spawner", work: "function hello, 8 keep-alive connections, of two processes",
		sides: apartSides("functions", apartFunctions, "function", pingLoad),
		rows:  []rowSpec{{requestRate, "one process", atLeast(0.95)}},
	},
	{
		name: "cgi-shell", work: "CGI, shell hello, 8 clients, a connection a request",
		sides: cgiSides(func(r *rig) load { return load{request: r.requestFor("hello.sh"), conns: clients} }),
		rows:  []rowSpec{{requestRate, "fcgiwrap", atLeast(1.1)}},
	},
	{
		name: "cgi-download", work: "CGI download, 256 MiB",
		sides: cgiSides(func(r *rig) load {
			request := r.requestFor("download")
			request.want, request.wantBytes = "", bulk
			return load{request: request, conns: 1}
		}),
		rows: []rowSpec{{received, "fcgiwrap", atLeast(2.5)}, {daemonPerGB, "", atMost(0.6)}, {daemonPerGB, "fcgiwrap", reach{}}},
	},
	{
		name: "cgi-upload", work: "CGI upload, 256 MiB, spooled",
		sides: uploadSides("cgi"),
		rows:  []rowSpec{{sent, "fcgiwrap", atLeast(2)}, {daemonPerGB, "fcgiwrap", reach{}}},
	},
	{
		name: "cgi-upload-live", work: "CGI upload, 256 MiB, request_buffering: false",
		sides: uploadSides("live"),
		rows:  []rowSpec{{sent, "fcgiwrap", atLeast(2.25)}, {daemonPerGB, "fcgiwrap", reach{}}},
	},
	{
		name: "cgi-sleepers", work: "500 sleeping CGI programs", once: true,
		sides: func(*rig) []side {
			return []side{{name: "fcgid", start: startFcgid("sleepers"), measure: holdSleepers(500)}}
		},
		// The daemon's spare threads are 24 that programs could hold unseen, so that there is little to
		// allow beyond: what Go's runtime makes while the kernel holds some up.
		rows: []rowSpec{{moreThreads, "", atMost(8)}, {memoryEach, "", atMost(64)}},
	},
	{
		name: "php-nginx", work: "PHP hello, 64 clients of nginx",
		sides: func(*rig) []side { return []side{nginxSide("fcgid"), nginxSide("php-fpm")} },
		rows:  []rowSpec{{requestRate, "php-fpm", atLeast(1)}},
	},
	{
		name: "php-direct", work: "PHP hello, 8 clients, a connection a request",
		sides: phpSides("php", "epoll proxy in C", startProxyLimit),
		rows: []rowSpec{
			{requestRate, "php-fpm", atLeast(0.6)},
			{requestRate, "epoll proxy in C", atLeast(0.8)},
			{daemonPerRequest, "epoll proxy in C", reach{}},
		},
	},
	{
		name: "php-own", work: "PHP hello, connections: direct, 8 clients, a connection a request",
		sides: phpSides("php-own", "spawn-fcgi, php-cgi", startSpawnFcgi),
		rows: []rowSpec{
			{requestRate, "php-fpm", atLeast(1)},
			{requestRate, "spawn-fcgi, php-cgi", reach{}},
			{treePerRequest, "php-fpm", atMost(1)},
			{treePerRequest, "spawn-fcgi, php-cgi", atMost(1.05)},
		},
	},
	{
		name: "c-own", work: "C hello of libfcgi, connections: direct, 8 clients, a connection a request",
		sides: func(r *rig) []side {
			ld := load{request: r.requestFor("libfcgi_hello"), conns: clients}
			return []side{
				{name: "fcgid", start: startFcgid("c-own"), load: ld},
				{name: "spawn-fcgi, multiwatch", start: startMultiwatch, load: ld},
			}
		},
		rows: []rowSpec{{requestRate, "spawn-fcgi, multiwatch", atLeast(1)}, {treePerRequest, "spawn-fcgi, multiwatch", atMost(1.05)}},
	},
	{
		name: "php-apache", work: "PHP hello, 64 clients of Apache",
		sides: func(*rig) []side {
			return []side{
				{name: "fcgid, mod_proxy_fcgi", start: through(startApache, startFcgid("php")), load: httpLoad("/fcgid/hello.php")},
				{name: "mod_fcgid", start: startApache, load: httpLoad("/mod_fcgid/hello.php")},
			}
		},
		rows: []rowSpec{{requestRate, "mod_fcgid", reach{}}},
	},
	{
		name: "function", work: "function hello, 8 keep-alive connections",
		sides: func(r *rig) []side {
			ld := load{request: r.keepAlive(1), conns: clients, keep: true}
			few := ld
			few.conns = libfcgiProcesses // one more would wait for a process for ever
			return []side{
				{name: "fcgid", start: startFcgid("function"), load: pings(ld)},
				{name: "net/http/fcgi", start: startNetHTTP, load: ld},
				{name: "libfcgi in C", start: startLibfcgi, load: few},
				{name: "read-write loop", start: startEchoLimit, load: ld},
			}
		},
		rows: []rowSpec{
			{requestRate, "net/http/fcgi", atLeast(3)},
			{requestRate, "libfcgi in C", atLeast(0.9)},
			{requestRate, "read-write loop", reach{}},
		},
	},
	{
		name: "function-one", work: "function hello, one keep-alive connection",
		sides: func(r *rig) []side {
			ld := load{request: r.keepAlive(1), conns: 1, keep: true}
			return []side{
				{name: "fcgid", start: startFcgid("function"), load: pings(ld)},
				{name: "net/http/fcgi", start: startNetHTTP, load: ld},
				{name: "libfcgi in C", start: startLibfcgi, load: ld},
			}
		},
		rows: []rowSpec{{requestRate, "net/http/fcgi", reach{}}, {requestRate, "libfcgi in C", reach{}}},
	},
	{
		name: "function-mux", work: "function hello, 64 requests at once on one connection",
		sides: func(r *rig) []side {
			ld := load{request: r.keepAlive(64), conns: 1, streams: 64, keep: true}
			return []side{
				{name: "fcgid", start: startFcgid("function"), load: pings(ld)},
				{name: "net/http/fcgi", start: startNetHTTP, load: ld},
			}
		},
		rows: []rowSpec{{requestRate, "net/http/fcgi", atLeast(2)}},
	},
	{
		name: "idle", work: "10,000 idle keep-alive connections", once: true,
		sides: func(*rig) []side {
			return []side{{name: "fcgid", start: startFcgid("idle"), measure: holdIdle(10000)}}
		},
		rows: []rowSpec{{memoryEach, "", atMost(12)}, {threads, "", reach{}}},
	},
	{
		name: "daemon", work: "a daemon that does nothing",
		sides: func(*rig) []side { return []side{{name: "fcgid", measure: holdDaemon(1)}} },
		rows:  []rowSpec{{resident, "", atMost(12)}, {readyAfter, "", reach{}}},
	},
	{
		name: "daemon-300", work: "a daemon that does nothing, 300 pools",
		sides: func(*rig) []side { return []side{{name: "fcgid", measure: holdDaemon(300)}} },
		rows:  []rowSpec{{resident, "", atMost(30)}, {readyAfter, "", atMost(0.15)}, {checkTime, "", reach{}}},
	},
	{
		name: "latency-cgi", work: "CGI, static C hello, a connection a request", half: true,
		sides: cgiSides(helloLoad),
		rows:  []rowSpec{{p99, "fcgiwrap", atMost(1)}, {medianLatency, "fcgiwrap", reach{}}},
	},
	{
		name: "latency-php", work: "PHP hello, a connection a request", half: true,
		sides: phpSides("php", "epoll proxy in C", startProxyLimit),
		rows:  []rowSpec{{p99, "php-fpm", atMost(1)}, {medianLatency, "php-fpm", atMost(2)}, {medianLatency, "epoll proxy in C", atMost(1.25)}},
	},
	siteCase(dokuwiki, "DokuWiki's start page"),
	siteCase(wordpress, "WordPress' front page"),
	gitCase(),
	eventsCase("events-cgi", "event stream, CGI", "events", clients,
		side{name: "fcgid", start: startFcgid("cgi")}, side{name: "fcgiwrap", start: startFcgiwrap}),
	eventsCase("events-php", "event stream, PHP", "events.php", children,
		side{name: "fcgid", start: startFcgid("php")}, side{name: "php-fpm", start: startPHPFPM("php-fpm")},
		side{name: "spawn-fcgi, php-cgi", start: startSpawnFcgi}),
}

// cgiSides are fcgid and fcgiwrap under the same load.
func cgiSides(ld func(*rig) load) func(*rig) []side { return poolSides("cgi", ld) }

// uploadSides are those of an upload to one of fcgid's pools.
func uploadSides(pool string) func(*rig) []side {
	return poolSides(pool, func(r *rig) load { return load{request: post(r.program("upload"), bulk), conns: 1} })
}

// poolSides are one of fcgid's pools and fcgiwrap under the same load.
func poolSides(pool string, ld func(*rig) load) func(*rig) []side {
	return func(r *rig) []side {
		return []side{
			{name: "fcgid", start: startFcgid(pool), load: ld(r)},
			{name: "fcgiwrap", start: startFcgiwrap, load: ld(r)},
		}
	}
}

// helloLoad is a connection a request, to the C program.
func helloLoad(r *rig) load { return load{request: r.requestFor("hello"), conns: clients} }

// phpLoad is a connection a request, straight to PHP.
func phpLoad(r *rig) load { return load{request: r.requestFor("hello.php"), conns: clients} }

// phpSides are fcgid, in the faster of a pool's two configurations, php-fpm, and one more.
func phpSides(pool, name string, start func(*rig) (*server, error)) func(*rig) []side {
	return func(r *rig) []side {
		var ways []side
		for _, way := range []string{pool, pool + "-shared"} {
			ways = append(ways, side{name: "pool " + way, start: startFcgid(way), load: phpLoad(r)})
		}
		return []side{
			{name: "fcgid", oneOf: ways},
			{name: "php-fpm", start: startPHPFPM("php-fpm"), load: phpLoad(r)},
			{name: name, start: start, load: phpLoad(r)},
		}
	}
}

// httpLoad is 64 clients that keep their connections to a web server.
func httpLoad(path string) load { return load{request: httpGet(path), conns: 64, keep: true} }

// nginxSide is fcgid or php-fpm behind nginx, in the fastest of its configurations.
func nginxSide(name string) side {
	s := side{name: name}
	for _, u := range upstreams {
		keep := "a connection a request"
		if u.keep > 0 {
			keep = "keep-alive"
		}
		isFPM := strings.HasPrefix(u.socket, "php-fpm")
		back, description := startPHPFPM(u.socket), keep
		if !isFPM {
			back, description = startFcgid(u.socket), fmt.Sprintf("pool %s, %s", u.socket, keep)
		}
		if isFPM == (name == "php-fpm") {
			s.oneOf = append(s.oneOf, side{name: description, start: through(startNginx, back), load: httpLoad("/" + u.name)})
		}
	}
	return s
}

// keepAlive asks for hello on connections that are kept.
func (r *rig) keepAlive(streams int) *request { return get(r.program("hello"), true, streams) }

// pings is the same load for fcgid's function fcgid.ping, whose answer is as long.
func pings(ld load) load {
	ld.request = get("/fcgid.ping", true, len(ld.request.heads))
	ld.request.want = "pong\n"
	return ld
}

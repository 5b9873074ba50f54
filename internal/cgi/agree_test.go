package cgi

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fcgid/fcgid/internal/protocol"
)

// opened is the file that php-cgi takes for its script, by what sapi/cgi of PHP
// 8.2 does with its environment: with cgi.fix_pathinfo it walks back to the
// longest file that exists, without it opens what it is told.
func opened(env map[string]string, fixPathInfo bool) string {
	script, translated := env["SCRIPT_FILENAME"], env["PATH_TRANSLATED"]
	_, hasScript := env["SCRIPT_FILENAME"]
	_, hasTranslated := env["PATH_TRANSLATED"]
	_, redirected := env["REDIRECT_URL"]
	if !hasScript {
		script = translated
	}
	if !fixPathInfo {
		if hasTranslated {
			return translated
		}
		return script
	}
	if hasTranslated && redirected && translated != script {
		script = translated
	}
	for script != "" {
		if info, err := os.Stat(script); err == nil && info.Mode().IsRegular() && !strings.HasSuffix(script, "/") {
			return script
		}
		script = script[:max(0, strings.LastIndexByte(script, '/'))]
	}
	return ""
}

// misleading are values that each of the params takes in turn that could name a
// file, "-" for none; $R is a folder with good.php, photo.jpg and other.php, $O
// one outside.
var misleading = [][]string{
	{"SCRIPT_FILENAME", "$R/good.php", "$R/good.php/photo.jpg", "proxy:fcgi://localhost$R/good.php", "proxy:fcgi://localhost$R/good.php/x%20y", "proxy:balancer://x$R/good.php?a=/b", "-", ""},
	{"SCRIPT_NAME", "/good.php", "-", "", "/photo.jpg"},
	{"PATH_INFO", "-", "/photo.jpg", "/good.php/photo.jpg", ""},
	{"PATH_TRANSLATED", "-", "$R/photo.jpg", "$O/secret.php", "$R/good.php", ""},
	{"REDIRECT_URL", "-", "/r/photo.jpg", ""},
	{"ORIG_SCRIPT_FILENAME ORIG_PATH_TRANSLATED ORIG_PATH_INFO", "-", "$O/secret.php"},
	{"REDIRECT_SCRIPT_FILENAME REDIRECT_PATH_TRANSLATED REDIRECT_REDIRECT_URL", "-", "$R/photo.jpg"},
	{"DOCUMENT_ROOT", "$R", "-", "$O"},
}

// combinations yields each combination of the values.
func combinations(values [][]string, tree *strings.Replacer, yield func(*protocol.Params)) {
	total := 1
	for _, v := range values {
		total *= len(v) - 1
	}
	for n := range total {
		var params protocol.Params
		for _, v := range values {
			value := v[1+n%(len(v)-1)]
			n /= len(v) - 1
			for name := range strings.FieldsSeq(v[0]) {
				if value != "-" {
					params.Add(name, tree.Replace(value))
				}
			}
		}
		yield(&params)
	}
}

func misleadingTree(t *testing.T) *strings.Replacer {
	t.Helper()
	dir := tempDir(t)
	for _, name := range []string{"r/good.php", "r/other.php", "r/photo.jpg", "o/secret.php", "o/good.php"} {
		write(t, filepath.Join(dir, name), "<?php", 0o644)
	}
	write(t, dir+"/r/direct.php", "#!/usr/bin/php-cgi\n<?php", 0o755)
	return strings.NewReplacer("$R", dir+"/r", "$O", dir+"/o")
}

func asMap(env []string) map[string]string {
	m := make(map[string]string)
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		m[name] = value
	}
	return m
}

// Whatever the params say, php-cgi opens the file that was looked at, and no
// other: as a worker, as an interpreter, and by a script's first line.
func TestNoOtherFileIsOpened(t *testing.T) {
	tree := misleadingTree(t)
	good := tree.Replace("$R/good.php")
	interpreted := Rules{Roots: []string{tree.Replace("$R")}, Extensions: []string{".php"}, Interpreters: map[string]string{".php": "/usr/bin/php-cgi"}}
	direct := Rules{Roots: interpreted.Roots}
	e := NewEnvironment(Options{})
	found := 0
	wantOpened := func(kind string, env map[string]string, params *protocol.Params, want string) {
		for _, fix := range []bool{false, true} {
			if got := opened(env, fix); got != want {
				t.Fatalf("%s, fix_pathinfo %v: opens %q, want %q\nparams %q\nenvironment %v", kind, fix, got, want, slices.Collect(maps.Keys(maps.Collect(params.All()))), env)
			}
		}
	}
	combinations(misleading, tree, func(params *protocol.Params) {
		if s, err := interpreted.Find(params); err == nil {
			found++
			env, err := e.Of(params, new(protocol.RequestID), &s)
			mustDo(t, err)
			wantOpened("interpreter", asMap(env), params, s.Path)
		}
		if told, err := e.ForWorker(params, &interpreted); err == nil {
			wantOpened("worker with root", maps.Collect(told.All()), params, told.Get("SCRIPT_FILENAME"))
			if told.Get("SCRIPT_FILENAME") != good {
				return // DOCUMENT_ROOT and SCRIPT_NAME alone
			}
		}
		told, err := e.ForWorker(params, nil)
		mustDo(t, err)
		_, redirected := params.Lookup("REDIRECT_URL")
		switch proxied := strings.HasPrefix(params.Get("SCRIPT_FILENAME"), "proxy:"); {
		case proxied:
			wantOpened("worker behind Apache", maps.Collect(told.All()), params, good)
		case redirected && params.Get("SCRIPT_FILENAME") == good:
			wantOpened("worker, redirected", maps.Collect(told.All()), params, good)
		}
	})
	if found < 1000 {
		t.Errorf("a script was found in %d cases", found)
	}
	misleading := slices.Clone(misleading)
	misleading[0] = []string{"SCRIPT_FILENAME", "$R/direct.php", "$R/direct.php/photo.jpg"}
	combinations(misleading, tree, func(params *protocol.Params) {
		s, err := direct.Find(params)
		mustDo(t, err)
		env, err := e.Of(params, new(protocol.RequestID), &s)
		mustDo(t, err)
		wantOpened("first line", asMap(env), params, tree.Replace("$R/direct.php"))
	})
}

// What other programs are told of a path's translation and of a redirection is
// theirs.
func TestDirectProgramsAreTold(t *testing.T) {
	tree := scriptTree(t)
	params := paramsOf("SCRIPT_FILENAME", tree.Replace("$R/a.cgi"), "PATH_INFO", "/x", "PATH_TRANSLATED", "/t", "REDIRECT_URL", "/r", "ORIG_X", "o")
	s, err := new(Rules).Find(&params)
	mustDo(t, err)
	list, err := NewEnvironment(Options{}).Of(&params, new(protocol.RequestID), &s)
	mustDo(t, err)
	env := asMap(list)
	if env["PATH_TRANSLATED"] != "/t" || env["REDIRECT_URL"] != "/r" || env["ORIG_X"] != "o" || env["REDIRECT_STATUS"] != "" {
		t.Errorf("environment %q", list)
	}
}

func TestLooksItself(t *testing.T) {
	dir := tempDir(t)
	for text, want := range map[string]bool{
		"#!/usr/bin/php-cgi\n": true, "#! /usr/local/bin/php-cgi8.2 -q\n<?php": true, "#!/usr/bin/env php-cgi\n": true, "#!/usr/bin/env -S A=b php -q": true,
		"#!/usr/bin/lsphp": true, "#!/usr/bin/eruby\r\n": true, "#!/usr/bin/lua5.3\n": false, "#!/usr/bin/wsapi.cgi\n": true,
		"#!/usr/bin/perl\n# php": false, "#!/bin/sh\nexec php-cgi": false, "": false, "#!": false, "\x7fELF": false, " #!/usr/bin/php\n": false, "<?php": false,
	} {
		if got := looksItself(write(t, dir+"/x.cgi", text, 0o755), "/usr/bin"); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	mustDo(t, os.Symlink(write(t, dir+"/php8.2", "\x7fELF", 0o755), dir+"/handler"))
	if !looksItself(dir+"/handler", "") {
		t.Error("a link to php8.2 is not seen to be php-cgi")
	}
	write(t, dir+"/wrapper", "#!"+dir+"/handler -q\n", 0o755)
	mustDo(t, os.Symlink("wrapper", dir+"/wrapped"))
	mustDo(t, os.Symlink(write(t, dir+"/other", "\x7fELF", 0o755), dir+"/tool"))
	for text, want := range map[string]bool{
		"#!" + dir + "/handler\n": true, "#! " + dir + "/handler -q\n": true, "#!" + dir + "/wrapped\n": true,
		"#!/usr/bin/env handler\n": true, "#!/usr/bin/env -S A=b handler -q\n": true, "#!/usr/bin/env wrapped\n": true, "#!/usr/bin/nice env wrapper\n": true,
		"#!/usr/bin/env -S ${HANDLER}\n": true, "#!/usr/bin/env -S 'handle'r\n": true, "#!/usr/bin/env -S hand\\\\ler\n": true,
		"#!" + dir + "/tool\n": false, "#!/usr/bin/env tool\n": false, "#!" + dir + "/nothing\n": false, "#!" + dir + "/x.cgi\n": false,
	} {
		if got := looksItself(write(t, dir+"/x.cgi", text, 0o755), "/nothing:"+dir+":/usr/bin"); got != want {
			t.Errorf("%q, by way of a link: %v", text, got)
		}
	}
	if looksItself(dir+"/nothing", "") || looksItself(dir, "") {
		t.Error("what is no file is taken for php-cgi")
	}
}

// A worker's command is one, or starts one.
func TestCommandLooksItself(t *testing.T) {
	dir := tempDir(t)
	shell := write(t, dir+"/shell", "#!/bin/sh\nPHP_FCGI_CHILDREN=2 exec /usr/bin/php-cgi8.2 \"$@\"\n", 0o755)
	bash := write(t, dir+"/bash", "#!/usr/bin/env bash\nphp-cgi|cat\n", 0o755)
	perl := write(t, dir+"/perl", "#!/usr/bin/perl\n# as php-cgi does\n", 0o755)
	plain := write(t, dir+"/plain", "#!/bin/sh\nexec /srv/app/program # in place of an older one\n", 0o755)
	for _, test := range []struct {
		command []string
		want    bool
	}{
		{[]string{"/usr/bin/php-cgi"}, true}, {[]string{"php-cgi", "-d", "cgi.fix_pathinfo=0"}, true}, {[]string{"/usr/bin/env", "A=b", "php-cgi8.2"}, true},
		{[]string{shell}, true}, {[]string{bash}, true}, {[]string{"/bin/sh", shell}, true},
		{[]string{perl}, false}, {[]string{plain}, false}, {[]string{"/srv/app/program"}, false}, {nil, false},
	} {
		if got := commandLooksItself(test.command, "/usr/bin"); got != test.want {
			t.Errorf("%q: %v", test.command, got)
		}
	}
}

// A worker that is php-cgi and looks itself, with cgi.fix_pathinfo or without, opens
// what SCRIPT_FILENAME names, from whichever server the request is; and it is not asked
// for a file that only a path behind it makes PHP's.
func TestWorkerThatLooksItself(t *testing.T) {
	tree := misleadingTree(t)
	e := NewEnvironment(Options{Command: []string{"/usr/bin/php-cgi"}})
	values := slices.Clone(misleading)
	values[0] = []string{"SCRIPT_FILENAME", "$R/good.php", "proxy:fcgi://localhost$R/good.php"}
	combinations(values, tree, func(params *protocol.Params) {
		told, err := e.ForWorker(params, nil)
		mustDo(t, err)
		for _, fix := range []bool{false, true} {
			if got := opened(maps.Collect(told.All()), fix); got != tree.Replace("$R/good.php") {
				t.Fatalf("fix_pathinfo %v: opens %q, told %q", fix, got, maps.Collect(told.All()))
			}
		}
	})
	for name, want := range map[string]int{
		"$R/photo.jpg/x.php": 403, "$R/photo.jpg/a/b.PHP": 403, "$R/photo.jpg/x.phtml/y": 403, "proxy:fcgi://localhost$R/photo.jpg/x.php": 403,
		"proxy:fcgi://localhost$R/photo%2ejpg/x%2ephp": 403, "$R/good.php/photo.jpg": 0, "$R/good.php/x.php": 0, "$R/photo.jpg": 0,
		"$R/photo.jpg/x": 0, "$R/nothing.d/x.php": 0, "nothing.d/x.php": 0, "": 0,
	} {
		params := paramsOf("SCRIPT_FILENAME", tree.Replace(name))
		_, err := e.ForWorker(&params, nil)
		if want == 0 {
			mustDo(t, err)
		} else {
			wantRefusal(t, err, want, "")
		}
	}
}

// What env(1) starts is looked for in the PATH that the script gets.
func TestLooksItselfInItsPath(t *testing.T) {
	dir := tempDir(t)
	mustDo(t, os.Symlink(write(t, dir+"/php8.2", "\x7fELF", 0o755), dir+"/handler"))
	script := write(t, dir+"/x.cgi", "#!/usr/bin/env handler\n", 0o755)
	for name, c := range map[string]struct {
		env, pass []string
		daemon    string
		param     string
		want      bool
	}{
		"env":               {env: []string{"PATH=/nothing:" + dir}, want: true},
		"param":             {param: dir, want: true},
		"pass_env":          {pass: []string{"PATH"}, daemon: dir, want: true},
		"the daemon's own":  {daemon: dir},
		"env before param":  {env: []string{"PATH=/nothing"}, param: dir},
		"param before pass": {pass: []string{"PATH"}, daemon: dir, param: "/nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PATH", c.daemon)
			pairs := []string{"SCRIPT_FILENAME", script, "PATH_TRANSLATED", "/other"}
			if c.param != "" {
				pairs = append(pairs, "PATH", c.param)
			}
			params := paramsOf(pairs...)
			s, err := new(Rules).Find(&params)
			mustDo(t, err)
			list, err := NewEnvironment(Options{Env: c.env, PassEnv: c.pass}).Of(&params, new(protocol.RequestID), &s)
			mustDo(t, err)
			if _, told := asMap(list)["PATH_TRANSLATED"]; told == c.want {
				t.Errorf("it is told PATH_TRANSLATED: %v", told)
			}
		})
	}
}

func TestForWorker(t *testing.T) {
	tree := scriptTree(t)
	complete := "GATEWAY_INTERFACE=CGI/1.1\nSERVER_SOFTWARE=x\n"
	for name, test := range map[string]struct{ params, want string }{
		"as they came":             {"A=1\nSCRIPT_FILENAME=/nothing\nPATH_TRANSLATED=/x\nORIG_X=1\nREDIRECT_STATUS=200\nENV=y\nLD_PRELOAD=z\nHOME=/", "="},
		"each name once":           {"A=1\nB=2\nA=3\nHTTP_X=a\nHTTP_X=b\nHTTP_COOKIE=c\nHTTP_COOKIE=d", "A=3\nB=2\nHTTP_X=a, b\nHTTP_COOKIE=c; d"},
		"no proxy, no odd name":    {"A=1\nHTTP_PROXY=x\nA-B=1\n=1\nA B=1", "A=1"},
		"may pass":                 {"MAY_PASS=1\nREDIRECT_MAY_PASS=2\nREDIRECT_NOT=3\nREDIRECT_URL=/", "MAY_PASS=1\nREDIRECT_MAY_PASS=2"},
		"set by the pool":          {"SET=param\nA=1", "SET=pool\nA=1"},
		"redirected":               {"SCRIPT_FILENAME=/nothing\nREDIRECT_URL=/\nPATH_TRANSLATED=/x\nORIG_PATH_INFO=1\nREDIRECT_STATUS=200\nPATH_INFO=/i", "SCRIPT_FILENAME=/nothing\nREDIRECT_STATUS=200\nPATH_INFO=/i"},
		"Apache":                   {"SCRIPT_FILENAME=proxy:fcgi://localhost$R/a.cgi\nSCRIPT_NAME=/a.cgi\nPATH_INFO=/i\nPATH_TRANSLATED=$R/i", "SCRIPT_FILENAME=$R/a.cgi\nSCRIPT_NAME=/a.cgi\nPATH_INFO=/i"},
		"Apache's ProxyPass":       {"SCRIPT_FILENAME=proxy:fcgi://localhost$R/a%20b.cgi/x%20y\nSCRIPT_NAME=/a b.cgi/x y", "SCRIPT_FILENAME=$R/a b.cgi\nSCRIPT_NAME=/a b.cgi\nPATH_INFO=/x y"},
		"Apache, not there for us": {"SCRIPT_FILENAME=proxy:fcgi://localhost/chroot/a.php/x\nSCRIPT_NAME=/a.php/x\nPATH_TRANSLATED=/y", "SCRIPT_FILENAME=/chroot/a.php/x\nSCRIPT_NAME=/a.php/x"},
	} {
		t.Run(name, func(t *testing.T) {
			params := paramsOf("GATEWAY_INTERFACE", "CGI/1.1", "SERVER_SOFTWARE", "x")
			for line := range strings.SplitSeq(tree.Replace(test.params), "\n") {
				name, value, _ := strings.Cut(line, "=")
				params.Add(name, value)
			}
			e := NewEnvironment(Options{Software: "y", Env: []string{"SET=pool", "NEVER_SENT=1"}, PassParams: []string{"MAY_PASS", "REDIRECT_MAY_PASS"}})
			told, err := e.ForWorker(&params, nil)
			mustDo(t, err)
			if test.want == "=" {
				if told != &params {
					t.Error("they are others")
				}
				return
			}
			var got []string
			for name, value := range told.All() {
				got = append(got, name+"="+value)
			}
			if diff := cmp.Diff(strings.Split(complete+tree.Replace(test.want), "\n"), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for _, bad := range []struct {
		params []string
		rules  *Rules
		status int
	}{
		{[]string{"SCRIPT_FILENAME", "/a\x00b"}, nil, 403},
		{[]string{"DOCUMENT_ROOT", "\x00"}, nil, 403},
		{[]string{"HTTP_HOST", "a", "HTTP_HOST", "b"}, nil, 400},
		{[]string{"A", "1"}, &Rules{Extensions: []string{".php"}}, 404},
		{[]string{"SCRIPT_FILENAME", "/nothing.php"}, &Rules{Extensions: []string{".php"}}, 404},
		{[]string{"SCRIPT_FILENAME", tree.Replace("$R/a.cgi/x.php")}, &Rules{Extensions: []string{".php"}}, 403},
		{[]string{"SCRIPT_FILENAME", tree.Replace("$O/x.cgi")}, &Rules{Roots: []string{tree.Replace("$R")}}, 403},
	} {
		params := paramsOf(bad.params...)
		_, err := NewEnvironment(Options{}).ForWorker(&params, bad.rules)
		wantRefusal(t, err, bad.status, "")
	}
	params := paramsOf("SERVER_PROTOCOL", "HTTP/1.1")
	told, err := NewEnvironment(Options{Software: "fcgid/1"}).ForWorker(&params, nil)
	if got := fmt.Sprint(maps.Collect(told.All()), err); got != "map[GATEWAY_INTERFACE:CGI/1.1 SERVER_PROTOCOL:HTTP/1.1 SERVER_SOFTWARE:fcgid/1] <nil>" {
		t.Errorf("what is missing: %s", got)
	}
}

package cgi

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
)

// fuzzTree is misleadingTree for a fuzz test, with links that lead out of it.
func fuzzTree(f *testing.F) (root, outside string) {
	dir := tempDir(f)
	root, outside = dir+"/r", dir+"/o"
	for _, name := range []string{"r/good.php", "r/other.php", "r/photo.jpg", "r/a%20b.php", "r/sub/good.php", "o/secret.php"} {
		write(f, filepath.Join(dir, name), "<?php", 0o755)
	}
	for link, target := range map[string]string{"link.php": "good.php", "out.php": "../o/secret.php", "out": "../o", "in": "sub", "magic": "/proc/self/root", "loop": "loop"} {
		mustDo(f, os.Symlink(target, filepath.Join(root, link)))
	}
	return root, outside
}

// FuzzScript: whatever the params name, a script that is found lies where the
// rules say, and neither an interpreter nor a worker is told of another.
func FuzzScript(f *testing.F) {
	root, outside := fuzzTree(f)
	for _, seed := range [][6]string{
		{"R/good.php", "/good.php", "", "", "R", ""},
		{"R/good.php//x/y", "/good.php//x/y", "", "R/photo.jpg", "R", "/r"},
		{"proxy:fcgi://localhost/R/good.php/a%20b", "/good.php/a b", "", "O/secret.php", "", "/r"},
		{"proxy:balancer://x/R/a%2520b.php?q", "", "/a%20b.php", "", "O", ""},
		{"", "/good.php/photo.jpg", "", "", "R", ""}, {"R/out/secret.php", "", "", "", "", ""}, {"R/magic/O/secret.php", "", "", "", "", ""},
		{"R/sub/../good.php", "", "", "", "", ""}, {"R/link.php/.", "", "", "", "", ""}, {"R/loop", "", "", "", "", ""}, {"R/good.php\x00.jpg", "\x00", "", "", "", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], seed[4], seed[5])
	}
	rules := Rules{Roots: []string{root}, Extensions: []string{".php"}, Interpreters: map[string]string{".php": "/usr/bin/php-cgi"}}
	e := NewEnvironment(Options{})
	f.Fuzz(func(t *testing.T, filename, name, info, translated, documentRoot, redirect string) {
		var params protocol.Params
		for i, value := range []string{filename, name, info, translated, documentRoot, redirect} {
			if value != "" {
				value = strings.NewReplacer("R/", root+"/", "O/", outside+"/").Replace(value)
				params.Add([]string{"SCRIPT_FILENAME", "SCRIPT_NAME", "PATH_INFO", "PATH_TRANSLATED", "DOCUMENT_ROOT", "REDIRECT_URL"}[i], value)
			}
		}
		told, workerErr := e.ForWorker(&params, &rules)
		s, err := rules.Find(&params)
		if wantRefusalOrNil(t, err); (err == nil) != (workerErr == nil) {
			t.Fatalf("interpreter: %v, worker: %v", err, workerErr)
		}
		if err != nil {
			return
		}
		real, realErr := filepath.EvalSymlinks(s.Path)
		if realErr != nil || !strings.HasPrefix(real, root+"/") || !strings.HasSuffix(s.Path, ".php") {
			t.Fatalf("%q is %q, %v", s.Path, real, realErr)
		}
		list, err := e.Of(&params, new(protocol.RequestID), &s)
		if wantRefusalOrNil(t, err); err != nil {
			return
		}
		for who, env := range map[string]map[string]string{"interpreter": asMap(list), "worker": maps.Collect(told.All())} {
			if opened(env, true) != s.Path || opened(env, false) != s.Path {
				t.Errorf("%s opens %q or %q, not %q", who, opened(env, true), opened(env, false), s.Path)
			}
		}
	})
}

func wantRefusalOrNil(t *testing.T, err error) {
	t.Helper()
	var refusal *protocol.Refusal
	if err != nil && !errors.As(err, &refusal) {
		t.Fatalf("%T: %v", err, err)
	}
}

// FuzzEnvironment: an environment has each name once, none that is dropped, and
// nothing that the kernel does not take; what a worker is told is not changed when
// it is told again.
func FuzzEnvironment(f *testing.F) {
	for _, pairs := range [][]string{
		{"A", "1", "A", "2", "HTTP_X", "a", "HTTP_X", "b", "HTTP_COOKIE", "c", "HTTP_COOKIE", "d"},
		{"HTTP_HOST", "a", "HTTP_HOST", "b"}, {"LD_PRELOAD", "x", "HTTP_PROXY", "x", "A=B", "x", "", "x", "N", "\x00"},
		{"SCRIPT_FILENAME", "proxy:fcgi://h/usr/bin/env", "REDIRECT_URL", "/", "PATH_TRANSLATED", "/", "ORIG_X", "1"},
	} {
		params := paramsOf(pairs...)
		f.Add(params.Append(nil))
	}
	e := NewEnvironment(Options{Env: []string{"SET=1"}, PassParams: []string{"LD_PRELOAD"}, SingleFields: []string{"*_USER"}})
	f.Fuzz(func(t *testing.T, stream []byte) {
		params, _ := protocol.ParseParams(string(stream))
		list, err := e.Of(&params, new(protocol.RequestID), &Script{Path: "/usr/bin/env"})
		wantRefusalOrNil(t, err)
		seen := make(map[string]bool)
		for _, kv := range list {
			name, _, ok := strings.Cut(kv, "=")
			if !ok || seen[name] || !isName(name) || strings.IndexByte(kv, 0) >= 0 || len(kv) >= maxString {
				t.Errorf("%.100q", kv)
			}
			if isProxyHeader(name) || steers(name) && name != "LD_PRELOAD" && name != "HOME" {
				t.Errorf("%s is there", name)
			}
			seen[name] = true
		}
		told, err := e.ForWorker(&params, nil)
		if wantRefusalOrNil(t, err); err != nil {
			return
		}
		again, err := e.ForWorker(told, nil)
		if err != nil || !slices.Equal(told.Append(nil), again.Append(nil)) {
			t.Errorf("told %q, then %q, %v", told.Append(nil), again.Append(nil), err)
		}
	})
}

// FuzzRepeated: a field is the list of its values in their order, or is refused
// when it may come once only and its values differ.
func FuzzRepeated(f *testing.F) {
	f.Add("X", "a\nb\na")
	f.Add("COOKIE", "a\n\nb")
	f.Add("HOST", "a\na")
	f.Add("REMOTE_USER", "a\nb")
	f.Fuzz(func(t *testing.T, field, text string) {
		name, values := "HTTP_"+field, strings.Split(text, "\n")
		if !isName(name) || isProxyHeader(name) || strings.IndexByte(text, 0) >= 0 || len(text) > 10_000 {
			return
		}
		params := paramsOf("SCRIPT_FILENAME", "/usr/bin/env")
		for _, value := range values {
			params.Add(name, value)
			params.Add("A", value)
		}
		single := fields{"*_USER"}
		list, err := NewEnvironment(Options{SingleFields: single}).Of(&params, new(protocol.RequestID), &Script{Path: "/usr/bin/env"})
		isSingle := singles.has(name) || single.has(name)
		if differ := len(slices.Compact(slices.Clone(values))) > 1; isSingle && differ {
			wantRefusal(t, err, 400, "")
			return
		}
		mustDo(t, err)
		want := strings.Join(values, ", ")
		switch {
		case isSingle:
			want = values[0]
		case field == "COOKIE":
			want = strings.Join(values, "; ")
		}
		if env := asMap(list); env[name] != want || env["A"] != values[len(values)-1] {
			t.Errorf("%s is %q, A is %q", name, env[name], env["A"])
		}
	})
}

package cgi

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
)

// jail is a folder that programs have as their root, and a link to it.
func jail(t *testing.T) (root, link string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	root, link = dir+"/jail", dir+"/link"
	for _, name := range []string{"/www/a.cgi", "/www/b.php", "/releases/1/c.cgi"} {
		if err := os.MkdirAll(filepath.Dir(root+name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+name, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for target, name := range map[string]string{root: link, "../releases/1": root + "/www/current", "/etc": root + "/www/etc"} {
		if err := os.Symlink(target, name); err != nil {
			t.Fatal(err)
		}
	}
	return root, link
}

func TestChroot(t *testing.T) {
	root, link := jail(t)
	for _, chroot := range []string{root, link, root + "/"} {
		e := NewEnvironment(Options{Chroot: chroot, Env: []string{"DATA=" + root + "/data"}})
		rules := &Rules{Roots: []string{root}, Chroot: chroot, Interpreters: map[string]string{".php": "/usr/bin/php-cgi"}}
		for script, want := range map[string]string{
			root + "/www/a.cgi": "/www/a.cgi", link + "/www/a.cgi": "/www/a.cgi",
			root + "/www/current/c.cgi": "/releases/1/c.cgi", root + "/www/b.php": "/www/b.php",
		} {
			params := new(protocol.Params)
			for _, pair := range [][2]string{{"SCRIPT_FILENAME", script + "/info"}, {"SCRIPT_NAME", "/x"}, {"DOCUMENT_ROOT", root + "/www"}, {"PATH_TRANSLATED", root + "/www/info"}} {
				params.Add(pair[0], pair[1])
			}
			s, err := rules.Find(params)
			if err != nil {
				t.Fatal(err)
			}
			if s.Argv[len(s.Argv)-1] != want {
				t.Errorf("%s executes %q, want %s", script, s.Argv, want)
			}
			env, err := e.Of(params, new(protocol.RequestID), &s)
			if err != nil {
				t.Fatal(err)
			}
			for _, pair := range []string{"SCRIPT_FILENAME=" + want, "DOCUMENT_ROOT=/www", "PATH_INFO=/info", "DATA=" + root + "/data"} {
				if !slices.Contains(env, pair) {
					t.Errorf("%s: the program is not told %s: %q", script, pair, env)
				}
			}
			for _, pair := range env {
				if strings.Contains(pair, root) && !strings.HasPrefix(pair, "DATA=") {
					t.Errorf("%s: the program is told %s", script, pair)
				}
			}
			told, err := e.ForWorker(params, rules)
			if err != nil || told.Get("SCRIPT_FILENAME") != want || told.Get("DOCUMENT_ROOT") != "/www" {
				t.Errorf("%s: a worker is told %s, %s, %v", script, told.Get("SCRIPT_FILENAME"), told.Get("DOCUMENT_ROOT"), err)
			}
		}
	}
}

// A worker that looks for its script itself is told what is in there, whether the web
// server has written it so or not.
func TestChrootOfWorkerWithoutRules(t *testing.T) {
	root, _ := jail(t)
	e := NewEnvironment(Options{Chroot: root, Command: []string{"/usr/bin/worker"}})
	for _, script := range []string{root + "/www/a.cgi", "/www/a.cgi"} {
		params := new(protocol.Params)
		params.Add("SCRIPT_FILENAME", script)
		params.Add("DOCUMENT_ROOT", root)
		told, err := e.ForWorker(params, nil)
		if err != nil || told.Get("SCRIPT_FILENAME") != "/www/a.cgi" || told.Get("DOCUMENT_ROOT") != "/" {
			t.Errorf("of %s it is told %s, %s, %v", script, told.Get("SCRIPT_FILENAME"), told.Get("DOCUMENT_ROOT"), err)
		}
	}
}

func TestOutsideChroot(t *testing.T) {
	root, _ := jail(t)
	other := filepath.Dir(root) + "/other.cgi"
	if err := os.WriteFile(other, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	rules := &Rules{Chroot: root}
	for _, script := range []string{other, root + "/www/etc/passwd", root + "-other/x"} {
		params := new(protocol.Params)
		params.Add("SCRIPT_FILENAME", script)
		_, err := rules.Find(params)
		var ref *protocol.Refusal
		if !errors.As(err, &ref) || ref.HTTPStatus != 403 && ref.HTTPStatus != 404 {
			t.Errorf("%s: %v", script, err)
		}
	}
}

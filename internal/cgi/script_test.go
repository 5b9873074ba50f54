package cgi

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/protocol"
)

// scriptTree makes the files that the tests of this file name: $R is the root,
// $O a folder outside of it.
func scriptTree(t *testing.T) *strings.Replacer {
	t.Helper()
	top := tempDir(t)
	root, outside := filepath.Join(top, "root"), filepath.Join(top, "outside")
	for _, name := range []string{"a.cgi", "dir/b.cgi", "a b.cgi", "a+b.cgi", "100%25.cgi", "upload/y.jpg", "noext", "r2/a.cgi", "x.gz", "x.tar.gz"} {
		write(t, filepath.Join(root, name), "", 0o755)
	}
	for _, name := range []string{"plain.txt", "upload/x.jpg", "s.sh"} {
		write(t, filepath.Join(root, name), "", 0o644)
	}
	write(t, filepath.Join(outside, "x.cgi"), "", 0o755)
	write(t, filepath.Join(top, "root-not/x.cgi"), "", 0o755)
	for link, target := range map[string]string{
		"in.cgi": "a.cgi", "linkdir": "dir", "out.cgi": "../outside/x.cgi", "outdir": "../outside",
		"loop": "loop", "dangling": "nothing", "null": "/dev/null",
	} {
		mustDo(t, os.Symlink(target, filepath.Join(root, link)))
	}
	mustDo(t, os.Symlink("root", filepath.Join(top, "current")))
	for _, fifo := range []string{"fifo", "fifo.sh"} {
		mustDo(t, unix.Mkfifo(filepath.Join(root, fifo), 0o777))
	}
	l, err := net.Listen("unix", filepath.Join(root, "socket"))
	mustDo(t, err)
	t.Cleanup(func() { l.Close() })
	return strings.NewReplacer("$R", root, "$O", outside, "$TOP", top)
}

// found is what a script is told of itself, or the status of the refusal.
func found(rules *Rules, params *protocol.Params) string {
	s, err := rules.Find(params)
	var ref *protocol.Refusal
	if errors.As(err, &ref) && ref.HTTPStatus == int(ref.AppStatus) {
		return fmt.Sprint(ref.HTTPStatus)
	}
	if err != nil {
		return err.Error()
	}
	env, err := new(Environment).Of(params, new(protocol.RequestID), &s)
	if err != nil {
		return err.Error()
	}
	value := func(name string) string {
		for _, kv := range env {
			if v, ok := strings.CutPrefix(kv, name+"="); ok {
				return v
			}
		}
		return "unset"
	}
	return value("SCRIPT_FILENAME") + "|" + value("SCRIPT_NAME") + "|" + value("PATH_INFO") + "|" + value("PATH_TRANSLATED")
}

type scriptTest struct {
	name   string
	params string // lines of NAME=value, with the shorthands of scriptTree
	want   string // SCRIPT_FILENAME|SCRIPT_NAME|PATH_INFO|PATH_TRANSLATED or the status of a refusal
}

func runScriptTests(t *testing.T, tests []scriptTest, change func(*Rules, *strings.Replacer)) {
	t.Helper()
	tree := scriptTree(t)
	rules := Rules{Roots: []string{tree.Replace("$R")}}
	if change != nil {
		change(&rules, tree)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var params protocol.Params
			for line := range strings.SplitSeq(test.params, "\n") {
				name, value, _ := strings.Cut(line, "=")
				params.Add(name, tree.Replace(strings.NewReplacer(`\n`, "\n", `\0`, "\x00").Replace(value)))
			}
			want := tree.Replace(strings.ReplaceAll(test.want, `\n`, "\n"))
			if got := found(&rules, &params); got != want {
				t.Errorf("got  %.300q\nwant %.300q", got, want)
			}
		})
	}
}

func TestScriptFilename(t *testing.T) {
	const a = "$R/a.cgi|unset|unset|unset"
	const long = "A23456789012345678901234567890123456789012345678901234567890123"
	runScriptTests(t, []scriptTest{
		{"plain", "SCRIPT_FILENAME=$R/a.cgi", a},
		{"the last one counts", "SCRIPT_FILENAME=$R/nothing\nSCRIPT_FILENAME=$R/a.cgi", a},
		{"two slashes", "SCRIPT_FILENAME=/$R//a.cgi", a},
		{"dot", "SCRIPT_FILENAME=$R/./dir/.././a.cgi", "403"},
		{"only dots", "SCRIPT_FILENAME=$R/././a.cgi", a},
		{"dot dot in the path info", "SCRIPT_FILENAME=$R/a.cgi/../x", "403"},
		{"dot dot at the end", "SCRIPT_FILENAME=$R/a.cgi/..", "403"},
		{"dot dot at the end of the path info", "SCRIPT_FILENAME=$R/a.cgi/x/..", "403"},
		{"dots in a name are a name", "SCRIPT_FILENAME=$R/a.cgi/..x/y..", "$R/a.cgi|unset|/..x/y..|unset"},
		{"out with dot dot", "SCRIPT_FILENAME=$R/../outside/x.cgi", "403"},
		{"relative", "SCRIPT_FILENAME=a.cgi", "403"},
		{"NUL", `SCRIPT_FILENAME=$R/a.cgi\0.jpg`, "403"},
		{"outside", "SCRIPT_FILENAME=$O/x.cgi", "403"},
		{"root is not a prefix of names", "SCRIPT_FILENAME=$TOP/root-not/x.cgi", "403"},
		{"link inside", "SCRIPT_FILENAME=$R/in.cgi", "$R/in.cgi|unset|unset|unset"},
		{"linked folder inside", "SCRIPT_FILENAME=$R/linkdir/b.cgi", "$R/linkdir/b.cgi|unset|unset|unset"},
		{"link to the outside", "SCRIPT_FILENAME=$R/out.cgi", "403"},
		{"linked folder outside", "SCRIPT_FILENAME=$R/outdir/x.cgi", "403"},
		{"link from the outside", "SCRIPT_FILENAME=$TOP/current/a.cgi", a},
		{"loop", "SCRIPT_FILENAME=$R/loop", "403"},
		{"dangling", "SCRIPT_FILENAME=$R/dangling", "404"},
		{"missing", "SCRIPT_FILENAME=$R/nothing", "404"},
		{"missing folder", "SCRIPT_FILENAME=$R/nothing/at/all", "404"},
		{"missing everything", "SCRIPT_FILENAME=/nothing", "404"},
		{"folder", "SCRIPT_FILENAME=$R/dir", "403"},
		{"folder with a slash", "SCRIPT_FILENAME=$R/dir/", "403"},
		{"the root folder", "SCRIPT_FILENAME=/", "403"},
		{"nothing in a folder", "SCRIPT_FILENAME=$R/dir/c.cgi", "404"},
		{"not executable", "SCRIPT_FILENAME=$R/plain.txt", "403"},
		{"not executable, with path info", "SCRIPT_FILENAME=$R/plain.txt/x.cgi", "403"},
		{"fifo", "SCRIPT_FILENAME=$R/fifo", "403"},
		{"socket", "SCRIPT_FILENAME=$R/socket", "403"},
		{"device", "SCRIPT_FILENAME=$R/null", "403"},
		{"name over 255", "SCRIPT_FILENAME=$R/" + strings.Repeat(long, 5), "404"},
		{"path over 4096", "SCRIPT_FILENAME=$R" + strings.Repeat("/"+long, 70), "404"},
		{"path info over 4096", "SCRIPT_FILENAME=$R/a.cgi" + strings.Repeat("/"+long, 70),
			"$R/a.cgi|unset|" + strings.Repeat("/"+long, 70) + "|unset"},
		{"blank", "SCRIPT_FILENAME=$R/a b.cgi", "$R/a b.cgi|unset|unset|unset"},
		{"not decoded without proxy", "SCRIPT_FILENAME=$R/a%20b.cgi", "404"},
	}, nil)
}

func TestScriptFilenameWithPathInfo(t *testing.T) {
	runScriptTests(t, []scriptTest{
		{"split", "SCRIPT_FILENAME=$R/a.cgi/x/y\nSCRIPT_NAME=/a.cgi/x/y\nDOCUMENT_ROOT=$R", "$R/a.cgi|/a.cgi|/x/y|$R/x/y"},
		{"split below a prefix", "SCRIPT_FILENAME=$R/a.cgi/x\nSCRIPT_NAME=/cgi/a.cgi/x\nDOCUMENT_ROOT=$R/", "$R/a.cgi|/cgi/a.cgi|/x|$R/x"},
		{"given and hanging", "SCRIPT_FILENAME=$R/a.cgi/x\nSCRIPT_NAME=/a.cgi\nPATH_INFO=/x", "$R/a.cgi|/a.cgi|/x|unset"},
		{"given in part", "SCRIPT_FILENAME=$R/a.cgi/x/y\nSCRIPT_NAME=/a.cgi/x\nPATH_INFO=/y", "$R/a.cgi|/a.cgi|/x/y|unset"},
		{"empty, as with CVE-2019-11043", "SCRIPT_FILENAME=$R/a.cgi/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\nPATH_INFO=\nSCRIPT_NAME=/a.cgi",
			"$R/a.cgi|/a.cgi|/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA|unset"},
		{"contradiction", "SCRIPT_FILENAME=$R/a.cgi/x\nSCRIPT_NAME=/other\nPATH_INFO=/z", "$R/a.cgi|/other|/x|unset"},
		{"not hanging", "SCRIPT_FILENAME=$R/a.cgi\nSCRIPT_NAME=/a.cgi\nPATH_INFO=/x\nPATH_TRANSLATED=/t", "$R/a.cgi|/a.cgi|/x|/t"},
		{"slash at the end", "SCRIPT_FILENAME=$R/a.cgi/\nSCRIPT_NAME=/a.cgi/", "$R/a.cgi|/a.cgi|/|unset"},
		{"slash at the end of path info", "SCRIPT_FILENAME=$R/a.cgi/x/\nSCRIPT_NAME=/a.cgi/x/", "$R/a.cgi|/a.cgi|/x/|unset"},
		{"two slashes", "SCRIPT_FILENAME=$R/a.cgi//x\nSCRIPT_NAME=/a.cgi//x", "$R/a.cgi|/a.cgi|//x|unset"},
		{"LF", `SCRIPT_FILENAME=$R/a.cgi/x\ny` + "\nSCRIPT_NAME=/a.cgi" + `/x\ny`, `$R/a.cgi|/a.cgi|/x\ny|unset`},
		{"longest file", "SCRIPT_FILENAME=$R/linkdir/b.cgi/a.cgi", "$R/linkdir/b.cgi|unset|/a.cgi|unset"},
		{"encoded, as SCRIPT_NAME tells", "SCRIPT_FILENAME=$R/a.cgi/x%20y\nSCRIPT_NAME=/a.cgi/x y", "$R/a.cgi|/a.cgi|/x y|unset"},
		{"encoded NUL, as SCRIPT_NAME cannot tell", "SCRIPT_FILENAME=$R/a.cgi/x%00y\nSCRIPT_NAME=/a.cgi/x\\0y", "403"},
		{"not decoded without proxy", "SCRIPT_FILENAME=$R/a.cgi/x%20y\nREQUEST_URI=/a.cgi/x%20y?q\nSCRIPT_NAME=/a.cgi/x%20y", "$R/a.cgi|/a.cgi|/x%20y|unset"},
		{"a NUL that stays encoded", "SCRIPT_FILENAME=$R/a.cgi/x%00y/%2e%2e/z", "$R/a.cgi|unset|/x%00y/%2e%2e/z|unset"},
		{"slashes stay as they came", "SCRIPT_FILENAME=/$R//a.cgi/http://x.org//y/\nSCRIPT_NAME=//a.cgi/http://x.org//y/\nDOCUMENT_ROOT=$R/",
			"$R/a.cgi|/a.cgi|/http://x.org//y/|$R/http://x.org//y/"},
		{"only slashes", "SCRIPT_FILENAME=$R/a.cgi///\nSCRIPT_NAME=/a.cgi///", "$R/a.cgi|/a.cgi|///|unset"},
		{"only slashes after a folder", "SCRIPT_FILENAME=$R/dir//", "403"},
		{"dots in path info", "SCRIPT_FILENAME=$R/./a.cgi/./x\nSCRIPT_NAME=/./a.cgi/./x", "$R/a.cgi|/a.cgi|/./x|unset"},
	}, nil)
}

func TestScriptName(t *testing.T) {
	runScriptTests(t, []scriptTest{
		{"plain", "DOCUMENT_ROOT=$R\nSCRIPT_NAME=/a.cgi", "$R/a.cgi|/a.cgi|unset|unset"},
		{"SCRIPT_FILENAME is empty", "SCRIPT_FILENAME=\nDOCUMENT_ROOT=$R\nSCRIPT_NAME=/a.cgi", "$R/a.cgi|/a.cgi|unset|unset"},
		{"root with a slash", "DOCUMENT_ROOT=$R/\nSCRIPT_NAME=/a.cgi/x", "$R/a.cgi|/a.cgi|/x|$R/x"},
		{"no slash", "DOCUMENT_ROOT=$R\nSCRIPT_NAME=a.cgi", "$R/a.cgi|a.cgi|unset|unset"},
		{"path info", "DOCUMENT_ROOT=$R\nSCRIPT_NAME=/dir/b.cgi/x/y", "$R/dir/b.cgi|/dir/b.cgi|/x/y|$R/x/y"},
		{"path info instead of another", "DOCUMENT_ROOT=$R\nSCRIPT_NAME=/a.cgi/x\nPATH_INFO=/z\nPATH_TRANSLATED=/z", "$R/a.cgi|/a.cgi|/x|$R/x"},
		{"two slashes", "DOCUMENT_ROOT=$R\nSCRIPT_NAME=//a.cgi//x", "$R/a.cgi|/a.cgi|//x|$R//x"},
		{"is decoded", "DOCUMENT_ROOT=$R\nSCRIPT_NAME=/a.cgi/x%20y", "$R/a.cgi|/a.cgi|/x%20y|$R/x%20y"},
		{"is decoded, a file", "DOCUMENT_ROOT=$R\nSCRIPT_NAME=/100%25.cgi", "$R/100%25.cgi|/100%25.cgi|unset|unset"},
		{"dot dot, as HAProxy passes it", "DOCUMENT_ROOT=$R\nSCRIPT_NAME=/../outside/x.cgi", "403"},
		{"dot dot in DOCUMENT_ROOT", "DOCUMENT_ROOT=$R/..\nSCRIPT_NAME=/root/a.cgi", "403"},
		{"relative root", "DOCUMENT_ROOT=root\nSCRIPT_NAME=/a.cgi", "403"},
		{"NUL", "DOCUMENT_ROOT=$R\n" + `SCRIPT_NAME=/a.cgi\0`, "403"},
		{"missing", "DOCUMENT_ROOT=$R\nSCRIPT_NAME=/nothing", "404"},
		{"folder", "DOCUMENT_ROOT=$R\nSCRIPT_NAME=/", "403"},
		{"no root", "SCRIPT_NAME=/a.cgi", "404"},
		{"no name", "DOCUMENT_ROOT=$R", "404"},
		{"nothing", "REQUEST_METHOD=GET", "404"},
	}, nil)
}

// Caddy without split sends the whole path as PATH_INFO.
func TestScriptOfCaddy(t *testing.T) {
	runScriptTests(t, []scriptTest{
		{"no path info", "SCRIPT_FILENAME=$R/a.cgi\nSCRIPT_NAME=\nPATH_INFO=/a.cgi\nPATH_TRANSLATED=$R/a.cgi\nDOCUMENT_ROOT=$R", "$R/a.cgi|/a.cgi|unset|unset"},
		{"path info", "SCRIPT_FILENAME=$R/a.cgi/r/file\nSCRIPT_NAME=\nPATH_INFO=/a.cgi/r/file\nPATH_TRANSLATED=$R/a.cgi/r/file\nDOCUMENT_ROOT=$R",
			"$R/a.cgi|/a.cgi|/r/file|$R/r/file"},
		{"slashes", "SCRIPT_FILENAME=$R/dir/b.cgi//r\nSCRIPT_NAME=\nPATH_INFO=/dir/b.cgi//r", "$R/dir/b.cgi|/dir/b.cgi|//r|unset"},
		{"a program with a name of its own at the root", "SCRIPT_FILENAME=$R/a.cgi\nSCRIPT_NAME=\nPATH_INFO=/r/file", "$R/a.cgi||/r/file|unset"},
		{"a path info that only looks so", "SCRIPT_FILENAME=$R/a.cgi\nSCRIPT_NAME=/x\nPATH_INFO=/a.cgi", "$R/a.cgi|/x|/a.cgi|unset"},
	}, nil)
}

// What ends a name in C is in none that programs make file names of.
func TestNUL(t *testing.T) {
	for _, name := range []string{"SCRIPT_FILENAME", "DOCUMENT_ROOT", "SCRIPT_NAME", "PATH_INFO", "PATH_TRANSLATED"} {
		runScriptTests(t, []scriptTest{
			{name, "SCRIPT_FILENAME=$R/a.cgi\nSCRIPT_NAME=/a.cgi\nDOCUMENT_ROOT=$R\n" + name + `=$R/a.cgi\0.jpg`, "403"},
			{name + " hanging", "SCRIPT_FILENAME=$R/a.cgi/x\nSCRIPT_NAME=/a.cgi\nDOCUMENT_ROOT=$R\n" + name + `=$R/a.cgi/x\0.jpg`, "403"},
		}, nil)
	}
}

// The cases of php-fpm's sapi/fpm/tests/fcgi-env-pif-apache-*, and Apache's forms besides.
func TestScriptOfApache(t *testing.T) {
	runScriptTests(t, []scriptTest{
		{"handler-basic", "SCRIPT_FILENAME=proxy:fcgi://127.0.0.1:9000$R/a.cgi\nSCRIPT_NAME=/a.cgi", "$R/a.cgi|/a.cgi|unset|unset"},
		{"handler-uds", "SCRIPT_FILENAME=proxy:fcgi://localhost$R/a.cgi\nSCRIPT_NAME=/a.cgi", "$R/a.cgi|/a.cgi|unset|unset"},
		{"v6", "SCRIPT_FILENAME=proxy:fcgi://[::1]:9000$R/a.cgi", "$R/a.cgi|unset|unset|unset"},
		{"two slashes", "SCRIPT_FILENAME=proxy:fcgi://127.0.0.1:9000/$R/a.cgi", "$R/a.cgi|unset|unset|unset"},
		{"handler-with-pi", "SCRIPT_FILENAME=proxy:fcgi://127.0.0.1$R/a.cgi\nSCRIPT_NAME=/a.cgi\nPATH_INFO=/pinfo\nPATH_TRANSLATED=/d/pinfo",
			"$R/a.cgi|/a.cgi|/pinfo|/d/pinfo"},
		{"handler-with-query", "SCRIPT_FILENAME=proxy:fcgi://127.0.0.1$R/a.cgi?q=1\nSCRIPT_NAME=/a.cgi\nPATH_INFO=/pinfo", "$R/a.cgi|/a.cgi|/pinfo|unset"},
		{"balancer-legacy", "SCRIPT_FILENAME=proxy:balancer://127.0.0.1:9000$R/a.cgi\nSCRIPT_NAME=/a.cgi\nPATH_INFO=/pinfo", "$R/a.cgi|/a.cgi|/pinfo|unset"},
		{"balancer with a query", "SCRIPT_FILENAME=proxy:balancer://cluster$R/a.cgi/x?q=/1\nSCRIPT_NAME=/a.cgi/x", "$R/a.cgi|/a.cgi|/x|unset"},
		{"balancer-real", "SCRIPT_FILENAME=$R/a.cgi/pinfo\nSCRIPT_NAME=\nPATH_INFO=$R/a.cgi/pinfo\nREQUEST_URI=/a.cgi/pinfo", "$R/a.cgi|$R/a.cgi|/pinfo|unset"},
		{"pp-sn-strip-basic", "SCRIPT_FILENAME=proxy:fcgi://127.0.0.1$R/a.cgi/pinfo\nSCRIPT_NAME=/a.cgi/pinfo\nREQUEST_URI=/a.cgi/pinfo",
			"$R/a.cgi|/a.cgi|/pinfo|unset"},
		{"pp-sn-strip-encoded", "SCRIPT_FILENAME=proxy:fcgi://127.0.0.1$R/a.cgi/1%202\nSCRIPT_NAME=/a.cgi/1 2\nREQUEST_URI=/a.cgi/1%202",
			"$R/a.cgi|/a.cgi|/1 2|unset"},
		{"pp-sfp-decoding", "SCRIPT_FILENAME=proxy:fcgi://127.0.0.1$R/a%2Bb.cgi/1%202\nSCRIPT_NAME=/a+b.cgi/1 2\nREQUEST_URI=/a+b.cgi/1%202",
			"$R/a+b.cgi|/a+b.cgi|/1 2|unset"},
		{"pp-sfp-encoded", "SCRIPT_FILENAME=proxy:fcgi://127.0.0.1$R/100%25.cgi/1%202\nSCRIPT_NAME=/100%25.cgi/1 2\nREQUEST_URI=/100%2525.cgi/1%202",
			"$R/100%25.cgi|/100%25.cgi|/1 2|unset"},
		// Since 2024 httpd encodes no more what a handler's name is made of.
		{"not encoded", "SCRIPT_FILENAME=proxy:fcgi://localhost$R/a b.cgi/x y\nSCRIPT_NAME=/a b.cgi/x y\nREQUEST_URI=/a%20b.cgi/x%20y",
			"$R/a b.cgi|/a b.cgi|/x y|unset"},
		{"not encoded, looks so", "SCRIPT_FILENAME=proxy:fcgi://localhost$R/a.cgi/x%20y\nSCRIPT_NAME=/a.cgi/x%20y\nREQUEST_URI=/a.cgi/x%2520y",
			"$R/a.cgi|/a.cgi|/x%20y|unset"},
		{"not encoded, looks so, in PATH_INFO", "SCRIPT_FILENAME=proxy:fcgi://localhost$R/a.cgi/x%20y\nSCRIPT_NAME=/a.cgi\nPATH_INFO=/x%20y",
			"$R/a.cgi|/a.cgi|/x%20y|unset"},
		{"encoded, looks so twice", "SCRIPT_FILENAME=proxy:fcgi://localhost$R/a.cgi/x%2520y\nSCRIPT_NAME=/a.cgi/x%20y\nREQUEST_URI=/a.cgi/x%2520y",
			"$R/a.cgi|/a.cgi|/x%20y|unset"},
		{"encoded in lower case", "SCRIPT_FILENAME=proxy:fcgi://localhost$R/a.cgi/%c3%a9\nREQUEST_URI=/a.cgi/%C3%A9", "$R/a.cgi|unset|/é|unset"},
		{"the file is as it is named", "SCRIPT_FILENAME=proxy:fcgi://localhost$R/100%25.cgi\nSCRIPT_NAME=/100%25.cgi", "$R/100%25.cgi|/100%25.cgi|unset|unset"},
		{"no encoding at all", "SCRIPT_FILENAME=proxy:fcgi://localhost$R/a.cgi/100%\nSCRIPT_NAME=/a.cgi/100%", "$R/a.cgi|/a.cgi|/100%|unset"},
		{"path info decoded to dot dot", "SCRIPT_FILENAME=proxy:fcgi://localhost$R/a.cgi/%2e%2e/x\nSCRIPT_NAME=/other", "403"},
		{"path info decoded to NUL", "SCRIPT_FILENAME=proxy:fcgi://localhost$R/a.cgi/x%00y\nSCRIPT_NAME=/other", "403"},
		{"decoded to the outside", "SCRIPT_FILENAME=proxy:fcgi://127.0.0.1$R/%2e%2e/outside/x.cgi", "403"},
		{"decoded to NUL", "SCRIPT_FILENAME=proxy:fcgi://127.0.0.1$R/nothing%00", "403"},
		{"no path", "SCRIPT_FILENAME=proxy:fcgi://127.0.0.1", "403"},
		{"no proxy", "SCRIPT_FILENAME=fcgi://127.0.0.1$R/a.cgi", "403"},
	}, nil)
}

// What is before a PATH_INFO is the script's name, though both may look the same.
func TestNameBeforePathInfo(t *testing.T) {
	tree := misleadingTree(t)
	rules := &Rules{Roots: []string{tree.Replace("$R")}}
	for _, test := range []struct{ file, name, info, wantName, wantInfo string }{
		{"/good.php/good.php", "/good.php", "/good.php", "/good.php", "/good.php"},
		{"/good.php/good.php", "/good.php/good.php", "", "/good.php", "/good.php"},
		{"/good.php/good.php", "/good.php/good.php", "/good.php", "/good.php", "/good.php"},
		{"/good.php/good.php", "", "/good.php/good.php", "/good.php", "/good.php"},
		{"/good.php/x", "/app/good.php", "/x", "/app/good.php", "/x"},
		{"/good.php/x", "/alias", "/x", "/alias", "/x"},
		{"/good.php/x", "/alias/x", "", "/alias", "/x"},
		{"/good.php/x", "/x", "", "/x", "/x"},
	} {
		params := paramsOf("SCRIPT_FILENAME", tree.Replace("$R"+test.file), "SCRIPT_NAME", test.name, "PATH_INFO", test.info)
		told, err := NewEnvironment(Options{}).ForWorker(&params, rules)
		mustDo(t, err)
		if name, info := told.Get("SCRIPT_NAME"), told.Get("PATH_INFO"); name != test.wantName || info != test.wantInfo {
			t.Errorf("%+v: SCRIPT_NAME %q, PATH_INFO %q", test, name, info)
		}
	}
}

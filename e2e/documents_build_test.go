//go:build e2e

package e2e

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// shell runs commands as they are documented, with what else is to be said before them.
func shell(t *testing.T, dir, before, commands string) string {
	t.Helper()
	// A make that runs the tests would tell its flags and its depth to those of the commands.
	cmd := exec.Command("sh", "-euc", "unset MAKEFLAGS MAKELEVEL MFLAGS\n"+before+"\n"+commands)
	cmd.Dir = dir
	return run(t, cmd)
}

// README's way from nothing to the samples, and to what make install installs; then the
// example that it leads to.
func TestDocumentedClone(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	const url = "https://github.com/fcgid/fcgid"
	clone := harness.Named(t, "dev-clone", url, harness.Root(t), "git clone", "git clone -q --depth 1 --no-local")
	clone, makeRun := strings.TrimSuffix(clone, "make run\n"), "make run"
	if strings.Contains(clone, "make") {
		t.Fatalf("the block does not end with %s: %s", makeRun, clone)
	}
	clone = strings.Replace(clone, " "+harness.Root(t)+" ", " file://"+harness.Root(t)+" fcgid ", 1)
	shell(t, dir, "", clone)
	dir += "/fcgid"
	// make run listens on a port that somebody else may have.
	lines := strings.Split(strings.TrimSpace(shell(t, dir, "", makeRun+" -n")), "\n")
	dev := lines[len(lines)-1]
	if dev != "./fcgid dev" {
		t.Fatalf("%s runs %q", makeRun, lines)
	}
	shell(t, dir, `sudo() { "$@"; }; export DESTDIR=dest`, harness.Named(t, "make-install"))
	if _, err := os.Stat(dir + "/dest/usr/local/bin/fcgid"); err != nil {
		t.Error(err)
	}
	address := freeAddress(t)
	cmd := exec.Command("sh", "-c", "exec "+dev+" --http "+address)
	cmd.Dir = dir
	start(t, cmd)
	listening(t, "tcp", address)
	ask := harness.Named(t, "dev-ask", "127.0.0.1:8080", address)
	if got := shell(t, dir, "", ask); !strings.Contains(got, "HTTP/1.1 200 OK\r\n") || !strings.Contains(got, "Hello") {
		t.Errorf("the sample says %q", got)
	}
	// TestExampleFunctions serves it.
	shell(t, dir, "export FCGID_ADMIN_LISTEN=", harness.Named(t, "example-functions", "serve -c", "check -c"))
}

// README's commands for a daemon with functions of one's own, on the source that is here
// in place of the one that was published.
func TestDocumentedOwnDaemon(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	write(t, dir+"/main.go", harness.Named(t, "go-functions"))
	write(t, dir+"/functions.yaml", harness.Named(t, "own-functions", "/run/fcgid/", dir+"/"))
	commands := harness.Named(t, "go-functions-build",
		"go get github.com/fcgid/fcgid@latest", "go mod edit -require=github.com/fcgid/fcgid@v0.0.0 -replace=github.com/fcgid/fcgid="+harness.Root(t), "serve -c", "check -c")
	// Tidying looks for the newest version of what go.mod does not name yet, which is the root's.
	text, err := os.ReadFile(filepath.Join(harness.Root(t), "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/go.sum", string(text))
	shell(t, dir, "export CGO_ENABLED=0 FCGID_ADMIN_LISTEN=", commands)
	shell(t, dir, "export CGO_ENABLED=0", harness.Named(t, "go-functions-clone", "/path/to/clone", harness.Root(t))+"go build\n")
}

// library is a program around README's pieces: it answers with the functions, or is a web
// server before another application.
const library = `package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"time"

	"github.com/fcgid/fcgid/fcgi"
)

func answer(ctx context.Context, l net.Listener) error {
	REGISTRY
	return err
}

func proxy() error {
	return PROXY
}

func main() {
	err := error(nil)
	if len(os.Args) > 1 {
		err = proxy()
	} else if l, e := net.Listen("unix", "SOCKET"); e != nil {
		err = e
	} else {
		os.Chmod("SOCKET", 0o666)
		err = answer(context.Background(), l)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
`

// all is a program around README's three functions.
const all = `package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/fcgid/fcgid"
	"github.com/fcgid/fcgid/fcgi"
)

func main() {
	err := error(nil)
	switch os.Args[1] {
	case "application":
		err = application(context.Background())
	case "client":
		err = client(context.Background())
	default:
		daemon()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

`

// README's application in Go answers behind nginx, and its client has an answer of its daemon.
func TestDocumentedGoAll(t *testing.T) {
	t.Parallel()
	m := newManual(t)
	write(t, m.dir+"/all/main.go", all+m.block("go-all"))
	program := m.dir + "/all/all"
	if err := harness.Build(wiretest.UnderRace(), program, m.dir+"/all/main.go"); err != nil {
		t.Fatal(err)
	}
	write(t, m.dir+"/srv/files/a.txt", "a file")
	harness.Start(t, exec.Command(program, "application")).Listening(t, "unix", m.dir+"/run/app.sock")
	do(t, "GET", m.nginx("nginx-go")+"/a.txt", nil).is(t, "a file", 200, "a file")
	serveProgram(t, program, folder(t), "- {name: functions, listen: 'unix:"+m.dir+"/run/functions.sock', timeout: 45s, function: {}}\n")
	if got := run(t, exec.Command(program, "client")); !strings.HasSuffix(got, "\r\n\r\nHello 192.0.2.1\n") {
		t.Errorf("the client has %q", got)
	}
}

// README's registry and its program beside it answer behind nginx, and its proxy shows what
// PHP says.
func TestDocumentedLibrary(t *testing.T) {
	t.Parallel()
	m := newManual(t)
	before, server, ok := strings.Cut(m.block("go-registry"), "server := ")
	if !ok {
		t.Fatal("README's registry has no server")
	}
	socket, address := m.dir+"/run/app.sock", freeAddress(t)
	source := strings.NewReplacer("REGISTRY", before+m.block("go-program")+"server := "+server, "SOCKET", socket,
		"PROXY", strings.TrimSpace(strings.Replace(m.block("go-proxy"), "127.0.0.1:8080", address, 1))).Replace(library)
	write(t, m.dir+"/library/main.go", source)
	program := m.dir + "/library/library"
	if err := harness.Build(wiretest.UnderRace(), program, m.dir+"/library/main.go"); err != nil {
		t.Fatal(err)
	}
	hello := script(t, m.dir+"/srv/cgi-bin/hello.cgi", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nfrom a program'\n")
	harness.Start(t, exec.Command(program)).Listening(t, "unix", socket)
	url := m.nginx("nginx-registry")
	do(t, "GET", url+"/functions/greet?you", nil).is(t, "a function", 200, "hello you\n")
	do(t, "GET", url+"/functions/greet", nil).is(t, "one that refuses", 400, "400 Bad Request\n")
	if got := run(t, exec.Command(binary, "request", "unix:"+socket, "--script", hello)); got != "from a program" {
		t.Errorf("the program says %q", got)
	}

	write(t, m.dir+"/srv/www/index.php", "<?php echo $_SERVER['REQUEST_METHOD'], ' ', $_GET['a'];")
	php := m.dir + "/run/php-fpm.sock"
	harness.Start(t, exec.Command(need(t, "php-cgi"), "-b", php)).Listening(t, "unix", php)
	harness.Start(t, exec.Command(program, "proxy")).Listening(t, "tcp", address)
	do(t, "GET", "http://"+address+"/?a=b", nil).is(t, "PHP behind the proxy", 200, "GET b")
	do(t, "GET", "http://"+address+"/index.php?a=c", nil).is(t, "PHP behind the proxy", 200, "GET c")
}

// What README shows of output is what comes out.
func TestDocumentedOutput(t *testing.T) {
	t.Parallel()
	m := newManual(t)
	t.Run("check", func(t *testing.T) {
		write(t, m.dir+"/fcgid.yaml", "# 1\n# 2\n# 3\npools:\n  - name: cgi\n    listen: unix:"+m.dir+"/s\n    process: {root: [/]}\n    limits:\n      max_req: 1\n")
		_, _, stderr := fcgid(t, m.dir, nil, "check", "-c", "fcgid.yaml")
		if want := m.block("check-output"); stderr != want {
			t.Errorf("check says %q, want %q", stderr, want)
		}
	})
	m.php()
	write(t, m.dir+"/srv/app/public/slow.php", "<?php while (!@filesize('"+m.dir+"/log/slow.log')) { usleep(10000); clearstatcache(); } echo 'slow';")
	script(t, m.dir+"/phpspy", "#!/bin/sh\necho $*\n")
	slow := strings.NewReplacer("after: 5s", "after: 50ms", "/usr/local/bin/phpspy", m.dir+"/phpspy").Replace(m.block("slow-log"))
	d := m.serve(m.block("pool-php") + slow)
	t.Run("slow log", func(t *testing.T) {
		run(t, exec.Command(binary, "request", "unix:"+m.dir+"/run/php.sock", "--script", m.dir+"/srv/app/public/slow.php"))
		file := m.dir + "/log/slow.log"
		await(t, "a record", func() bool { return len(slowRecords(t, file)) == 1 })
		got, want := keys(t, read(t, file)), keys(t, m.block("slow-log-output"))
		if r := slowRecords(t, file)[0]; !slices.Equal(got, want) || !strings.HasPrefix(r.Output, "-p ") || !strings.HasSuffix(r.Output, " -l 1\n") {
			t.Errorf("a record has %q, %q, want %q", got, r.Output, want)
		}
	})
	t.Run("status", func(t *testing.T) {
		command, output, _ := strings.Cut(m.block("status-output"), "\n")
		command = strings.Replace(command, "$ fcgid status", binary+" status --admin tcp:"+d.admin, 1)
		for _, path := range []string{"/a.php", "/b.php"} { // two busy workers
			write(t, m.dir+"/srv/app/public"+path, "<?php usleep(60000000);")
			start(t, exec.Command(binary, "request", "unix:"+m.dir+"/run/php.sock", "--script", m.dir+"/srv/app/public"+path))
		}
		await(t, "two requests", func() bool { return d.status(t).Pools[0].Running == 2 })
		got := strings.Split(shell(t, m.dir, "", command), "\n")
		heads := 0
		for line := range strings.Lines(output) {
			head := strings.Fields(line)
			if strings.ToUpper(line) != line || len(head) < 6 {
				continue // not the head of a table
			}
			heads++
			if !slices.ContainsFunc(got, func(l string) bool { return slices.Equal(strings.Fields(l), head) }) {
				t.Errorf("no table with the head %q in\n%s", head, strings.Join(got, "\n"))
			}
		}
		if heads != 3 {
			t.Errorf("README shows %d tables", heads)
		}
	})
}

// docs/architecture.md shows the interface that there is, and docs/performance.md a file
// that check accepts.
func TestDocumentedInternals(t *testing.T) {
	shape := strings.TrimSpace(harness.Documented(t, "docs/architecture.md", "runner-shape"))
	method := strings.TrimSuffix(shape[strings.Index(shape, "{")+2:], " }")
	if text := read(t, harness.Root(t)+"/internal/server/server.go"); !strings.Contains(text, "\t"+method+"\n") {
		t.Errorf("package server has no %q", method)
	}
	dir := folder(t)
	if err := os.Mkdir(dir+"/cgi", 0o755); err != nil {
		t.Fatal(err)
	}
	file := write(t, dir+"/fcgid.yaml", harness.Documented(t, "docs/performance.md", "bench-config", "DIR", dir))
	run(t, exec.Command(binary, "check", "-c", file, "--admin.listen="))
}

// The head of the example for PHP has README's location.
func TestDocumentedExample(t *testing.T) {
	var words []string
	for line := range strings.Lines(read(t, harness.Root(t)+"/configs/examples/php.yaml")) {
		if comment, ok := strings.CutPrefix(line, "#"); ok {
			words = append(words, strings.Fields(comment)...)
		}
	}
	location := strings.Join(strings.Fields(harness.Named(t, "nginx-php")), " ")
	if head := strings.Join(words, " "); !strings.Contains(head, location) {
		t.Errorf("the head of php.yaml has no\n%s\nin\n%s", location, head)
	}
}

// keys are the names of a JSON object, sorted.
func keys(t *testing.T, text string) []string {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return slices.Sorted(maps.Keys(object))
}

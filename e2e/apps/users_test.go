//go:build apps

package apps

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fcgid/fcgid/e2e/harness"
)

// threeUsers are WordPress, git and cgit, each with a user of its own, behind nginx on a machine.
type threeUsers struct {
	*machine
	wordpress *wordpress
	daemon    *harness.Program
	address   string // of nginx
	pools     string // the configuration, as the documents have it
}

// Three pools under three users in one daemon, as the documents have them: each can do its
// work, and nothing with the others' files. A reload that changes the user of one loses no
// request of any.
func TestThreeUsers(t *testing.T) {
	t.Parallel()
	m := newThreeUsers(t)
	m.wordpress.install(newBrowser(t, "http://"+m.address))
	m.uploadIsAlices(m.wordpress.login("http://" + m.address))
	m.push("one")
	m.keepTo("www-data")
	m.reloadUnderLoad()
	m.check("ok (pools: 3)")
	m.push("two")
	m.keepTo("cgit")
}

// newThreeUsers sets the machine up as the documents say, and starts the daemon and nginx.
func newThreeUsers(t *testing.T) *threeUsers {
	t.Helper()
	m := &threeUsers{machine: newMachine(t)}
	m.run("useradd --system fcgid") // as make install does
	mysql := newWorldOf(t, m.dir+"/mysql", m.credential("mysql"))
	mysql.database()
	m.wordpress = &wordpress{world: newWorldOf(t, m.dir+"/srv/alice", nil)}
	m.wordpress.unpack("WORLD/db.sock", mysql.dir+"/db.sock", "WORLD", "/srv/alice")
	m.run("for folder in /etc/php/*/cgi/conf.d; do cp /srv/alice/ini/e2e.ini $folder/99-e2e.ini; done")
	m.repository()
	m.run(harness.Documented(t, "docs/users.md", "three-users-accounts"))
	m.secrets()
	m.pools = harness.Documented(t, "docs/users.md", "three-users")
	m.configure(m.pools)
	m.serve()
	m.nginx()
	return m
}

// repository makes /srv/git/it.git, whose hook tells who pushes to the repository what it can
// read, and has cgit tell that of its programs where it shows a file.
func (m *threeUsers) repository() {
	m.t.Helper()
	harness.Script(m.t, m.path("/srv/bin/spy"), "#!/bin/sh\necho \"spy is $(id -un)\"\nfor file in "+secretFiles()+"; do cat $file >/dev/null 2>&1 && echo \"spy reads $file\"; done\nexit 0\n")
	harness.Write(m.t, m.wordpress.root+"/spy.php", "<?php passthru('/srv/bin/spy');")
	m.run("git init -q --bare --initial-branch=main /srv/git/it.git; ln -s /srv/bin/spy /srv/git/it.git/hooks/post-receive")
	load := m.sh("git -C /srv/git/it.git fast-import --quiet")
	var commit strings.Builder
	commit.WriteString("commit refs/heads/main\ncommitter Alice <alice@example.org> 1700000000 +0000\ndata 3\nall\n")
	for i := range 300 {
		content := strings.Repeat(fmt.Sprintf("It has the line %d.\n", i*i), 20)
		fmt.Fprintf(&commit, "M 100644 inline %d/file%d\ndata %d\n%s\n", i%20, i, len(content), content)
	}
	load.Stdin = strings.NewReader(commit.String())
	harness.Run(m.t, load)
	harness.Write(m.t, m.path("/etc/cgitrc"), "source-filter=/srv/bin/spy\n"+harness.Named(m.t, "cgitrc"))
}

// secretsOf are files that nobody but this user may read, and the group of the repository's.
var secretsOf = map[string][]string{
	"www-alice": {"/srv/alice/www/wp-config.php"},
	"git":       {"/srv/git/.credentials", "/srv/git/it.git/HEAD"},
	"www-data":  {"/srv/cgit/notes", "/srv/git/it.git/HEAD"},
	"cgit":      {"/srv/git/it.git/HEAD"},
}

func secretFiles() string {
	var files []string
	for _, of := range secretsOf {
		files = append(files, of...)
	}
	slices.Sort(files)
	return strings.Join(slices.Compact(files), " ")
}

// secrets makes those that are not there anyway.
func (m *threeUsers) secrets() {
	m.t.Helper()
	m.run(`mkdir /srv/cgit; echo secret >/srv/cgit/notes; echo secret >/srv/git/.credentials
		chown www-data: /srv/cgit/notes; chown git: /srv/git/.credentials; chmod 600 /srv/cgit/notes /srv/git/.credentials`)
}

// configure writes the configuration.
func (m *threeUsers) configure(pools string) {
	m.t.Helper()
	harness.Write(m.t, m.path("/etc/fcgid/fcgid.yaml"), pools)
}

// check sees what fcgid check says, a line for each.
func (m *threeUsers) check(want ...string) {
	m.t.Helper()
	out := m.run("fcgid check")
	for _, line := range want {
		if !strings.Contains(out, line) || strings.Count(out, "\n") != len(want) {
			m.t.Errorf("fcgid check says\n%swant %q", out, want)
		}
	}
}

// serve has the configuration checked, and starts the daemon.
func (m *threeUsers) serve() {
	m.t.Helper()
	m.check("ok (pools: 3)", "pools[2].user: its programs may connect to the sockets of other pools (alice, git)")
	m.daemon = harness.Start(m.t, m.sh("exec fcgid serve"))
	m.t.Cleanup(func() {
		if strings.Contains(m.daemon.Out.String(), "DATA RACE") {
			m.t.Error("the daemon has a data race")
		}
	})
	m.daemon.Listening(m.t, "unix", m.path("/run/fcgid/cgit.sock"))
}

// nginx starts nginx as www-data, with README's locations.
func (m *threeUsers) nginx() {
	m.t.Helper()
	m.run("printf 'you:%s\\n' \"$(openssl passwd -apr1 secret)\" >/etc/nginx/git.htpasswd; chgrp www-data /etc/nginx/git.htpasswd; chmod 640 /etc/nginx/git.htpasswd")
	params := m.wordpress.fastcgiParams()
	outside, git, ok := strings.Cut(harness.Named(m.t, "nginx-git", "include fastcgi_params;", "include "+params+";"), "\nlocation ")
	if !ok {
		m.t.Fatal("README's nginx has no location for git")
	}
	cgit := harness.Named(m.t, "nginx-cgit", "include fastcgi_params;", "include "+params+";", "/run/fcgid/git.sock", "/run/fcgid/cgit.sock")
	php := m.wordpress.nginxPHP("/srv/alice/www", "/run/fcgid/alice.sock", harness.Named(m.t, "nginx-wordpress"))
	dir := m.dir + "/nginx"
	m.address = harness.WebServer{Dir: dir, Change: m.enter, User: "www-data", Global: outside + "\ninclude /etc/nginx/mime.types;", Hosts: []string{"location " + git + cgit + php}}.Nginx(m.t)[0]
}

// uploadIsAlices has WordPress keep what it is sent.
func (m *threeUsers) uploadIsAlices(b *browser) {
	m.t.Helper()
	_, path := m.wordpress.uploadFile(b, "alices.png", "image/png", picture())
	if owner, alice := m.owner("/srv/alice/www"+path), m.credential("www-alice").Uid; owner != alice {
		m.t.Errorf("what was uploaded belongs to %d, want %d", owner, alice)
	}
}

// push clones the repository, pushes a commit to it, and looks for it with cgit.
func (m *threeUsers) push(subject string) {
	m.t.Helper()
	clone := m.dir + "/" + subject
	harness.Run(m.t, git("clone", "-q", "http://"+m.address+"/git/it.git", clone))
	harness.Run(m.t, git("-C", clone, "commit", "-q", "--allow-empty", "-m", subject))
	m.spied("git", harness.Run(m.t, git("-C", clone, "push", "http://you:secret@"+m.address+"/git/it.git", "HEAD:refs/heads/"+subject)))
	if status, body := fetch("http://" + m.address + "/cgit/it.git/log/?h=" + subject); status != "200" || !strings.Contains(body, ">"+subject+"<") {
		m.t.Errorf("cgit's log: %s %s", status, harness.Tail(body, 600))
	}
	owner := m.credential("git").Uid
	if err := filepath.WalkDir(m.path("/srv/git/it.git"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Sys().(*syscall.Stat_t).Uid != owner {
			m.t.Errorf("%s is not git's", path)
		}
		return err
	}); err != nil {
		m.t.Fatal(err)
	}
}

// git is git with nothing of the user's configuration.
func git(args ...string) *exec.Cmd {
	cmd := exec.Command("git", append([]string{"-c", "user.name=Alice", "-c", "user.email=alice@example.org"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "HOME=/nonexistent")
	return cmd
}

// spyPath are where WordPress and cgit have the spy run.
const (
	wordpressSpy = "/spy.php"
	cgitSpy      = "/cgit/it.git/tree/0/file0"
)

// keepTo sees that each pool's programs read their own files, and those of no other's.
func (m *threeUsers) keepTo(cgit string) {
	m.t.Helper()
	for path, user := range map[string]string{wordpressSpy: "www-alice", cgitSpy: cgit} {
		_, body := fetch("http://" + m.address + path)
		m.spied(user, body)
	}
}

// spied sees that the spy is this user, and has read what it may, and nothing else.
func (m *threeUsers) spied(user, text string) {
	m.t.Helper()
	var got []string
	for _, word := range regexp.MustCompile(`spy (is|reads) (\S+)`).FindAllStringSubmatch(text, -1) {
		got = append(got, word[2])
	}
	want := append([]string{user}, secretsOf[user]...)
	if !slices.Equal(got, want) {
		m.t.Errorf("the spy that is to be %s is, and reads, %q, want %q: %s", user, got, want, harness.Tail(text, 600))
	}
}

// seen waits until ps shows programs of the three pools as these users', and sees that
// fcgid status does.
func (m *threeUsers) seen(cgit string) {
	m.t.Helper()
	missing := map[string]string{"fcgid": "fcgid", "www-alice": "/usr/bin/php-cgi", "git": "/usr/lib/git-core/git-http-backend", cgit: "/usr/lib/cgit/cgit.cgi"}
	harness.Await(m.t, "ps to show the programs of all", func() bool {
		shown := m.run("ps -eo ppid,user:12,args")
		maps.DeleteFunc(missing, func(user, program string) bool {
			return regexp.MustCompile(fmt.Sprintf(`(?m)^ *%d +%s +%s\b`, m.daemon.Process.Pid, user, program)).MatchString(shown)
		})
		return len(missing) == 0
	})
	status := m.run("fcgid status")
	for _, want := range []string{"worker (dynamic) as www-alice ", "process as git ", "process as " + cgit + " "} {
		if !strings.Contains(status, want) {
			m.t.Errorf("fcgid status lacks %q:\n%s", want, status)
		}
	}
}

// A poller does one thing again and again.
type poller struct {
	do   func() (got string)
	may  []string // what it may get
	done atomic.Int64
	got  map[string]int // its goroutine's, until that has ended
}

// reloadUnderLoad changes cgit's user while all three are asked, and sees that all are answered.
func (m *threeUsers) reloadUnderLoad() {
	m.t.Helper()
	const most = 5000 // requests of each
	url := "http://" + m.address
	pollers := []*poller{
		{may: []string{"200 Ends and Means"}, do: func() string { return find(url+"/", "Ends and Means") }},
		{may: []string{"cloned"}, do: m.clone},
		{may: []string{"200 spy is www-data", "200 spy is cgit"}, do: func() string { return find(url+cgitSpy, `spy is \S+`) }},
	}
	var stop atomic.Bool
	var asking sync.WaitGroup
	defer asking.Wait()
	defer stop.Store(true)
	for _, p := range pollers {
		p.got = make(map[string]int)
		asking.Go(func() {
			for ; !stop.Load() && p.done.Load() < most; p.done.Add(1) {
				p.got[p.do()]++
			}
		})
	}
	m.await(pollers)
	m.seen("www-data")
	change := harness.Documented(m.t, "docs/users.md", "three-users-change")
	for _, pools := range []string{strings.Replace(m.pools, "user: www-data", "user: cgit", 1), m.pools} {
		m.reload(pools, change)
		m.await(pollers)
		change = "fcgid reload" // the account is there
	}
	m.reload(strings.Replace(m.pools, "user: www-data", "user: cgit", 1), change)
	m.seen("cgit")
	stop.Store(true)
	asking.Wait()
	for _, p := range pollers {
		for got, n := range p.got {
			if !slices.Contains(p.may, got) {
				m.t.Errorf("%d answers %q, want one of %q", n, got, p.may)
			}
		}
		if p.done.Load() >= most {
			m.t.Errorf("no more was asked after %d requests, before the end", most)
		}
		m.t.Log(p.got)
	}
}

// reload makes these the pools, of which cgit's has another user.
func (m *threeUsers) reload(pools, order string) {
	m.t.Helper()
	m.configure(pools)
	if out := m.run(order); !strings.Contains(out, "cgit: user") {
		m.t.Errorf("the reload says %s", out)
	}
}

// await waits until each poller has had an answer to what it has asked since.
func (m *threeUsers) await(pollers []*poller) {
	m.t.Helper()
	for i, p := range pollers {
		from := p.done.Load()
		harness.Await(m.t, fmt.Sprintf("poller %d to go on", i), func() bool { return p.done.Load() >= from+2 })
	}
}

// clone clones the repository.
func (m *threeUsers) clone() string {
	dir := m.dir + "/again"
	defer os.RemoveAll(dir)
	if out, err := git("clone", "-q", "--bare", "http://"+m.address+"/git/it.git", dir).CombinedOutput(); err != nil {
		return fmt.Sprintf("%v: %s", err, out)
	}
	return "cloned"
}

// find asks for a page and returns its status and what in it matches.
func find(url, pattern string) string {
	status, body := fetch(url)
	if found := regexp.MustCompile(pattern).FindString(body); found != "" {
		return status + " " + found
	}
	return status + " " + harness.Tail(body, 300)
}

// fetch asks for a page. What goes wrong is the status.
func fetch(url string) (status, body string) {
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		return err.Error(), ""
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error(), string(text)
	}
	return fmt.Sprint(res.StatusCode), string(text)
}

//go:build apps

package apps

import (
	"crypto/md5"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// dokuwiki installs DokuWiki below WORLD/www, with its data and its configuration in
// the world, and a user admin, password secret.
func (w *world) dokuwiki() (root string) {
	w.t.Helper()
	root = w.copy("/usr/share/dokuwiki", "www")
	conf := w.copy("/etc/dokuwiki", "conf")
	harness.Write(w.t, root+"/inc/preload.php", w.here("<?php\ndefine('DOKU_CONF', 'WORLD/conf/');\ndefine('DOKU_MAIN_CONF', DOKU_CONF);\n"))
	harness.Write(w.t, conf+"/local.php", w.here(`<?php
$conf['title'] = 'Ends and Means';
$conf['savedir'] = 'WORLD/data';
$conf['useacl'] = 1;
$conf['superuser'] = '@admin';
$conf['disableactions'] = '';
$conf['mailfrom'] = 'wiki@example.org';
$conf['notify'] = 'editor@example.org';
$conf['updatecheck'] = 0;
$conf['securecookie'] = 0; // or a cookie's name has the port in it
$conf['userewrite'] = 1;
`))
	harness.Write(w.t, conf+"/users.auth.php", "# <?php exit()?>\nadmin:"+fmt.Sprintf("%x", md5.Sum([]byte("secret")))+":The Admin:admin@example.org:admin,user\n")
	harness.Write(w.t, conf+"/acl.auth.php", "# <?php exit()?>\n* @ALL 8\n")
	for _, name := range []string{"attic", "cache", "index", "locks", "log", "media", "media_attic", "media_meta", "meta", "pages", "tmp"} {
		if err := os.MkdirAll(w.dir+"/data/"+name, 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
	harness.Write(w.t, w.dir+"/data/pages/start.txt", "====== Hello ======\n\nThis is [[wiki:syntax|a page]], **bold** and über.\n\n<code php>\n<?php echo 1;\n</code>\n")
	harness.Write(w.t, w.dir+"/data/pages/wiki/syntax.txt", "====== Syntax ======\n\n  * one\n  * two\n\n===== More =====\n\n| a | b |\n")
	harness.Run(w.t, exec.Command("chmod", "-R", "u+w", w.dir))
	for _, name := range []string{root, conf, w.dir + "/data"} {
		w.give(name)
	}
	return root
}

var wikiPages = []string{
	"/", "/start", "/wiki/syntax", "/wiki:syntax", "/start?do=recent", "/start?do=index", "/start?do=login", "/start?do=revisions",
	"/start?do=backlink", "/start?do=media", "/start?do=search&q=hello", "/start?do=export_raw", "/_export/xhtml/wiki/syntax", "/_export/raw/start",
	"/no/such:page", "/start?rev=1", "/start?do=admin", "/start?do=register", "/start?do=resendpwd", "/feed.php", "/doku.php", "/doku.php?id=wiki:syntax",
	"/lib/exe/css.php?t=dokuwiki", "/lib/exe/js.php?t=dokuwiki", "/lib/exe/jquery.php", "/lib/exe/opensearch.php", "/lib/exe/manifest.php",
	"/lib/exe/mediamanager.php?ns=wiki", "/lib/exe/fetch.php?media=wiki:none.png", "/lib/exe/detail.php?media=wiki:none.png", "/lib/exe/xmlrpc.php",
	"/lib/exe/ajax.php", "/lib/exe/taskrunner.php?id=start", "/lib/exe/ajax.php?call=linkwiz&q=s", "/install.php", "/inc/", "/index.php", "/doku.php/start", "/b%C3%BCcher/%20x",
}

var wikiAdminPages = []string{
	"/start", "/start?do=admin", "/start?do=admin&page=usermanager", "/start?do=admin&page=acl", "/start?do=admin&page=config",
	"/start?do=profile", "/start?do=media", "/start?do=revisions", "/start?do=admin&page=extension&tab=search", "/lib/exe/mediamanager.php?ns=",
}

// wikiDiffers is what two answers of DokuWiki have not in common: the second.
var wikiDiffers = regexp.MustCompile(`\b1[0-9]{9}\b|\d\d:\d\d(:\d\d)?\b|\d+ (second|minute)s? ago`)

// DokuWiki is the same as under php-fpm, page by page, behind nginx and Apache.
func TestDokuWiki(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	root := w.dokuwiki()
	w.serve(w.phpPools(root))
	w.fpm()
	const rules = `RewriteRule ^_media/(.*)              lib/exe/fetch.php?media=$1  [QSA,L]
RewriteRule ^_detail/(.*)             lib/exe/detail.php?media=$1  [QSA,L]
RewriteRule ^_export/([^/]+)/(.*)     doku.php?do=export_$1&id=$2  [QSA,L]
RewriteRule ^$                        doku.php  [L]
RewriteCond %{REQUEST_FILENAME}       !-f
RewriteCond %{REQUEST_FILENAME}       !-d
RewriteRule (.*)                      doku.php?id=$1  [QSA,L]
RewriteRule ^index.php$               doku.php
`
	servers := w.phpServers(root, `index doku.php;
location / { try_files $uri $uri/ @dokuwiki; }
location @dokuwiki {
    rewrite ^/_media/(.*) /lib/exe/fetch.php?media=$1 last;
    rewrite ^/_detail/(.*) /lib/exe/detail.php?media=$1 last;
    rewrite ^/_export/([^/]+)/(.*) /doku.php?do=export_$1&id=$2 last;
    rewrite ^/(.*) /doku.php?id=$1&$args last;
}
`, rules, rules)
	for i, s := range servers[:3] {
		for _, backend := range backends[:2] {
			t.Run(s.name+" "+backend, func(t *testing.T) {
				w := w.at(t)
				b, other := newBrowser(t, s.urls[backend]), s.urls["fpm"]
				b.same(other, wikiDiffers, some(wikiPages, backend, i)...)
				w.wikiLogin(b)
				b.same(other, wikiDiffers, some(wikiAdminPages, backend, i)...)
				name := fmt.Sprintf("notes:%s%d", backend, i)
				w.wikiEdit(b, name)
				w.wikiUpload(b, name)
				page := "/" + name
				newBrowser(t, b.base).same(other, wikiDiffers, page, page+"?do=revisions", "/start?do=recent", "/_media"+page+".png", "/_detail"+page+".png", "/_media"+page+".png?w=20")
			})
		}
	}
}

// wikiLogin logs the browser in.
func (w *world) wikiLogin(b *browser) {
	w.t.Helper()
	token := b.find(b.get("/start?do=login"), `name="sectok" value="([0-9a-f]*)"`)
	p := b.post("/start?do=login", "sectok", token, "id", "start", "do", "login", "u", "admin", "p", "secret", "r", "1")
	if p.status != 302 {
		w.t.Fatalf("login: %v", p)
	}
	b.want("the start page", b.get("/start"), 200, "The Admin")
}

// wikiEdit writes a page, of which the editor is told by mail.
func (w *world) wikiEdit(b *browser, name string) {
	w.t.Helper()
	form := b.get("/" + name + "?do=edit")
	fields := []string{"wikitext", "====== " + name + " ======\n\nIt is new, über & out.\n", "summary", "made by a test", "do[save]", "1"}
	for _, field := range []string{"sectok", "id", "rev", "date", "prefix", "suffix", "changecheck", "target"} {
		fields = append(fields, field, b.find(form, `name="`+field+`" value="([^"]*)"`))
	}
	if p := b.post("/"+name, fields...); p.status != 302 {
		w.t.Errorf("save: %v", p)
	}
	b.want("the new page", b.get("/"+name), 200, "It is new, über &amp; out.")
	w.awaitMail("[Ends and Means] page added: " + name)
}

// wikiUpload uploads a picture into the folder of a page.
func (w *world) wikiUpload(b *browser, name string) {
	w.t.Helper()
	token := b.find(b.get("/"+name+"?do=edit"), `name="sectok" value="([0-9a-f]*)"`)
	ns, file, _ := strings.Cut(name, ":")
	p := b.upload("/lib/exe/ajax.php", "qqfile", file+".png", "image/png", picture(), "call", "mediaupload", "ns", ns, "mediaid", file+".png", "ow", "true", "sectok", token)
	b.want("upload", p, 200, `"success":true`)
	if got := b.get("/_media/" + name + ".png"); got.status != 200 || got.body != string(picture()) {
		w.t.Errorf("what was uploaded is %v", got)
	}
}

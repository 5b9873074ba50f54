//go:build apps

package apps

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// database starts MariaDB on WORLD/db.sock, with a database for WordPress.
func (w *world) database() {
	w.t.Helper()
	harness.Run(w.t, w.command("mariadb-install-db", "--no-defaults", "--datadir="+w.dir+"/db", "--auth-root-authentication-method=normal", "--skip-test-db"))
	socket := w.dir + "/db.sock"
	harness.Start(w.t, w.command("mariadbd", "--no-defaults", "--datadir="+w.dir+"/db", "--socket="+socket, "--pid-file="+w.dir+"/db.pid",
		"--skip-networking", "--tmpdir="+w.dir+"/tmp", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M")).Listening(w.t, "unix", socket)
	harness.Run(w.t, w.command("mariadb", "--no-defaults", "--socket="+socket, "--user=root", "--execute",
		"CREATE DATABASE wordpress; CREATE USER wordpress@localhost IDENTIFIED BY 'secret'; GRANT ALL ON wordpress.* TO wordpress@localhost"))
}

// A wordpress is one that has been installed, and a user who is logged in.
type wordpress struct {
	*world
	root string
}

func newWordPress(t *testing.T) *wordpress {
	t.Helper()
	w := &wordpress{world: newWorld(t)}
	w.database()
	w.unpack("WORLD", w.dir)
	w.serve(w.phpPools(w.root))
	w.fpm()
	return w
}

// unpack copies WordPress to WORLD/www, with a configuration in which these are replaced:
// old, new, old, new.
func (w *wordpress) unpack(oldnew ...string) {
	w.t.Helper()
	w.root = w.copy("/usr/share/wordpress", "www")
	for name, to := range map[string]string{"wp-config.php": "wp-config.php", "e2e.php": "wp-content/plugins/e2e.php"} {
		text, err := os.ReadFile("testdata/wordpress/" + name)
		if err != nil {
			w.t.Fatal(err)
		}
		harness.Write(w.t, w.root+"/"+to, strings.NewReplacer(oldnew...).Replace(string(text)))
	}
	for _, name := range []string{w.root + "/wp-content/uploads", w.dir + "/jobs"} {
		if err := os.MkdirAll(name, 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
	harness.Run(w.t, exec.Command("chmod", "-R", "u+w", w.root))
	w.give(w.dir + "/jobs")
	w.give(w.root)
}

// install answers the installer's questions.
func (w *wordpress) install(b *browser) {
	w.t.Helper()
	b.want("the installer", b.get("/wp-admin/install.php"), 200, `name="language"`)
	b.want("installed", b.post("/wp-admin/install.php?step=2", "weblog_title", "Ends and Means", "user_name", "admin",
		"admin_password", "correct horse", "admin_password2", "correct horse", "pw_weak", "on",
		"admin_email", "admin@example.org", "blog_public", "0", "language", "", "Submit", "Install WordPress"), 200, "Success!")
	w.awaitMail("New WordPress Site")
}

// login returns a browser that is logged in.
func (w *wordpress) login(base string) *browser {
	w.t.Helper()
	b := newBrowser(w.t, base)
	b.want("the login", b.get("/wp-login.php"), 200, `name="log"`)
	p := b.post("/wp-login.php", "log", "admin", "pwd", "correct horse", "wp-submit", "Log In", "redirect_to", base+"/wp-admin/", "testcookie", "1")
	if p.status != 302 || p.header.Get("Location") != base+"/wp-admin/" {
		w.t.Fatalf("login: %v", p)
	}
	return b
}

// configure has pretty permalinks and the plugin.
func (w *wordpress) configure(b *browser) {
	w.t.Helper()
	form := b.get("/wp-admin/options-permalink.php")
	nonce := b.find(form, `name="_wpnonce" value="([0-9a-f]+)"`)
	p := b.post("/wp-admin/options-permalink.php", "_wpnonce", nonce, "_wp_http_referer", "/wp-admin/options-permalink.php",
		"selection", "/%postname%/", "permalink_structure", "/%postname%/", "category_base", "", "tag_base", "", "submit", "Save Changes")
	if p.status != 302 && p.status != 200 {
		w.t.Errorf("permalinks: %v", p)
	}
	plugins := b.get("/wp-admin/plugins.php")
	activate := b.find(plugins, `href="(plugins\.php\?action=activate&amp;plugin=e2e\.php[^"]*)"`)
	p = b.get("/wp-admin/" + strings.ReplaceAll(activate, "&amp;", "&"))
	if p.status != 302 || !strings.Contains(p.header.Get("Location"), "activate=true") {
		w.t.Fatalf("activate the plugin: %v", p)
	}
}

// anonymousPages and adminPages are compared with php-fpm's.
var anonymousPages = []string{
	"/", "/hello-world/", "/sample-page/", "/hello-world", "/category/uncategorized/", "/author/admin/", "/?p=1", "/?s=hello", "/?s=%C3%BCber",
	"/feed/", "/comments/feed/", "/hello-world/feed/", "/feed", "/no-such-page/", "/no/such/page.html", "/no-such.php",
	"/index.php", "/index.php/hello-world/", "/wp-login.php", "/wp-login.php?action=lostpassword", "/wp-admin/", "/wp-admin",
	"/wp-json/", "/wp-json/wp/v2/posts", "/wp-json/wp/v2/posts/1?_fields=title,link", "/wp-json/wp/v2/users/me", "/wp-json/no/such",
	"/xmlrpc.php", "/robots.txt", "/wp-sitemap.xml", "/wp-sitemap-posts-post-1.xml", "/wp-cron.php", "/wp-trackback.php",
	"/wp-admin/admin-ajax.php?action=none", "/wp-includes/css/dashicons.min.css", "/wp-comments-post.php", "/readme.html",
	"/wp-admin/load-styles.php?c=0&dir=ltr&load[]=dashicons,buttons,forms",
}

var adminPages = []string{
	"/wp-admin/", "/wp-admin/index.php", "/wp-admin/edit.php", "/wp-admin/edit.php?post_type=page", "/wp-admin/upload.php", "/wp-admin/upload.php?mode=list",
	"/wp-admin/media-new.php", "/wp-admin/edit-comments.php", "/wp-admin/themes.php", "/wp-admin/plugins.php", "/wp-admin/users.php",
	"/wp-admin/profile.php", "/wp-admin/tools.php", "/wp-admin/options-general.php", "/wp-admin/options-permalink.php",
	"/wp-admin/options-reading.php", "/wp-admin/export.php?download=true&content=posts", "/wp-admin/post.php?post=1&action=edit", "/hello-world/",
}

// wordpressDiffers is what two answers of WordPress have not in common: the second, a
// password that it proposes, addresses that it hides from robots, one of three servers, a
// hint of a host that is the server's own if that knows its name,
// and how long ago a file was sent, which is a date in its first second.
var wordpressDiffers = regexp.MustCompile(`\b1[0-9]{9}\b|\b\d\d:\d\d(:\d\d)?\b|\d+ (second|min)s?\b|(<link rel='dns-prefetch' href='//127\.0\.0\.1' />\n)?<link rel="alternate" type|data-colname="Date">[^<]*<|data-pw="[^"]*"|mailto:[^"]*">[^<]*<|[0-3]\.gravatar\.com`)

// wordpressTheme is what a page has that the theme has made.
const wordpressTheme = "wp-site-blocks"

// WordPress is the same as under php-fpm, page by page, behind nginx and Apache: with
// workers and with a process for each request.
func TestWordPress(t *testing.T) {
	t.Parallel()
	w := newWordPress(t)
	const rules = "RewriteCond %{REQUEST_FILENAME} !-f\nRewriteCond %{REQUEST_FILENAME} !-d\n"
	servers := w.phpServers(w.root, harness.Named(t, "nginx-wordpress"),
		"RewriteBase /\nRewriteRule ^index\\.php$ - [L]\n"+rules+"RewriteRule . /index.php [L]\n", rules+"RewriteRule ^(.*)$ index.php/$1 [L]\n")
	w.install(newBrowser(t, servers[0].urls["worker"]))
	w.configure(w.login(servers[0].urls["worker"]))
	var jobs []string // that have begun
	for i, s := range servers {
		for _, backend := range backends[:2] {
			t.Run(s.name+" "+backend, func(t *testing.T) {
				w := &wordpress{world: w.at(t), root: w.root}
				url, other := s.urls[backend], s.urls["fpm"]
				visitor := newBrowser(t, url)
				visitor.same(other, wordpressDiffers, some(anonymousPages, backend, i)...)
				visitor.want("the first page", visitor.get("/"), 200, wordpressTheme)
				b := w.login(url)
				b.same(other, wordpressDiffers, some(adminPages, backend, i)...)
				name := fmt.Sprint(backend, i)
				w.upload(b, other, name)
				w.write(b, other, name)
				w.mail(b, name)
				w.cron(b, name)
				jobs = append(jobs, name)
			})
		}
	}
	t.Run("dev", func(t *testing.T) {
		w := &wordpress{world: w.at(t), root: w.root}
		other := servers[0].urls["fpm"]
		url := w.dev("--worker", "php-cgi", "--router", "index.php", w.root)
		visitor := newBrowser(t, url)
		visitor.want("the first page", visitor.get("/"), 200, wordpressTheme)
		visitor.want("a post by its pretty name", visitor.get("/hello-world/"), 200, "Hello world!")
		visitor.want("WordPress' own 404", visitor.get("/no/such/page.html"), 404, "Page not found")
		visitor.want("a style sheet", visitor.get("/wp-includes/css/dashicons.min.css"), 200, "dashicons")
		if p := visitor.get("/wp-admin"); p.status != 301 || p.header.Get("Location") != "/wp-admin/" {
			t.Errorf("a folder: %v", p)
		}
		b := w.login(url)
		b.want("the editor", b.get("/wp-admin/post.php?post=1&action=edit"), 200, "Hello world!")
		w.upload(b, other, "dev")
	})
	for _, name := range jobs {
		harness.Await(t, "the job "+name+" to end", func() bool { return w.job(name, "done") })
	}
}

// some are those of the pages that the i-th server is asked for: all, but with a
// process for each, which takes its time, one in four, and others by each server.
func some(pages []string, backend string, i int) (some []string) {
	for n, page := range pages {
		if backend != "process" || n%4 == i%4 {
			some = append(some, page)
		}
	}
	return some
}

// upload uploads a picture and a large file, and looks at what has come of them.
func (w *wordpress) upload(b *browser, other, name string) {
	w.t.Helper()
	p, _ := w.uploadFile(b, name+".png", "image/png", picture())
	if !strings.Contains(p.body, `"thumbnail"`) {
		w.t.Errorf("no thumbnail was made: %s", p.body)
	}
	w.uploadFile(b, name+".pdf", "application/pdf", append([]byte("%PDF-1.4\n"), strings.Repeat("large ", 1<<20)...))
	b.same(other, wordpressDiffers, "/wp-admin/upload.php?mode=list", "/"+name+"/", "/wp-json/wp/v2/media?orderby=id&search="+name)
}

// uploadFile uploads a file, gets it again, and returns WordPress' answer and the file's path.
func (w *wordpress) uploadFile(b *browser, name, kind string, content []byte) (p page, path string) {
	w.t.Helper()
	nonce := b.find(b.get("/wp-admin/media-new.php"), `"_wpnonce":"([0-9a-f]+)"`)
	p = b.upload("/wp-admin/async-upload.php", "async-upload", name, kind, content, "name", name, "action", "upload-attachment", "_wpnonce", nonce)
	b.want("upload", p, 200, `"success":true`)
	link := strings.ReplaceAll(b.find(p, `"url":"([^"]+)"`), `\/`, "/")
	u, err := url.Parse(link)
	if err != nil || !strings.HasSuffix(u.Path, "/"+name) {
		w.t.Fatalf("the upload is at %q: %v", link, err)
	}
	if got := b.get(u.Path); got.status != 200 || got.body != string(content) {
		w.t.Errorf("what was uploaded is %d with %d bytes, want %d", got.status, len(got.body), len(content))
	}
	return p, u.Path
}

// write writes a post with the REST interface, and a comment as a visitor.
func (w *wordpress) write(b *browser, other, name string) {
	w.t.Helper()
	nonce := b.find(b.get("/wp-admin/post-new.php"), `createNonceMiddleware\(\s*"([0-9a-f]+)"`)
	p := b.send("POST", "/wp-json/wp/v2/posts?_wpnonce="+nonce, "application/json",
		strings.NewReader(fmt.Sprintf(`{"title":"Post of %s","slug":"post-%[1]s","status":"publish","content":"<p>It's “quoted” & new.<\/p>"}`, name)))
	b.want("write a post", p, 201, `"slug":"post-`+name+`"`)
	id := b.find(p, `^\{"id":([0-9]+),`)
	visitor := newBrowser(w.t, b.base)
	p = visitor.post("/wp-comments-post.php", "comment", "I have read it, "+name, "author", "Reader", "email", "reader@example.org", "url", "",
		"submit", "Post Comment", "comment_post_ID", id, "comment_parent", "0")
	if p.status != 302 || !strings.Contains(p.header.Get("Location"), "/post-"+name+"/") {
		w.t.Errorf("a comment: %v", p)
	}
	visitor.same(other, wordpressDiffers, "/post-"+name+"/", "/?p="+id, "/post-"+name+"/feed/", "/")
	p = b.send("DELETE", "/wp-json/wp/v2/posts/"+id+"?force=true&_wpnonce="+nonce, "", nil)
	b.want("delete the post", p, 200, `"deleted":true`)
	visitor.same(other, wordpressDiffers, "/post-"+name+"/", "/")
}

// mail has the plugin and WordPress itself send mail.
func (w *wordpress) mail(b *browser, name string) {
	w.t.Helper()
	b.want("mail of a plugin", b.get("/?e2e_mail="+name+"@example.org"), 200, "sent")
	w.awaitMail("To: " + name + "@example.org")
	before := len(w.mails())
	visitor := newBrowser(w.t, b.base)
	p := visitor.post("/wp-login.php?action=lostpassword", "user_login", "admin", "redirect_to", "", "wp-submit", "Get New Password")
	if p.status != 302 || !strings.Contains(p.header.Get("Location"), "checkemail=confirm") {
		w.t.Errorf("lost password: %v", p)
	}
	harness.Await(w.t, "the mail about the password", func() bool { return len(w.mails()) > before })
}

// cron has WP-Cron begin a job. WordPress asks for it by a request of its own, and hangs up
// before the job is done. The job also takes longer than a program has that is asked to end.
func (w *wordpress) cron(b *browser, name string) {
	w.t.Helper()
	b.want("plan a job", b.get("/?e2e_cron="+name), 200, "planned")
	harness.Await(w.t, "WP-Cron to begin", func() bool {
		b.get("/sample-page/")
		return w.job(name, "begun")
	})
}

// job reports whether a job has begun, or is done.
func (w *wordpress) job(name, what string) bool {
	_, err := os.Stat(w.dir + "/jobs/" + name + "." + what)
	return err == nil
}

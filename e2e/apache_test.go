//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// apache starts Apache with this configuration and returns its address and the
// name of its error log.
func apache(t testing.TB, modules, conf string) (url, log string) {
	t.Helper()
	dir := folder(t)
	w := harness.WebServer{Dir: dir, Modules: modules, Global: conf, Hosts: []string{""}}
	return "http://" + w.Apache(t)[0], dir + "/apache.log"
}

// open lets the workers of a web server that is not root use the pool's socket.
func (r *rig) open(t testing.TB) {
	t.Helper()
	if err := os.Chmod(r.unix, 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestApache(t *testing.T) {
	t.Parallel()
	r := newExerciseRig(t, "")
	r.open(t)
	granted := fmt.Sprintf("DocumentRoot %[1]s/cgi\n<Directory %[1]s/cgi>\nRequire all granted\n%%s\n</Directory>\n", r.dir)
	for name, conf := range map[string]string{
		"ProxyPassMatch, tcp": fmt.Sprintf("ProxyPassMatch ^/([^/]+\\.sh(/.*)?)$ fcgi://%s%s/cgi/$1\n", r.tcp, r.dir),
		"ProxyPassMatch, unix, enablereuse": fmt.Sprintf(
			"ProxyPassMatch ^/([^/]+\\.sh(/.*)?)$ unix:%s|fcgi://localhost%s/cgi/$1 enablereuse=on\n", r.unix, r.dir),
		"ProxyPass, generic": fmt.Sprintf("ProxyFCGIBackendType GENERIC\nProxyPass / fcgi://%s%s/cgi/ enablereuse=on flushpackets=on\n", r.tcp, r.dir),
		"SetHandler, tcp":    fmt.Sprintf(granted, "<FilesMatch \\.sh$>\nSetHandler proxy:fcgi://"+r.tcp+"\n</FilesMatch>"),
		"SetHandler, unix, enablereuse": fmt.Sprintf(granted, "<FilesMatch \\.sh$>\nSetHandler proxy:unix:"+r.unix+"|fcgi://localhost/\n</FilesMatch>") +
			"<Proxy fcgi://localhost/ enablereuse=on max=10>\n</Proxy>\n",
		"balancer": fmt.Sprintf("<Proxy balancer://pool>\nBalancerMember fcgi://%s enablereuse=on\n</Proxy>\nProxyPassMatch ^/([^/]+\\.sh(/.*)?)$ balancer://pool%s/cgi/$1\n", r.tcp, r.dir),
	} {
		t.Run(name, func(t *testing.T) {
			url, log := apache(t, "proxy proxy_fcgi proxy_balancer lbmethod_byrequests slotmem_shm", conf)
			before, _ := strconv.Atoi(r.connections(t))
			exercise(t, r, front{url: url, log: log})
			after, _ := strconv.Atoi(r.connections(t))
			reuse := strings.Contains(conf, "enablereuse=on")
			if reuse != (after-before < 5) {
				t.Errorf("%d connections were made, with reuse: %v", after-before, reuse)
			}
		})
	}
}

// authorizerScript lets alice in, with the password secret.
const authorizerScript = `#!/bin/sh
echo "$FCGI_ROLE $FCGI_APACHE_ROLE $REMOTE_USER $REMOTE_PASSWD $HTTP_AUTHORIZATION" >>%[1]s/asked
case "$REMOTE_USER:$REMOTE_PASSWD:$HTTP_AUTHORIZATION" in
alice:secret:* | *YWxpY2U6c2VjcmV0) printf 'Status: 200 OK\nVariable-AUTH_LEVEL: 7\n\n' ;;
*) printf 'Status: 401 Unauthorized\nWWW-Authenticate: Basic realm="e2e"\nContent-Type: text/plain\n\nwho are you?' ;;
esac
`

// asks requests a protected page with a user's name and password.
func asks(t testing.TB, url, user, password string) page {
	t.Helper()
	req := http.Request{Header: http.Header{}}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	return do(t, "GET", url, nil, "Authorization", req.Header.Get("Authorization"))
}

// mod_authnz_fcgi sends no STDIN record to an authorizer, and the protected file
// as the script: the authorizer is the interpreter of such files.
func TestApacheAuthorizer(t *testing.T) {
	dir := folder(t)
	authorizer := script(t, dir+"/authorizer.sh", fmt.Sprintf(authorizerScript, dir))
	script(t, dir+"/www/page.txt", "the page")
	tcp := freeAddress(t)
	d := serve(t, dir, fmt.Sprintf("- {name: cgi, listen: \"tcp:%s\", process: {root: [%s/www], interpreters: [\".txt=%s\"]}}\n", tcp, dir, authorizer))
	url, _ := apache(t, "authn_core authz_user auth_basic authnz_fcgi", fmt.Sprintf(`
AuthnzFcgiDefineProvider authn e2e fcgi://%s/
DocumentRoot %s/www
<Location />
AuthType Basic
AuthName e2e
AuthBasicProvider e2e
Require valid-user
</Location>
`, tcp, dir))
	for range 3 {
		asks(t, url+"/page.txt", "alice", "secret").is(t, "alice", 200, "the page")
		if got := asks(t, url+"/page.txt", "alice", "wrong"); got.status != 401 || got.body == "the page" {
			t.Errorf("wrong password: %d %q", got.status, got.body)
		}
		if got := asks(t, url+"/page.txt", "", ""); got.status != 401 {
			t.Errorf("nobody: %d %q", got.status, got.body)
		}
	}
	d.awaitOutcome(t, "ok", 6)
	asked, _ := os.ReadFile(dir + "/asked")
	if !strings.HasPrefix(string(asked), "AUTHORIZER AUTHENTICATOR alice secret") {
		t.Errorf("the authorizer was asked:\n%s", asked)
	}
}

package cgi

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of docs/cgi.md")

// The documentation has the list of what is dropped. go test -update writes it.
func TestDroppedInDocs(t *testing.T) {
	const page, begin, end = "../../docs/cgi.md", "<!-- dropped -->\n", "<!-- /dropped -->"
	text, err := os.ReadFile(page)
	mustDo(t, err)
	before, rest, ok := strings.Cut(string(text), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %s", page, begin)
	}
	var want strings.Builder
	want.WriteString("| of | names | but not |\n| --- | --- | --- |\n")
	code := func(names []string) string {
		if len(names) == 0 {
			return ""
		}
		return "`" + strings.Join(names, "`, `") + "`"
	}
	for _, f := range families {
		want.WriteString("| " + f.of + " | " + code(f.names) + " | " + code(f.but) + " |\n")
	}
	switch {
	case got == want.String():
	case *update:
		mustDo(t, os.WriteFile(page, []byte(before+begin+want.String()+end+after), 0o644))
	default:
		t.Errorf("%s has\n%s\nwant\n%s\n(go test ./internal/cgi -run Docs -update writes it)", page, got, want.String())
	}
}

// Each family has an effect, and no name of one is exempt by another.
func TestFamilies(t *testing.T) {
	for _, f := range families {
		for _, name := range f.names {
			for _, name := range []string{strings.TrimSuffix(name, "*"), strings.Replace(name, "*", "X", 1)} {
				if name == "" || !steers(name) && isName(name) {
					t.Errorf("%s of %s does not steer", name, f.of)
				}
			}
		}
		for _, name := range f.but {
			if steers(name) {
				t.Errorf("%s of %s steers", name, f.of)
			}
		}
	}
	for _, name := range []string{
		"AUTH_TYPE", "CONTENT_LENGTH", "CONTENT_TYPE", "DOCUMENT_ROOT", "DOCUMENT_URI", "GATEWAY_INTERFACE", "HTTPS", "PATH", "PATH_INFO", "PATH_TRANSLATED",
		"QUERY_STRING", "REDIRECT_STATUS", "REDIRECT_URL", "REMOTE_ADDR", "REMOTE_HOST", "REMOTE_IDENT", "REMOTE_PORT", "REMOTE_USER", "REQUEST_METHOD", "REQUEST_SCHEME",
		"REQUEST_URI", "SCRIPT_FILENAME", "SCRIPT_NAME", "SCRIPT_URI", "SCRIPT_URL", "SERVER_ADDR", "SERVER_ADMIN", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL",
		"SERVER_SIGNATURE", "SERVER_SOFTWARE", "CONTEXT_DOCUMENT_ROOT", "CONTEXT_PREFIX", "UNIQUE_ID", "SSL_CIPHER", "SSL_CLIENT_S_DN", "SSL_TLS_SNI", "GEOIP_COUNTRY_CODE",
		"KRB5CCNAME", "MOD_X_SENDFILE_ENABLED", "FCGI_ROLE", "APP_ENV", "RAILS_ENV", "RACK_ENV", "DJANGO_SETTINGS_MODULE", "TRAC_ENV", "DB_HOST", "MYSQL_PWD", "PGHOST", "TZ", "LANG", "LC_ALL",
	} {
		if steers(name) {
			t.Errorf("%s, which web servers send, is dropped", name)
		}
	}
}

//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"github.com/fcgid/fcgid/fcgi"
)

// Two values of a field that may come once only are an attacker's and the web
// server's: no kind of pool takes one of them.
func TestRepeatedFields(t *testing.T) {
	dir := folder(t)
	script(t, dir+"/env.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; env\n")
	write(t, dir+"/env.php", `<?php foreach ($_SERVER as $k => $v) if (is_string($v)) echo "$k=$v\n";`)
	pools := `
- {name: process, listen: "unix:DIR/process", process: {root: [DIR]}}
- {name: worker, listen: "unix:DIR/worker", worker: {command: [PHP], max: 1}}
- {name: function, listen: "unix:DIR/function", function: {names: [fcgid.echo]}}
- {name: other, listen: "unix:DIR/other", limits: {single_fields: [X_ROLE]}, process: {root: [DIR]}}
`
	serve(t, dir, strings.NewReplacer("DIR", dir, "PHP", need(t, "php-cgi")).Replace(pools))
	scripts := map[string]string{"process": dir + "/env.sh", "worker": dir + "/env.php", "function": "fcgid.echo", "other": dir + "/env.sh"}
	for pool, file := range scripts {
		ask := asker(t, dir+"/"+pool)
		for _, c := range []struct {
			pairs string
			want  string // of the answer, where it is one
		}{
			{"HTTP_HOST=a HTTP_HOST=b", ""},
			{"HTTP_X_USER=alice HTTP_X_USER=root", map[bool]string{true: "HTTP_X_USER=alice, root\n"}[pool == "other"]},
			{"HTTP_X_ROLE=a HTTP_X_ROLE=b", map[bool]string{true: "", false: "HTTP_X_ROLE=a, b\n"}[pool == "other"]},
			{"HTTP_X_USER=alice HTTP_X_USER=alice", "HTTP_X_USER=alice"},
			{"HTTP_COOKIE=a=1 HTTP_COOKIE=b=2", "HTTP_COOKIE=a=1; b=2\n"},
			{"HTTP_ACCEPT=x HTTP_ACCEPT=y", "HTTP_ACCEPT=x, y\n"},
			{"REMOTE_USER=a REMOTE_USER=b", "REMOTE_USER=b\n"},
		} {
			p := fcgi.Params{{Name: "REQUEST_METHOD", Value: "GET"}, {Name: "SCRIPT_FILENAME", Value: file}}
			for pair := range strings.FieldsSeq(c.pairs) {
				name, value, _ := strings.Cut(pair, "=")
				p.Add(name, value)
			}
			want := c.want
			if pool == "function" && want != "" {
				want = "SCRIPT_FILENAME" // a function has the params as they came
			}
			got := ask(p)
			switch {
			case want == "" && !strings.HasPrefix(got, "Status: 400 "), !strings.Contains(got, want):
				t.Errorf("%s, %s:\n%s\nwant %q", pool, c.pairs, got, want)
			}
		}
	}
}

//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// Hello through nginx: Unix socket and TCP, with keep-alive and without.
func TestNginxHello(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		for _, keep := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s keep=%v", network, keep), func(t *testing.T) {
				dir := folder(t)
				script(t, dir+"/cgi/hello.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello %s' \"$QUERY_STRING\"\n")
				address, upstream := "unix:"+dir+"/s", "unix:"+dir+"/s"
				if network == "tcp" {
					upstream = freeAddress(t)
					address = "tcp:" + upstream
				}
				d := serve(t, dir, fmt.Sprintf("- {name: cgi, listen: %q, process: {root: [%s/cgi]}}\n", address, dir))
				keepConn := ""
				if keep {
					keepConn = "fastcgi_keep_conn on;"
				}
				url := nginx(t, dir, fmt.Sprintf(`location / { include /etc/nginx/fastcgi_params; %s
					fastcgi_param SCRIPT_FILENAME %s/cgi$fastcgi_script_name; fastcgi_pass %s; }`, keepConn, dir, upstream))
				for i := range 20 {
					code, body := get(t, fmt.Sprintf("%s/hello.sh?n=%d", url, i))
					if want := fmt.Sprintf("hello n=%d", i); code != 200 || body != want {
						t.Fatalf("got %d %q, want 200 %q", code, body, want)
					}
				}
				if code, body := get(t, url+"/missing.sh"); code != 404 || !strings.HasPrefix(body, "404 Not Found") {
					t.Errorf("missing script: got %d %q", code, body)
				}
				d.awaitOutcome(t, "ok", 20)
			})
		}
	}
}

//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// slow.command may look into the program that is slow, which the daemon may not: it runs as
// that one's user.
func TestApartSlowCommand(t *testing.T) {
	t.Parallel()
	a := serveApart(t)
	look := script(t, a.dir+"/cgi/look", "#!/bin/sh\nid -u\ntr '\\0' '\\n' <\"/proc/$1/environ\" | grep ^REQUEST_URI\n")
	slow := script(t, a.dir+"/cgi/slow", "#!/bin/sh\nwhile [ ! -e "+a.dir+"/go ]; do sleep 0.02; done\n"+plainHeader)
	a.configure(a.pools(`- {name: slow, listen: "unix:` + a.dir + `/slow", ` + asUser(64101) + `, process: {root: [` + a.dir + `/cgi]}, timeout: 1m, slow: {after: 100ms, command: [` + look + `, "{pid}"]}}` + "\n"))
	a.order(t, "reload").is(t, "reload", 0)
	p := connect(t, a.dir+"/slow")
	p.send(request(1, params(slow), ""))
	var entry struct{ Output, Error string }
	await(t, "the slow request's entry", func() bool {
		for line := range strings.Lines(a.out.String()) {
			if strings.Contains(line, `"msg":"slow request"`) {
				return json.Unmarshal([]byte(line), &entry) == nil
			}
		}
		return false
	})
	if entry.Output != "64101\nREQUEST_URI=/slow\n" || entry.Error != "" {
		t.Errorf("%+v", entry)
	}
	write(t, a.dir+"/go", "")
	if r := p.reply(1); r.status() != 200 {
		t.Errorf("the slow request: %v", r)
	}
}

// The daemon tells of the cgroups that the spawner has made.
func TestApartCgroup(t *testing.T) {
	t.Parallel()
	a := serveApart(t)
	a.configure(a.withPrograms(t))
	a.order(t, "reload").is(t, "reload", 0)
	a.needCgroups(t)
	paths := func() map[string]string {
		_, body := get(t, "http://"+a.admin+"/status")
		var page struct {
			Pools []struct {
				Name   string
				Cgroup struct{ Path string }
			}
		}
		if err := json.Unmarshal([]byte(body), &page); err != nil {
			t.Fatal(err)
		}
		all := make(map[string]string)
		for _, p := range page.Pools {
			all[p.Name] = p.Cgroup.Path
		}
		return all
	}
	before := paths()
	for _, name := range []string{"one", "two", "php"} {
		if info, err := os.Stat(before[name]); err != nil || !info.IsDir() || !strings.HasSuffix(before[name], "/pool-"+name) {
			t.Errorf("the cgroup of pool %s is %q: %v", name, before[name], err)
		}
	}
	if before["f"] != "" {
		t.Errorf("that of functions is %q", before["f"])
	}
	a.order(t, "status", "one").is(t, "status", 0, "cgroup: "+before["one"])
	a.configure(a.pools(""))
	a.order(t, "reload").is(t, "reload", 0)
	if now := paths()["one"]; now != "" {
		t.Errorf("of a pool that is gone: %q", now)
	}
}

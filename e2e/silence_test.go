//go:build e2e

package e2e

import (
	"os"
	"strings"
	"testing"
)

// A program that says nothing is ended at `silence`, whatever runs it: 408, its place is
// free, and the log names the key. One that says a little now and then is not. A reload
// changes it.
func TestSilence(t *testing.T) {
	t.Parallel()
	const talk = "printf 'Content-Type: text/plain\\n\\n'; for i in 1 2 3 4; do sleep 0.9; printf .; done"
	for name, c := range map[string]struct{ pool, silent, talks, answer string }{
		"process":  {"process: {root: [DIR/cgi]}", "silent.sh", "talks.sh", "...."},
		"worker":   {"worker: {command: " + workerCommand(t, "php") + ", scale: static, max: 1}", "silent.php", "talks.php", "...."},
		"function": {"function: {}", "obedient", "fcgid.ping", "pong\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newFunctionSite(t, "unix", "function: {}")
			if err := os.Mkdir(s.dir+"/cgi", 0o755); err != nil {
				t.Fatal(err)
			}
			s.script("silent.sh", "#!/bin/sh\nexec sleep 1000\n")
			s.script("talks.sh", "#!/bin/sh\n"+talk+"\n")
			write(t, s.dir+"/cgi/silent.php", "<?php sleep(1000);")
			write(t, s.dir+"/cgi/talks.php", "<?php header('Content-Type: text/plain'); ob_end_flush(); for ($i = 0; $i < 4; $i++) { usleep(900000); echo '.'; flush(); }")
			s.configure(s.pool("cgi", "silence: 3s, limits: {max_reqs: 1}, "+c.pool))
			s.reload(t)
			ask := func(name, want string) {
				t.Helper()
				if _, body := s.ask(s.path(name), nil); !strings.HasPrefix(body, want) && !strings.HasSuffix(body, "\r\n\r\n"+want) {
					t.Errorf("%s answers %q, want %q", name, body, want)
				}
			}
			ask(c.silent, "Status: 408 ")
			ask(c.talks, c.answer)
			await(t, "the log", func() bool { return strings.Contains(s.out.String(), "for longer than silence") })
			s.awaitMetric(t, `fcgid_requests_total{outcome="timeout",pool="cgi"}`, "1")

			s.configure(s.pool("cgi", "silence: 1h, "+c.pool))
			s.reload(t)
			later := s.askLater(t.Context(), s.path(c.silent))
			await(t, "the request to run", func() bool { return s.status(t).Pools[0].Running == 1 })
			s.configure(s.pool("cgi", "silence: 100ms, "+strings.Replace(c.pool, "max: 1", "max: 2", 1)))
			s.reload(t)
			ask(c.silent, "Status: 408 ")
			select {
			case a := <-later:
				t.Errorf("a request of before the reload got %+v", a)
			default:
			}
		})
	}
}

// path is where a script of the site is; a function has none.
func (s *site) path(name string) string {
	if strings.HasSuffix(name, ".sh") || strings.HasSuffix(name, ".php") {
		return s.dir + "/cgi/" + name
	}
	return name
}

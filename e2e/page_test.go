//go:build e2e

package e2e

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// What a client or a program may write to take over whoever shows it: a browser, or a
// terminal.
const (
	hostileMarkup  = `<img src=x onerror="document.title='taken'"><script>document.title='taken'</script>&lt;b&gt;</td></table>`
	hostileControl = "\x1b]0;taken\a\x1b[2J\x1b[31m\u009b2J\x9c\r\n\u202egnp.exe\u2066\u200b"
)

// newHostileSite is a site with a full pool of one worker, before which three requests
// wait, and with a pool whose workers cannot be started; all with names, addresses and
// messages of somebody who means ill. Its last reload was refused.
func newHostileSite(t *testing.T) *site {
	t.Helper()
	pool := "limits: {queue_timeout: 10m}, " + cPool(t, "scale: static, max: 1")
	s := newWorkerSite(t, pool)
	failing := script(t, s.dir+"/failing", "#!/bin/sh\nprintf '%s\\n' '"+strings.ReplaceAll(hostileMarkup, "'", "")+"' >&2\nexit 3\n")
	pools := s.pool("cgi", pool) + "- {name: broken, listen: 'unix:" + s.dir + "/b', worker: {command: [" + failing + "], scale: static, max: 1}}\n"
	s.configure(pools)
	s.reload(t)
	g := newGate(t, s.dir)
	t.Cleanup(func() { g.release(8) })
	for i := range 4 {
		s.askLater(t.Context(), "/srv/"+hostileMarkup+hostileControl+appScript, "QUERY_STRING", "gate",
			"REQUEST_URI", "/"+hostileMarkup+hostileControl+"?secret", "REQUEST_METHOD", "G<b>T"+hostileControl)
		if i == 0 {
			g.arrived()
		}
	}
	s.configure(pools + "- {name: x, '" + strings.ReplaceAll(hostileMarkup, "'", "") + "': 1}\n- {name: x, nix: 1}\n")
	s.reload(t)
	await(t, "three to wait and a pool to be degraded", func() bool {
		_, body := get(t, "http://"+s.admin+"/status")
		return strings.Contains(body, `"requests_queued": 3`) && strings.Contains(body, `"degraded": "exit status 3: `)
	})
	return s
}

// visited are the addresses that a browser has asked for.
func visited(t *testing.T, b *harness.Browser) (urls []string) {
	t.Helper()
	for _, event := range b.Events {
		var sent struct{ Request struct{ URL string } }
		if text, ok := strings.CutPrefix(event, "Network.requestWillBeSent "); ok {
			if err := json.Unmarshal([]byte(text), &sent); err != nil {
				t.Fatal(err)
			}
			urls = append(urls, sent.Request.URL)
		}
	}
	return urls
}

// The page shows what others have written as what it is, asks nobody else, fits on a
// phone, is dark in the dark, and comes back with the daemon.
func TestStatusPage(t *testing.T) {
	t.Parallel()
	s := newHostileSite(t)
	b := harness.NewBrowser(t)
	url := "http://" + s.admin + "/"
	b.Open(url, harness.Screen{Width: 1200, Height: 900})
	// The second event of a connection has rates, from which there are charts.
	b.Await("the charts", `document.querySelectorAll('#pool-cgi figure').length == 4`)
	if got := b.Eval(`document.title`); got != "fcgid: 1 running, 3 waiting" {
		t.Errorf("the title is %q", got)
	}
	text := b.Eval(`document.body.innerText`)
	for _, want := range []string{`<img src=x onerror="document.title='taken'"><script>`, `&lt;b&gt;`, `\u{1b}]0;taken\u{7}`, `\u{202e}gnp.exe`, "degraded", "exit status 3", "REFUSED", "3 / 1024", "workers: 1 busy; at most 1"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	for _, never := range []string{"secret", "\x1b", "\u202e", "\u200b"} {
		if strings.Contains(text, never) {
			t.Errorf("the page has %q", never)
		}
	}
	if n := b.Eval(`document.querySelectorAll('main img, main script, main iframe, main b, main a').length`); n != "0" {
		t.Errorf("%s elements were made of text", n)
	}
	if n := b.Eval(`document.getElementById('reload').innerText.split('\n').filter(l => l.startsWith('/') || l.includes('.yaml:')).length`); n == "0" || n == "1" {
		t.Errorf("the faults of the refused file have no line each: %s", b.Eval(`document.getElementById('reload').innerText`))
	}
	light := b.Eval(`getComputedStyle(document.body).backgroundColor`)

	b.Open(url, harness.Screen{Width: 360, Height: 740, Phone: true, Dark: true})
	b.Await("the pool", `document.querySelector('#pool-cgi') != null`)
	if got := b.Eval(`document.documentElement.scrollWidth`); got != "360" {
		t.Errorf("on a phone the page is %s wide", got)
	}
	if dark := b.Eval(`getComputedStyle(document.body).backgroundColor`); dark == light {
		t.Errorf("in the dark the page is %s", dark)
	}

	s.signal(syscall.SIGKILL)
	<-s.done
	b.Await("the page to miss the daemon", `document.getElementById('connection').innerText.includes('trying again')`)
	s.configure(s.cPoolOf("a", "scale: static, max: 1"))
	s.process = start(t, exec.Command(binary, "serve", "-c", s.file))
	s.awaitReady(t)
	b.Await("the next daemon", `document.getElementById('connection').innerText == 'live' && !document.body.innerText.includes('REFUSED')`)

	urls := visited(t, b)
	if len(urls) < 4 || slices.ContainsFunc(urls, func(u string) bool { return !strings.HasPrefix(u, url) && !strings.HasPrefix(u, "data:image/svg+xml,") }) {
		t.Errorf("it has asked for %q", urls)
	}
	for _, event := range b.Events {
		if strings.HasPrefix(event, "Runtime.exceptionThrown") || strings.Contains(event, "Content Security Policy") {
			t.Errorf("in the page: %s", event)
		}
	}
}

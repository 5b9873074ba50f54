//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// With three requests before a full pool, whoever is asked says three.
func TestWaitingIsCountedAlike(t *testing.T) {
	t.Parallel()
	s := newHostileSite(t)
	s.order("status").is(t, "status", 0, "1/1      3       1 busy, 1/1")
	s.order("top", "--once").is(t, "top", 0, "1 running, 3 waiting")
	s.order("top", "cgi", "--once").is(t, "top of the pool", 0, "1/1 running, 3/1024 waiting", `\x1b]0;taken`)
	if got := s.metric(t, `fcgid_requests_queued{pool="cgi"}`); got != "3" {
		t.Errorf("the metric says %s", got)
	}
	b := harness.NewBrowser(t)
	b.Open("http://"+s.admin+"/", harness.Screen{Width: 800, Height: 600})
	b.Await("the page to say it", `document.title == 'fcgid: 1 running, 3 waiting'`)
}

// newTop is fcgid top for the site, on a terminal.
func (s *site) newTop(width, height int, more string) *harness.Terminal {
	s.t.Helper()
	return harness.NewTerminal(s.t, width, height, fmt.Sprintf("%s %s top -c %s --control %s", more, binary, s.file, s.control()))
}

// On a terminal: what the pools do, what can be done about it, and what others have
// written as harmless text. It goes on while the daemon is away.
func TestTop(t *testing.T) {
	t.Parallel()
	s := newHostileSite(t)
	term := s.newTop(80, 24, "")
	screen := term.Await("1 running, 3 waiting")
	if !regexp.MustCompile(`cgi +serving .* 1/1 +3 `).MatchString(screen) || !regexp.MustCompile(`broken +degraded`).MatchString(screen) {
		t.Errorf("the pools:\n%s", screen)
	}
	term.Press("/", "c", "g", "Enter", "Enter")
	term.Await("1/1 running, 3/1024 waiting")
	term.Await(`\x1b]0;taken`)
	term.Resize(60, 16)
	term.Await("1/1 running, 3/1024 waiting")
	term.Resize(100, 30)
	term.Await("REQUEST  ")

	// The worker is the first line, and has the oldest request.
	id := s.status(t).Pools[1].Requests[0].ID // the pools come by their names
	term.Press("k")
	term.Await(fmt.Sprintf("y or n: kill request %d of pool cgi", id))
	term.Press("n")
	term.Await("nothing was done")
	term.Press("k")
	term.Await("y or n: kill request")
	term.Press("y")
	term.Await(fmt.Sprintf("request %d of pool cgi ended", id))
	if !s.ordered(os.Geteuid(), `"verb":"kill"`, fmt.Sprintf(`"request":%d`, id)) {
		t.Error("the log does not have the order")
	}
	term.Press("Escape")
	term.Await("enter opens")
	term.Press("d")
	term.Await("y or n: drain pool")
	term.Press("n", "?")
	term.Await("any key: back")
	term.Press("x")

	s.signal(syscall.SIGKILL)
	<-s.done
	term.Await("trying again: ")
	s.configure(s.cPoolOf("a", "scale: static, max: 1"))
	s.process = start(t, exec.Command(binary, "serve", "-c", s.file))
	s.awaitReady(t)
	term.Await(fmt.Sprintf("pid %d ", s.Process.Pid))

	term.Press("q")
	if code := term.ExitCode(); code != "0" {
		t.Errorf("exit status %s", code)
	}
	raw := term.Raw()
	for _, never := range []string{"\x1b]0;", "\a", "\u009b", "\x9c2", "\u202e", "\u2066", "\u200b"} {
		if strings.Contains(raw, never) {
			t.Errorf("%q has come to the terminal", never)
		}
	}
	if !strings.Contains(raw, "\x1b[?1049h") || strings.LastIndex(raw, "\x1b[?1049l") < strings.LastIndex(raw, "\x1b[?1049h") {
		t.Error("the screen that was there before is not back")
	}
}

// What changes is sent, and not the whole screen; without colours where none are wanted.
func TestTopSendsLittle(t *testing.T) {
	t.Parallel()
	s := newSite(t, "unix", simple)
	term := s.newTop(80, 24, "NO_COLOR=yes")
	up := regexp.MustCompile(`up +(\d+)\.\d+s`)
	term.Await("cgi   serving")
	updates, seen, before := 0, "", 0
	await(t, "some updates", func() bool {
		now := up.FindString(term.Screen())
		if now == "" || now == seen {
			return false
		}
		if seen = now; updates == 0 {
			before = len(term.Raw())
		}
		updates++
		return updates > 4
	})
	if sent := len(term.Raw()) - before; sent > 4*500 {
		t.Errorf("%d bytes for %d updates of a screen that hardly changes", sent, updates-1)
	}
	if found := regexp.MustCompile(`\x1b\[[0-9;]*\b[34]\d\b[0-9;]*m`).FindString(term.Raw()); found != "" {
		t.Errorf("with NO_COLOR: %q", found)
	}
	term.Press("q")
	if code := term.ExitCode(); code != "0" {
		t.Errorf("exit status %s", code)
	}
	dumb := s.newTop(120, 24, "TERM=dumb")
	dumb.Await("--once prints a frame")
	if code := dumb.ExitCode(); code != "1" {
		t.Errorf("on a dumb terminal: exit status %s", code)
	}
}

// Where nobody can ask, and what is no use.
func TestTopRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t, "unix", simple)
	s.order("top").is(t, "into a pipe", 1, "the output is no terminal", "--once")
	s.order("top", "--once", "--interval", "1ms").is(t, "a short interval", 2, "below 100ms")
	s.order("top", "nix", "--once", "--interval", "100ms").is(t, "no such pool", 1, `no pool "nix"; there is cgi`)
	s.order("top", "--once", "--interval", "100ms", "--admin", "tcp:"+s.admin).is(t, "by the admin server", 0, "cgi   serving")
	s.signal(syscall.SIGTERM)
	<-s.done
	s.order("top", "--once").is(t, "without a daemon", 1, "no daemon of "+s.file+" runs")
}

//go:build systemd

package systemd

import (
	"strings"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// The journal has priorities and fields, and of what a program wrote each byte.
func TestJournal(t *testing.T) {
	m := installed(t)
	m.program("/usr/lib/cgi-bin/noisy.cgi", `printf 'one\377\033[2J two\n' >&2; echo hello`+"\n")
	if got := m.ask(cgiSocket, "noisy.cgi"); got != "hello" {
		t.Fatalf("got %q", got)
	}
	documented := strings.Split(strings.TrimSpace(harness.Documented(t, "docs/systemd.md", "journal")), "\n")
	if len(documented) != 3 {
		t.Fatalf("docs/systemd.md has %d lines", len(documented))
	}
	for i, line := range documented {
		documented[i], _, _ = strings.Cut(line, "#")
		documented[i] += " --no-pager"
	}
	harness.Await(t, "the line of the program", func() bool {
		return strings.Contains(m.sh(documented[2]), "one\xff\x1b[2J two")
	})
	if got := m.sh(documented[1]); !strings.Contains(got, `line="one\xff\x1b[2J two"`) {
		t.Errorf("the pool's records are %q", got)
	}
	if got := m.sh(documented[0]); strings.Contains(got, "hello") || strings.Contains(got, "script stderr") {
		t.Errorf("warnings are %q", got)
	}
	m.write(configuration, "bad: true\n")
	m.fails("systemctl reload fcgid")
	harness.Await(t, "the refusal", func() bool { return strings.Contains(m.sh(documented[0]+" -p err"), "reload refused") })
	if got := m.sh("journalctl --no-pager -u fcgid FCGID_MSG='serving' -o json --output-fields=PRIORITY,FCGID_POOLS,SYSLOG_IDENTIFIER"); !strings.Contains(got, `"PRIORITY":"6"`) ||
		!strings.Contains(got, `"FCGID_POOLS":"1"`) || !strings.Contains(got, `"SYSLOG_IDENTIFIER":"fcgid"`) {
		t.Errorf("a record is %q", got)
	}
}

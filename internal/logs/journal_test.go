package logs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A fakeJournal is the other end of the journal's socket.
type fakeJournal struct {
	t    *testing.T
	conn *net.UnixConn
}

// newJournal is a journal to which the test's standard error leads.
func newJournal(t *testing.T) *fakeJournal {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Fstat(2, &stat); err != nil {
		t.Fatal(err)
	}
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", stat.Dev, stat.Ino))
	old := journalSocket
	t.Cleanup(func() { journalSocket = old })
	journalSocket = filepath.Join(t.TempDir(), "socket")
	j := &fakeJournal{t: t}
	j.listen()
	t.Cleanup(func() { j.conn.Close() })
	return j
}

func (j *fakeJournal) listen() {
	j.t.Helper()
	os.Remove(journalSocket)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: journalSocket, Net: "unixgram"})
	if err != nil {
		j.t.Fatal(err)
	}
	j.conn = conn
}

// next is the next record.
func (j *fakeJournal) next() map[string]string {
	j.t.Helper()
	j.conn.SetReadDeadline(time.Now().Add(time.Minute))
	data, oob := make([]byte, 1<<20), make([]byte, 1024)
	n, oobn, _, _, err := j.conn.ReadMsgUnix(data, oob)
	if err != nil {
		j.t.Fatal(err)
	}
	data = data[:n]
	if oobn > 0 {
		messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			j.t.Fatal(err)
		}
		fds, err := syscall.ParseUnixRights(&messages[0])
		if err != nil || len(fds) != 1 {
			j.t.Fatalf("%d descriptors, %v", len(fds), err)
		}
		defer unix.Close(fds[0])
		if seals, err := unix.FcntlInt(uintptr(fds[0]), unix.F_GET_SEALS, 0); err != nil || seals&unix.F_SEAL_WRITE == 0 {
			j.t.Errorf("the file of a long record can be changed: %x, %v", seals, err)
		}
		if data, err = os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", fds[0])); err != nil {
			j.t.Fatal(err)
		}
	}
	record := make(map[string]string)
	for text := string(data); text != ""; {
		name, rest, ok := strings.Cut(text, "\n")
		if !ok || len(rest) < 8 {
			j.t.Fatalf("no field: %.100q", text)
		}
		size := binary.LittleEndian.Uint64([]byte(rest[:8]))
		record[name] = rest[8 : 8+size]
		if rest[8+size] != '\n' {
			j.t.Fatalf("%s does not end where it should", name)
		}
		text = rest[8+size+1:]
	}
	return record
}

// Records of the format auto go to the journal in its own protocol, with their fields.
func TestJournal(t *testing.T) {
	j := newJournal(t)
	l, err := New(Options{Level: "debug", Format: "auto", Output: "stderr"})
	if err != nil {
		t.Fatal(err)
	}
	l.With("pool", "www").Warn("request not served", "error", errors.New("no way"), "request", 7, "run", 1500*time.Millisecond, "lines", []string{"a", "b"})
	want := map[string]string{
		"MESSAGE":  `request not served pool=www error="no way" request=7 run_ms=1500 lines="[\"a\",\"b\"]"`,
		"PRIORITY": "4", "SYSLOG_IDENTIFIER": filepath.Base(os.Args[0]), "FCGID_MSG": "request not served",
		"FCGID_POOL": "www", "FCGID_ERROR": "no way", "FCGID_REQUEST": "7", "FCGID_RUN_MS": "1500", "FCGID_LINES": `["a","b"]`,
	}
	got := j.next()
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s is %q, want %q", name, got[name], value)
		}
	}
	if len(got) != len(want) {
		t.Errorf("it has more: %q", got)
	}
	for priority, log := range map[string]func(string, ...any){"3": l.Error, "6": l.Info, "7": l.Debug} {
		log("said")
		if got := j.next()["PRIORITY"]; got != priority {
			t.Errorf("priority %s, want %s", got, priority)
		}
	}
}

// What a script writes stays in its field as it is, and in MESSAGE is neither a second
// line nor something that a terminal obeys.
func TestJournalOfWhateverBytes(t *testing.T) {
	j := newJournal(t)
	l, err := New(Options{Level: "info", Format: "auto", Output: "stderr"})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"", "\n", "a\nPRIORITY=0\nb", "\xff\xfe\x00", "\x1b[2J", "a=b c\"d", "MESSAGE\n\x05\x00\x00\x00\x00\x00\x00\x00",
		strings.Repeat("long ", 1<<20),
	} {
		l.Info("script stderr", "line", line)
		got := j.next()
		if got["FCGID_LINE"] != line || got["PRIORITY"] != "6" || got["FCGID_MSG"] != "script stderr" {
			t.Errorf("%.50q came as %.200q", line, got)
		}
		if strings.ContainsFunc(got["MESSAGE"], func(r rune) bool { return r < ' ' || r == 0x7f }) || strings.ToValidUTF8(got["MESSAGE"], "") != got["MESSAGE"] {
			t.Errorf("the message of %.50q is %.200q", line, got["MESSAGE"])
		}
	}
}

// A message has nothing in it that a terminal obeys, and no quotes that it does not need.
func TestJournalMessageIsPrintable(t *testing.T) {
	j := newJournal(t)
	l, err := New(Options{Level: "info", Format: "auto", Output: "stderr"})
	if err != nil {
		t.Fatal(err)
	}
	for message, want := range map[string]string{
		`it's "a = b" \ é`: `it's "a = b" \ é`, "a\nb\x1b[2J\x7f\u202e": `"a\nb\x1b[2J\x7f\u202e"`, "\xffx": `"\xffx"`,
	} {
		l.Info(message)
		if got := j.next(); got["MESSAGE"] != want || got["FCGID_MSG"] != message {
			t.Errorf("%q came as %q", message, got)
		}
	}
}

// A journal that starts anew is found again; one that takes nothing holds nobody up.
func TestJournalGoesAndStands(t *testing.T) {
	j := newJournal(t)
	l, err := New(Options{Level: "info", Format: "auto", Output: "stderr"})
	if err != nil {
		t.Fatal(err)
	}
	j.conn.Close()
	j.listen()
	l.Info("found again")
	if got := j.next()["FCGID_MSG"]; got != "found again" {
		t.Errorf("got %q", got)
	}
	if _, err := l.Reopen(); err != nil {
		t.Error(err)
	}
	for l.output.drops == 0 { // nobody reads
		l.Info("more")
	}
	for range 10 { // the kernel's queue is not long
		j.next()
	}
	l.Info("again")
	for j.next()["FCGID_MSG"] != "a log has dropped records" {
	}
}

// Whoever asks for lines gets lines, with a priority that the journal takes off; and a
// journal that cannot be reached reads lines.
func TestJournalReadsLines(t *testing.T) {
	j := newJournal(t)
	for name, o := range map[string]Options{
		"json": {Level: "info", Format: "json", Output: "stderr"}, "console": {Level: "info", Format: "console", Output: "stderr"},
	} {
		if _, _, f := chooseFormat(o, os.Stderr); f != map[string]format{"json": formatJSONLine, "console": formatConsoleLine}[name] {
			t.Errorf("%s: %v", name, f)
		}
	}
	auto := Options{Level: "info", Format: "auto", Output: "stderr"}
	j.conn.Close()
	if _, _, f := chooseFormat(auto, os.Stderr); f != formatJSONLine {
		t.Errorf("a journal that cannot be reached: %v", f)
	}
	file := filepath.Join(t.TempDir(), "log")
	l, err := New(Options{Level: "info", Format: "json", Output: file})
	if err != nil {
		t.Fatal(err)
	}
	l.format.Store(int32(formatJSONLine))
	l.With("pool", "www").Error("said")
	if text, _ := os.ReadFile(file); !strings.HasPrefix(string(text), `<3>{"level":"error"`) || !strings.HasSuffix(string(text), "\"pool\":\"www\"}\n") {
		t.Errorf("a line is %q", text)
	}
	t.Setenv("JOURNAL_STREAM", "1:2")
	if _, _, f := chooseFormat(auto, os.Stderr); f == formatJSONLine || f == formatJournal {
		t.Errorf("no journal: %v", f)
	}
}

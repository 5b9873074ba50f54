package logs

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/coreos/go-systemd/v22/journal"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

// journalOutput is the output of records for systemd's journal, which is no file's name.
const journalOutput = "the journal"

// journalSocket takes records in the journal's own protocol.
var journalSocket = "/run/systemd/journal/socket"

// isJournal reports whether a standard stream leads to the journal.
func isJournal(f *os.File) (is bool) {
	switch f {
	case os.Stderr:
		is, _ = journal.StderrIsJournalStream()
	case os.Stdout:
		is, _ = journal.StdoutIsJournalStream()
	}
	return is
}

// openJournal connects to the journal. Its own library (journal.Send) would wait without
// an end for a journal that takes nothing; this is a file like a FIFO, which has deadlines.
func openJournal() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("connect to the journal: %w", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: journalSocket}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("connect to the journal: %w", err)
	}
	return os.NewFile(uintptr(fd), journalOutput), nil
}

// sendLarge sends a record that is too long for a datagram, in a sealed file of memory.
func sendLarge(socket *os.File, record []byte) error {
	fd, err := unix.MemfdCreate("fcgid-journal", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return fmt.Errorf("file for a long record: %w", err)
	}
	memory := os.NewFile(uintptr(fd), "record")
	defer memory.Close()
	if _, err := memory.Write(record); err != nil {
		return fmt.Errorf("file for a long record: %w", err)
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("seal the file of a long record: %w", err)
	}
	conn, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	err = conn.Write(func(s uintptr) bool {
		sendErr = unix.Sendmsg(int(s), nil, unix.UnixRights(fd), nil, 0)
		return sendErr != unix.EAGAIN && sendErr != unix.EINTR
	})
	if err != nil {
		return err
	}
	return sendErr
}

// A journalCore writes records in the journal's own protocol. MESSAGE is a line for
// people: the record's message and fields. Each field is one of the journal's, too, with
// its bytes as they are, and so is the message: FCGID_MSG.
type journalCore struct {
	zapcore.LevelEnabler
	to     zapcore.WriteSyncer
	fields []zapcore.Field
}

// With adds fields to all that follows.
func (c *journalCore) With(fields []zapcore.Field) zapcore.Core {
	return &journalCore{c.LevelEnabler, c.to, slices.Concat(c.fields, fields)}
}

// Check takes an entry that is to be logged.
func (c *journalCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write logs an entry.
func (c *journalCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	_, err := c.to.Write(journalRecord(e, slices.Concat(c.fields, fields)))
	return err
}

// Sync does nothing: each record is sent at once.
func (c *journalCore) Sync() error { return nil }

// journalRecord is an entry in the journal's protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).
func journalRecord(e zapcore.Entry, fields []zapcore.Field) []byte {
	var record bytes.Buffer
	line := e.Message
	if strings.ContainsFunc(line, isUnprintable) {
		line = strconv.Quote(line)
	}
	for name, value := range journalFields(fields) {
		line += " " + name + "=" + quoted(value)
		appendField(&record, "FCGID_"+strings.Map(fieldRune, strings.ToUpper(name)), value)
	}
	appendField(&record, "MESSAGE", line)
	appendField(&record, "PRIORITY", strconv.Itoa(int(priorityOf(e.Level))))
	appendField(&record, "SYSLOG_IDENTIFIER", filepath.Base(os.Args[0]))
	appendField(&record, "FCGID_MSG", e.Message)
	return record.Bytes()
}

// journalFields yields names and values as text.
func journalFields(fields []zapcore.Field) func(yield func(name, value string) bool) {
	return func(yield func(name, value string) bool) {
		for _, f := range fields {
			m := zapcore.NewMapObjectEncoder()
			f.AddTo(m)
			for _, name := range slices.Sorted(maps.Keys(m.Fields)) {
				if !yield(name, fieldText(m.Fields[name])) {
					return
				}
			}
		}
	}
}

func fieldText(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	case time.Time:
		return v.Format(time.RFC3339Nano)
	case map[string]any, []any:
		if text, err := json.Marshal(v); err == nil {
			return string(text)
		}
	}
	return fmt.Sprint(value)
}

// fieldRune is what may stand in the name of a field.
func fieldRune(r rune) rune {
	if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
		return r
	}
	return '_'
}

// quoted keeps a value to its place in a line: it adds no line and no field, and has
// nothing in it that a terminal obeys.
func quoted(s string) string {
	special := func(r rune) bool { return r == ' ' || r == '"' || r == '=' || isUnprintable(r) }
	if s == "" || strings.ContainsFunc(s, special) {
		return strconv.Quote(s)
	}
	return s
}

// isUnprintable tells of what ends a line, acts on a terminal or is no UTF-8.
func isUnprintable(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

// appendField appends one in the form that takes any bytes.
func appendField(to *bytes.Buffer, name, value string) {
	to.WriteString(name)
	to.WriteByte('\n')
	to.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(value))))
	to.WriteString(value)
	to.WriteByte('\n')
}

func priorityOf(l zapcore.Level) journal.Priority {
	switch {
	case l >= zapcore.ErrorLevel:
		return journal.PriErr
	case l >= zapcore.WarnLevel:
		return journal.PriWarning
	case l >= zapcore.InfoLevel:
		return journal.PriInfo
	}
	return journal.PriDebug
}

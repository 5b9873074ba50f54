package access

import (
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// params are those of a test.
type params map[string]string

func (p params) Get(name string) string { return p[name] }

func testLine() *Line {
	return &Line{
		Pool: "www", ID: []byte("abc"), Serial: 7, Remote: "192.0.2.9:4711", PID: 71,
		Params: params{
			"REMOTE_ADDR": "192.0.2.1", "REQUEST_METHOD": "POST", "REQUEST_URI": "/a/b?c=d", "SCRIPT_NAME": "/a.php", "PATH_INFO": "/b",
			"QUERY_STRING": "c=d", "SCRIPT_FILENAME": "/srv/a.php", "HTTP_AUTHORIZATION": "Basic am9lOnNlY3JldA==",
			"SERVER_PROTOCOL": "HTTP/1.1", "HTTP_REFERER": "http://r/", "HTTP_USER_AGENT": "Mozilla/5.0 (X11)",
		},
		Header: []byte("Status: 201 Created\r\nContent-Type: text/plain\r\nX-A: b c\r\n\r\n"),
		Status: 201, AppStatus: 3, Outcome: "ok", Reason: errors.New("it said \"no\""), In: 5, Out: 100, Body: 60,
		Begun: time.Unix(1795853079, 0), Ended: time.Unix(1795853080, 123456789),
		Queue: 100 * time.Millisecond, Run: 900*time.Millisecond + 1500*time.Nanosecond, FirstByte: 20 * time.Millisecond,
		Usage: Usage{CPU: 500 * time.Millisecond, User: 400 * time.Millisecond, System: 100 * time.Millisecond, MaxRSS: 3 << 20},
	}
}

func format(t *testing.T, text string, l *Line) string {
	t.Helper()
	f, err := Parse(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return strings.TrimSuffix(string(f.Append(nil, l)), "\n")
}

func TestFormats(t *testing.T) {
	time.Local = time.UTC
	for text, want := range map[string]string{
		`%R - %u %t "%m %r%Q%q" %s`:                       `192.0.2.9 - joe 28/Nov/2026:08:04:39 +0000 "POST /a.php?c=d" 201`,
		"%d %{seconds}d %{milli}d %{micro}d":              "1.000 1.000 1000.001 1000001",
		"%{Microseconds}d %{MILLISECONDS}d":               "1000001 1000.001",
		"%C %{user}C %{system}C %{total}C%%":              "50.00 40.00 10.00 50.00%",
		"%M %{bytes}M %{kilo}M %{megabytes}M":             "3145728 3145728 3072 3",
		"%f %l %n %p %P":                                  "/srv/a.php 5 www 71 " + strconv.Itoa(os.Getpid()),
		"%{X-A}o %{content-type}o %{X-B}o":                `b\x20c text/plain -`,
		`"%{X-A}o"`:                                       `"b c"`,
		"%{HTTP_HOST}e %{REQUEST_METHOD}e %{REQUEST_ID}e": "- POST abc",
		"%T":                             "28/Nov/2026:08:04:40 +0000",
		"%{%Y-%m-%dT%H:%M:%S%z}t %{%s}T": "2026-11-28T08:04:39+0000 1795853080",
		"combined":                       `192.0.2.1 - joe [28/Nov/2026:08:04:40 +0000] "POST /a/b?c=d HTTP/1.1" 201 60 "http://r/" "Mozilla/5.0 (X11)"`,
		"json": `{"time":"2026-11-28T08:04:40.123456Z","pool":"www","id":"abc","request":7,"remote":"192.0.2.9:4711","client":"192.0.2.1",` +
			`"method":"POST","uri":"/a/b?c=d","script":"/srv/a.php","pid":71,"status":201,"app_status":3,"outcome":"ok","reason":"it said \"no\"",` +
			`"bytes_in":5,"bytes_out":100,"queue_ms":100,"run_ms":900.001,"first_byte_ms":20,"cpu_ms":500,"cpu_user_ms":400,"cpu_system_ms":100,"max_rss_bytes":3145728}`,
	} {
		if got := format(t, text, testLine()); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", text, got, want)
		}
	}
}

// What is not known is "-" in a text, and not there in JSON.
func TestNothingIsKnown(t *testing.T) {
	time.Local = time.UTC
	l := &Line{Params: params{}, Remote: "unix", Begun: time.Unix(0, 0), Ended: time.Unix(0, 0)}
	if got, want := format(t, `%R %u "%m %r%Q%q" %s %f %p %C %{user}C %M %{X}o %{X}e`, l), `- - "- -" - - - - - - - -`; got != want {
		t.Errorf("got %s", got)
	}
	if got, want := format(t, "json", l), `{"time":"1970-01-01T00:00:00.000000Z","pool":"","id":"","request":0,"remote":"unix","client":"","method":"","uri":"",`+
		`"script":"","status":0,"app_status":0,"outcome":"","bytes_in":0,"bytes_out":0,"queue_ms":0,"run_ms":0}`; got != want {
		t.Errorf("got %s", got)
	}
	l.Usage.CPU = time.Second // as of a worker
	if got := format(t, "%C %{user}C %{system}C", l); got != "100000000.00 - -" {
		t.Errorf("got %s", got)
	}
}

func TestWrongFormats(t *testing.T) {
	for text, want := range map[string]string{
		"jason":         "column 1: \"jason\" is neither json nor combined",
		"%r %z":         "column 4: %z is no token of php-fpm's: they are %% %C %M %P",
		"%r %":          "column 4: % is no token: a letter is missing",
		"%r %{a":        "column 4: %{a has no }",
		"%r %{a}":       "column 4: %{a} is no token: a letter is missing",
		"%r %{a}r":      "column 4: %{a}r: %r has no argument in braces",
		"%{hours}d":     "column 1: %{hours}d: what is in braces is none of seconds,",
		"%{idle}C":      "column 1: %{idle}C: what is in braces is none of total, user, system",
		"%{gigabytes}M": "column 1: %{gigabytes}M: what is in braces",
		"%e":            "column 1: %e: %e needs the name of a variable in braces",
		"%{}o":          "column 1: %{}o: %o needs the name of a header in braces",
		"a %{%Q}t":      "column 3: %{%Q}t: %Q is no conversion of strftime(3)",
		"a %{%}T":       "column 3: %{%}T: the time ends with %",
	} {
		_, err := Parse(text)
		var wrong *FormatError
		if !errors.As(err, &wrong) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

// Each conversion is what GNU's date(1) makes of it.
func TestStrftime(t *testing.T) {
	time.Local = time.UTC
	for _, test := range []struct{ layout, first, second string }{
		// 2026-11-28 08:04:39, 2024-12-30 00:00:00
		{"%a %A %b %B %c", "Sat Saturday Nov November Sat Nov 28 08:04:39 2026", "Mon Monday Dec December Mon Dec 30 00:00:00 2024"},
		{"%C %d %D %e %F", "20 28 11/28/26 28 2026-11-28", "20 30 12/30/24 30 2024-12-30"},
		{"%g %G %V %u %w %U %W", "26 2026 48 6 6 47 47", "25 2025 01 1 1 52 53"},
		{"%h %H %I %j %k %l", "Nov 08 08 332  8  8", "Dec 00 12 365  0 12"},
		{"%m %M %p %P %r %R %S %T", "11 04 AM am 08:04:39 AM 08:04 39 08:04:39", "12 00 AM am 12:00:00 AM 00:00 00 00:00:00"},
		{"%x %X %y %Y %z %Z %s %%", "11/28/26 08:04:39 26 2026 +0000 UTC 1795853079 %", "12/30/24 00:00:00 24 2024 +0000 UTC 1735516800 %"},
	} {
		f, err := parseStrftime(test.layout)
		if err != nil {
			t.Fatal(err)
		}
		for when, want := range map[int64]string{1795853079: test.first, 1735516800: test.second} {
			if got := string(f.append(nil, time.Unix(when, 0))); got != want {
				t.Errorf("%s: got %q, want %q", test.layout, got, want)
			}
		}
	}
}

// hostile has what ends a line, a field, a text, or acts on a terminal or a browser.
const hostile = "a\" 200 <script>\\\n\r\x00\x1b[2J\u202e\u2028\xff\u009b \U000e0001'b"

// FuzzLine: whatever a client has written, a line is one line, a JSON line is an object
// with the same members, and the fields of a text stay as many.
func FuzzLine(f *testing.F) {
	f.Add(hostile)
	f.Add("")
	f.Add("\U0001f600 üß日本")
	const text = `%u %{HTTP_HOST}e "%m %r%Q%q" %f %{X-A}o "%{HTTP_USER_AGENT}e" %s`
	tokens, err := Parse(text)
	if err != nil {
		f.Fatal(err)
	}
	combined, _ := Parse("combined")
	f.Fuzz(func(t *testing.T, s string) {
		l := testLine()
		for name := range l.Params.(params) {
			l.Params.(params)[name] = s
		}
		l.Params.(params)["HTTP_HOST"], l.Params.(params)["REMOTE_USER"] = s, s
		l.Header, l.Reason = []byte("X-A: "+strings.NewReplacer("\r", "", "\n", "").Replace(s)+"\r\n\r\n"), errors.New(s)
		wantJSON(t, l, s)
		wantText(t, string(tokens.Append(nil, l)), 7, 2)
		wantText(t, string(combined.Append(nil, l)), 10, 3)
	})
}

func wantJSON(t *testing.T, l *Line, s string) {
	t.Helper()
	line := Format{}.Append(nil, l)
	var members map[string]any
	if err := json.Unmarshal(line, &members); err != nil {
		t.Fatalf("%v: %q", err, line)
	}
	if strings.ContainsFunc(string(line[:len(line)-1]), func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }) {
		t.Errorf("unseen characters in %q", line)
	}
	want := strings.ToValidUTF8(s, "")
	got := strings.ReplaceAll(members["uri"].(string), string(utf8.RuneError), "")
	want = strings.Map(func(r rune) rune {
		if r > 0xffff && !unicode.IsPrint(r) || r == utf8.RuneError {
			return -1
		}
		return r
	}, want)
	if len(members) != 23 || got != want {
		t.Errorf("%d members, uri %q of %q", len(members), got, s)
	}
}

// wantText fails unless a line has that many fields: words, and texts in quotation marks.
func wantText(t *testing.T, line string, fields, quoted int) {
	t.Helper()
	parts := strings.Split(strings.TrimSuffix(line, "\n"), `"`)
	words := len(parts) / 2
	for i := 0; i < len(parts); i += 2 {
		words += len(strings.Fields(parts[i]))
	}
	if len(parts) != 2*quoted+1 || words != fields || strings.ContainsFunc(line[:len(line)-1], func(r rune) bool { return r < ' ' || r > '~' }) {
		t.Errorf("%d texts in quotation marks, %d fields: %q", len(parts)/2, words, line)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, text := range []string{"json", "combined", `%R - %u %t "%m %r%Q%q" %s %d %C %M`} {
		b.Run(text[:4], func(b *testing.B) {
			f, err := Parse(text)
			if err != nil {
				b.Fatal(err)
			}
			l, dst := testLine(), make([]byte, 0, 4<<10)
			l.Reason = nil
			b.ReportAllocs()
			for b.Loop() {
				f.Append(dst, l)
			}
		})
	}
}

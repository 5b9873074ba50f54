package access

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A token is what stands behind % in php-fpm's access.format.
type token struct {
	takes bool   // an argument in braces
	needs string // what the argument is, where it cannot be left out
	make  func(argument string, quoted bool) (part, error)
}

// tokens are all that php-fpm documents. One of which nothing is known is "-".
var tokens = map[byte]token{
	'%': fixed(func(dst []byte, _ *Line) []byte { return append(dst, '%') }),
	'C': {takes: true, make: cpuToken},
	'd': {takes: true, make: durationToken},
	'e': {takes: true, needs: "the name of a variable", make: variableToken},
	'f': client(func(l *Line) string { return l.Params.Get("SCRIPT_FILENAME") }),
	'l': fixed(func(dst []byte, l *Line) []byte { return strconv.AppendInt(dst, l.In, 10) }),
	'm': client(func(l *Line) string { return l.Params.Get("REQUEST_METHOD") }),
	'M': {takes: true, make: memoryToken},
	'n': fixed(func(dst []byte, l *Line) []byte { return append(dst, l.Pool...) }),
	'o': {takes: true, needs: "the name of a header", make: headerToken},
	'p': fixed(func(dst []byte, l *Line) []byte { return appendKnown(dst, int64(l.PID)) }),
	'P': fixed(func(dst []byte, _ *Line) []byte { return strconv.AppendInt(dst, int64(os.Getpid()), 10) }),
	'q': fixed(func(dst []byte, l *Line) []byte { return AppendEscaped(dst, l.Params.Get("QUERY_STRING"), false) }),
	'Q': fixed(func(dst []byte, l *Line) []byte {
		if l.Params.Get("QUERY_STRING") != "" {
			dst = append(dst, '?')
		}
		return dst
	}),
	'r': client((*Line).Path),
	'R': fixed(func(dst []byte, l *Line) []byte { return append(dst, l.peer()...) }),
	's': fixed(func(dst []byte, l *Line) []byte { return appendKnown(dst, int64(l.Status)) }),
	't': timeToken(func(l *Line) time.Time { return l.Begun }),
	'T': timeToken(func(l *Line) time.Time { return l.Ended }),
	'u': client((*Line).user),
}

// combined is Apache's and nginx's format of that name.
var combined = mustParts(`%{REMOTE_ADDR}e - %u [%T] "%m `, requestURI, ` %{SERVER_PROTOCOL}e" %s `, bodySent,
	` "%{HTTP_REFERER}e" "%{HTTP_USER_AGENT}e"`)

func requestURI(dst []byte, l *Line) []byte {
	return AppendEscaped(dst, orDash(l.Params.Get("REQUEST_URI")), false)
}

func bodySent(dst []byte, l *Line) []byte { return strconv.AppendInt(dst, l.Body, 10) }

// mustParts are those of a format that is put together of texts and parts. A quotation
// mark may end in another text than it began in.
func mustParts(pieces ...any) (all []part) {
	p := parser{}
	for _, piece := range pieces {
		if f, ok := piece.(func([]byte, *Line) []byte); ok {
			p.add(f)
			continue
		}
		p.text, p.at = piece.(string), 0
		if err := p.rest(); err != nil {
			panic(err)
		}
	}
	return p.parts
}

// Path is the path of the URL as php-fpm has it: SCRIPT_NAME, where the web server sends
// one.
func (l *Line) Path() string {
	if name := l.Params.Get("SCRIPT_NAME"); name != "" {
		return name
	}
	path, _, _ := strings.Cut(l.Params.Get("REQUEST_URI"), "?")
	return path
}

// user is who the web server has found it to be, or who HTTP's Basic says.
func (l *Line) user() string {
	if user := l.Params.Get("REMOTE_USER"); user != "" {
		return user
	}
	return BasicUser(l.Params.Get("HTTP_AUTHORIZATION"))
}

// BasicUser is the user that an Authorization field of the scheme Basic names, else "".
func BasicUser(authorization string) string {
	scheme, credentials, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return ""
	}
	plain, err := base64.StdEncoding.DecodeString(credentials)
	if err != nil {
		return ""
	}
	user, _, _ := strings.Cut(string(plain), ":")
	return user
}

// peer is the address of the web server, if it came by TCP.
func (l *Line) peer() string {
	host, _, err := net.SplitHostPort(l.Remote)
	if err != nil {
		return "-"
	}
	return host
}

func fixed(f part) token {
	return token{make: func(string, bool) (part, error) { return f, nil }}
}

// client is for what a client may have written, and has no spaces.
func client(value func(*Line) string) token {
	return fixed(func(dst []byte, l *Line) []byte { return AppendEscaped(dst, orDash(value(l)), false) })
}

func variableToken(name string, quoted bool) (part, error) {
	if name == "REQUEST_ID" { // which the web server need not have sent
		return func(dst []byte, l *Line) []byte { return append(dst, l.ID...) }, nil
	}
	return func(dst []byte, l *Line) []byte { return AppendEscaped(dst, orDash(l.Params.Get(name)), quoted) }, nil
}

func headerToken(name string, quoted bool) (part, error) {
	field := []byte(name)
	return func(dst []byte, l *Line) []byte { return AppendEscaped(dst, orDash(l.header(field)), quoted) }, nil
}

// header is the first field of that name in the answer.
func (l *Line) header(name []byte) string {
	for line := range bytes.SplitSeq(l.Header, []byte("\r\n")) {
		if n := len(name); len(line) > n && line[n] == ':' && bytes.EqualFold(line[:n], name) {
			return string(bytes.TrimSpace(line[n+1:]))
		}
	}
	return ""
}

// oneOf is the argument in lower case, or the first of those that are permitted.
func oneOf(argument string, permitted ...string) (string, error) {
	argument = strings.ToLower(argument)
	switch {
	case argument == "":
		return permitted[0], nil
	case !slices.Contains(permitted, argument):
		return "", fmt.Errorf("what is in braces is none of %s", strings.Join(permitted, ", "))
	}
	return argument, nil
}

// cpuToken is the CPU time for each second that the request took, in percent.
func cpuToken(argument string, _ bool) (part, error) {
	which, err := oneOf(argument, "total", "user", "system")
	return func(dst []byte, l *Line) []byte {
		used := l.Usage.CPU
		switch which {
		case "user":
			used = l.Usage.User
		case "system":
			used = l.Usage.System
		}
		if l.Usage.CPU == 0 || which != "total" && l.Usage.User+l.Usage.System == 0 {
			return append(dst, '-')
		}
		took := max(l.Queue+l.Run, time.Microsecond)
		return strconv.AppendFloat(dst, used.Seconds()/took.Seconds()*100, 'f', 2, 64)
	}, err
}

func durationToken(argument string, _ bool) (part, error) {
	unit, err := oneOf(argument, "seconds", "milliseconds", "milli", "microseconds", "micro", "miliseconds", "mili")
	return func(dst []byte, l *Line) []byte {
		took := l.Queue + l.Run
		switch unit {
		case "seconds":
			return strconv.AppendFloat(dst, took.Seconds(), 'f', 3, 64)
		case "microseconds", "micro":
			return strconv.AppendInt(dst, took.Microseconds(), 10)
		}
		return strconv.AppendFloat(dst, float64(took.Microseconds())/1000, 'f', 3, 64)
	}, err
}

func memoryToken(argument string, _ bool) (part, error) {
	unit, err := oneOf(argument, "bytes", "kilobytes", "kilo", "megabytes", "mega")
	divisor := map[byte]int64{'b': 1, 'k': 1 << 10, 'm': 1 << 20}
	return func(dst []byte, l *Line) []byte {
		if l.Usage.MaxRSS == 0 {
			return append(dst, '-')
		}
		return strconv.AppendInt(dst, l.Usage.MaxRSS/divisor[unit[0]], 10)
	}, err
}

func timeToken(when func(*Line) time.Time) token {
	return token{takes: true, make: func(layout string, quoted bool) (part, error) {
		if layout == "" {
			layout = "%d/%b/%Y:%H:%M:%S %z"
		}
		format, err := parseStrftime(layout)
		return func(dst []byte, l *Line) []byte { return format.append(dst, when(l)) }, err
	}}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func appendKnown(dst []byte, n int64) []byte {
	if n == 0 {
		return append(dst, '-')
	}
	return strconv.AppendInt(dst, n, 10)
}

// AppendEscaped writes as \xHH, as nginx does, what is no visible ASCII or would end a
// text in quotation marks; outside of such a text also the space that ends a field.
func AppendEscaped(dst []byte, s string, quoted bool) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c > ' ' && c < 0x7f && c != '"' && c != '\\' || c == ' ' && quoted {
			dst = append(dst, c)
		} else {
			dst = append(dst, '\\', 'x', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
		}
	}
	return dst
}

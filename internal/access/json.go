package access

import (
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// appendJSON is a line as a JSON object. The names are a promise. What is not known, or
// not there, has none; times are milliseconds.
func appendJSON(dst []byte, l *Line) []byte {
	o := object{dst: append(dst, `{"time":"`...)}
	o.dst = l.Ended.AppendFormat(o.dst, "2006-01-02T15:04:05.000000Z07:00")
	o.dst = append(o.dst, '"')
	o.text("pool", l.Pool)
	o.name("id")
	o.dst = appendString(o.dst, l.ID)
	o.number("request", int64(l.Serial))
	o.text("remote", l.Remote)
	o.text("client", l.Params.Get("REMOTE_ADDR"))
	o.text("method", l.Params.Get("REQUEST_METHOD"))
	o.text("uri", l.Params.Get("REQUEST_URI"))
	o.text("script", l.Params.Get("SCRIPT_FILENAME"))
	if l.PID != 0 {
		o.number("pid", int64(l.PID))
	}
	o.number("status", int64(l.Status))
	o.number("app_status", int64(l.AppStatus))
	o.text("outcome", l.Outcome)
	if l.Reason != nil {
		o.text("reason", l.Reason.Error())
	}
	o.number("bytes_in", l.In)
	o.number("bytes_out", l.Out)
	o.milliseconds("queue_ms", l.Queue)
	o.milliseconds("run_ms", l.Run)
	if l.FirstByte > 0 {
		o.milliseconds("first_byte_ms", l.FirstByte)
	}
	o.usage(&l.Usage)
	return append(o.dst, '}')
}

func (o *object) usage(u *Usage) {
	if u.CPU > 0 {
		o.milliseconds("cpu_ms", u.CPU)
	}
	if u.User+u.System > 0 {
		o.milliseconds("cpu_user_ms", u.User)
		o.milliseconds("cpu_system_ms", u.System)
	}
	if u.MaxRSS > 0 {
		o.number("max_rss_bytes", u.MaxRSS)
	}
}

// An object is a JSON object to which members are appended.
type object struct{ dst []byte }

func (o *object) name(name string) {
	o.dst = append(o.dst, ',', '"')
	o.dst = append(o.dst, name...)
	o.dst = append(o.dst, '"', ':')
}

func (o *object) text(name, value string) {
	o.name(name)
	o.dst = appendString(o.dst, value)
}

func (o *object) number(name string, n int64) {
	o.name(name)
	o.dst = strconv.AppendInt(o.dst, n, 10)
}

func (o *object) milliseconds(name string, d time.Duration) {
	o.name(name)
	o.dst = appendMilliseconds(o.dst, d)
}

// appendMilliseconds is exact to a microsecond.
func appendMilliseconds(dst []byte, d time.Duration) []byte {
	return strconv.AppendFloat(dst, float64(d.Microseconds())/1000, 'f', -1, 64)
}

const hex = "0123456789abcdef"

// appendString is a JSON string. What is no UTF-8 becomes U+FFFD, and what a browser
// or a terminal could take for more than text is escaped.
func appendString[T ~string | ~[]byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
			i++
		case c < ' ' || c == 0x7f || c == '<' || c == '>' || c == '&':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			i++
		case c < utf8.RuneSelf:
			dst = append(dst, c)
			i++
		default:
			r, size := utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)]))
			dst = appendRune(dst, r)
			i += size
		}
	}
	return append(dst, '"')
}

// appendRune escapes what turns or ends the text around it, or is not seen.
func appendRune(dst []byte, r rune) []byte {
	switch {
	case unicode.IsPrint(r):
		return utf8.AppendRune(dst, r)
	case r > 0xffff: // what belongs to nobody: not worth a pair of surrogates
		return utf8.AppendRune(dst, utf8.RuneError)
	}
	return append(dst, '\\', 'u', hex[r>>12], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}

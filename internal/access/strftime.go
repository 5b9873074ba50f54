package access

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A strftime is a format of strftime(3), in the C locale and the daemon's time zone.
type strftime []func(dst []byte, t time.Time) []byte

// layouts are the conversions that package time has. C's pad with spaces where that pads
// with none: see conversions.
var layouts = map[byte]string{
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'c': "Mon Jan _2 15:04:05 2006", 'd': "02", 'D': "01/02/06",
	'e': "_2", 'F': "2006-01-02", 'h': "Jan", 'H': "15", 'I': "03", 'j': "002", 'm': "01", 'M': "04", 'p': "PM", 'P': "pm",
	'r': "03:04:05 PM", 'R': "15:04", 'S': "05", 'T': "15:04:05", 'x': "01/02/06", 'X': "15:04:05", 'y': "06", 'Y': "2006",
	'z': "-0700", 'Z': "MST",
}

// conversions are the others.
var conversions = map[byte]func(dst []byte, t time.Time) []byte{
	'C': func(dst []byte, t time.Time) []byte { return appendPadded(dst, t.Year()/100, 2, '0') },
	'g': func(dst []byte, t time.Time) []byte {
		year, _ := t.ISOWeek()
		return appendPadded(dst, year%100, 2, '0')
	},
	'G': func(dst []byte, t time.Time) []byte { year, _ := t.ISOWeek(); return appendPadded(dst, year, 4, '0') },
	'k': func(dst []byte, t time.Time) []byte { return appendPadded(dst, t.Hour(), 2, ' ') },
	'l': func(dst []byte, t time.Time) []byte { return appendPadded(dst, (t.Hour()+11)%12+1, 2, ' ') },
	'n': func(dst []byte, _ time.Time) []byte { return append(dst, ' ') }, // a line of the log is one line
	's': func(dst []byte, t time.Time) []byte { return strconv.AppendInt(dst, t.Unix(), 10) },
	't': func(dst []byte, _ time.Time) []byte { return append(dst, '\t') },
	'u': func(dst []byte, t time.Time) []byte { return appendPadded(dst, (int(t.Weekday())+6)%7+1, 1, '0') },
	'U': func(dst []byte, t time.Time) []byte {
		return appendPadded(dst, (t.YearDay()+6-int(t.Weekday()))/7, 2, '0')
	},
	'V': func(dst []byte, t time.Time) []byte { _, week := t.ISOWeek(); return appendPadded(dst, week, 2, '0') },
	'w': func(dst []byte, t time.Time) []byte { return appendPadded(dst, int(t.Weekday()), 1, '0') },
	'W': func(dst []byte, t time.Time) []byte {
		return appendPadded(dst, (t.YearDay()+6-(int(t.Weekday())+6)%7)/7, 2, '0')
	},
	'%': func(dst []byte, _ time.Time) []byte { return append(dst, '%') },
}

func parseStrftime(text string) (f strftime, err error) {
	for rest := text; rest != ""; {
		literal, _, found := strings.Cut(rest, "%")
		if literal != "" {
			f = append(f, func(dst []byte, _ time.Time) []byte { return append(dst, literal...) })
		}
		if !found {
			break
		}
		rest = rest[len(literal)+1:]
		if rest == "" {
			return nil, fmt.Errorf("the time ends with %%")
		}
		c := rest[0]
		rest = rest[1:]
		switch layout := layouts[c]; {
		case layout != "":
			f = append(f, func(dst []byte, t time.Time) []byte { return t.AppendFormat(dst, layout) })
		case conversions[c] != nil:
			f = append(f, conversions[c])
		default:
			return nil, fmt.Errorf("%%%c is no conversion of strftime(3)", c)
		}
	}
	return f, nil
}

func (f strftime) append(dst []byte, t time.Time) []byte {
	t = t.Local()
	for _, piece := range f {
		dst = piece(dst, t)
	}
	return dst
}

func appendPadded(dst []byte, n, width int, pad byte) []byte {
	text := strconv.Itoa(n)
	for range width - len(text) {
		dst = append(dst, pad)
	}
	return append(dst, text...)
}

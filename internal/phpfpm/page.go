// Package phpfpm writes a pool's status as php-fpm's status page has it, in each of its
// formats and with its names, for what reads those: Munin, Zabbix, exporters, dashboards. It
// knows nobody that could tell it. What clients have written is escaped for the format
// that it stands in.
package phpfpm

import (
	"fmt"
	"net/url"
	"strconv"
	"time"
)

// A Page is what php-fpm tells of a pool.
type Page struct {
	Pool               string    `json:"pool"`
	ProcessManager     string    `json:"process manager"`
	StartTime          Time      `json:"start time"`
	StartSince         int64     `json:"start since"` // seconds
	AcceptedConn       int64     `json:"accepted conn"`
	ListenQueue        int       `json:"listen queue"`
	MaxListenQueue     int       `json:"max listen queue"`
	ListenQueueLen     int       `json:"listen queue len"`
	IdleProcesses      int       `json:"idle processes"`
	ActiveProcesses    int       `json:"active processes"`
	TotalProcesses     int       `json:"total processes"`
	MaxActiveProcesses int       `json:"max active processes"`
	MaxChildrenReached int64     `json:"max children reached"`
	SlowRequests       int64     `json:"slow requests"`
	Processes          []Process `json:"processes,omitzero"` // nil: the page is not full
}

// A Process is one of them. Of what a client may have written "" is shown as "-".
type Process struct {
	PID               int     `json:"pid"`
	State             string  `json:"state"` // one of those below
	StartTime         Time    `json:"start time"`
	StartSince        int64   `json:"start since"` // seconds
	Requests          int     `json:"requests"`
	RequestDuration   int64   `json:"request duration"` // microseconds
	RequestMethod     Text    `json:"request method"`
	RequestURI        Text    `json:"request uri"`
	ContentLength     int64   `json:"content length"`
	User              Text    `json:"user"`
	Script            Text    `json:"script"`
	LastRequestCPU    Percent `json:"last request cpu"`
	LastRequestMemory int64   `json:"last request memory"` // bytes
}

// Those of php-fpm's states of a process that are told: others would be unknown to what
// reads them.
const (
	Idle    = "Idle"
	Running = "Running"
	Ending  = "Ending"
)

// A Text is what a client may have written.
type Text string

// MarshalText is the text as it is shown.
func (t Text) MarshalText() ([]byte, error) {
	if t == "" {
		return []byte("-"), nil
	}
	return []byte(t), nil
}

// A Time is shown as the seconds of Unix, or as in an access log.
type Time struct{ time.Time }

// MarshalJSON is the number of seconds.
func (t Time) MarshalJSON() ([]byte, error) { return strconv.AppendInt(nil, t.Unix(), 10), nil }

// A Percent has two digits.
type Percent float64

// MarshalJSON is the number.
func (p Percent) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, "%.2f", float64(p)), nil }

// A Query is what of a page is asked for.
type Query struct {
	Full  bool // each process
	write writer
	kind  string // its Content-Type
}

// A writer writes a page in one format.
type writer func(*Page) ([]byte, error)

// formats are in the order in which php-fpm looks for them.
var formats = []struct {
	name, kind string
	write      writer
}{
	{"html", "text/html; charset=utf-8", (*Page).html},
	{"xml", "text/xml; charset=utf-8", (*Page).xml},
	{"json", "application/json", (*Page).json},
	{"openmetrics", "application/openmetrics-text; version=1.0.0; charset=utf-8", (*Page).openMetrics},
}

// ParseQuery reads a QUERY_STRING: full, and html, xml, json or openmetrics; without one
// of these the page is text.
func ParseQuery(query string) Query {
	asked, _ := url.ParseQuery(query) // of one that is broken what can be read counts
	q := Query{Full: asked.Has("full"), write: (*Page).text, kind: "text/plain; charset=utf-8"}
	for _, f := range formats {
		if asked.Has(f.name) {
			q.write, q.kind = f.write, f.kind
			break
		}
	}
	return q
}

// Answer is the CGI response that the page is.
func (q Query) Answer(p *Page) ([]byte, error) {
	body, err := q.write(p)
	if err != nil {
		return nil, err
	}
	return append([]byte(header(q.kind)), body...), nil
}

// Ping is the CGI response to a ping.
func Ping(response string) []byte { return []byte(header("text/plain; charset=utf-8") + response) }

// header has what php-fpm sends, and that no browser is to find markup in what is none, nor
// run any.
func header(kind string) string {
	return "Content-Type: " + kind + "\r\n" +
		"Expires: Thu, 01 Jan 1970 00:00:00 GMT\r\n" +
		"Cache-Control: no-cache, no-store, must-revalidate, max-age=0\r\n" +
		"X-Content-Type-Options: nosniff\r\n" +
		"Content-Security-Policy: default-src 'none'\r\n\r\n"
}

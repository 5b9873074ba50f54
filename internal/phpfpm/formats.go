package phpfpm

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html"
	"reflect"
	"strings"
	"unicode"

	"github.com/fcgid/fcgid/internal/access"
)

// A field is a name and a value, as the struct has it.
type field struct {
	name  string
	value any
}

// fieldsOf are those of a Page or a Process that are one value each, by the names of JSON.
func fieldsOf(of any) (all []field) {
	v := reflect.ValueOf(of)
	for f, value := range v.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Type.Kind() != reflect.Slice {
			all = append(all, field{name, value.Interface()})
		}
	}
	return all
}

// show is a value with what a client has written escaped.
func (f field) show(date string, escape func(string) string) string {
	switch v := f.value.(type) {
	case Time:
		if date == "" {
			return fmt.Sprint(v.Unix())
		}
		return v.Format(date)
	case Percent:
		return fmt.Sprintf("%.2f", float64(v))
	case Text:
		shown, _ := v.MarshalText()
		return escape(string(shown))
	}
	return escape(fmt.Sprint(f.value))
}

// accessDate is how text and HTML show a time.
const accessDate = "02/Jan/2006:15:04:05 -0700"

func (p *Page) text() ([]byte, error) {
	var page bytes.Buffer
	lines := func(of any) {
		for _, f := range fieldsOf(of) {
			name := f.name
			if name == "request uri" {
				name = "request URI"
			}
			fmt.Fprintf(&page, "%-22s%s\n", name+":", f.show(accessDate, plain))
		}
	}
	lines(*p)
	for _, x := range p.Processes {
		page.WriteString("\n************************\n")
		lines(x)
	}
	return page.Bytes(), nil
}

// plain is text without what ends a line or acts on a terminal: as in the access log.
func plain(s string) string { return string(access.AppendEscaped(nil, s, true)) }

func (p *Page) html() ([]byte, error) {
	var page bytes.Buffer
	page.WriteString("<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\" \"http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd\">\n" +
		"<html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n<head><title>PHP-FPM Status Page</title></head>\n<body>\n<table>\n")
	for _, f := range fieldsOf(*p) {
		fmt.Fprintf(&page, "<tr><th>%s</th><td>%s</td></tr>\n", f.name, f.show(accessDate, markup))
	}
	page.WriteString("</table>\n")
	if p.Processes == nil {
		page.WriteString("</body></html>")
		return page.Bytes(), nil
	}
	page.WriteString("<table border=\"1\">\n<tr>")
	for _, f := range fieldsOf(Process{}) {
		fmt.Fprintf(&page, "<th>%s</th>", f.name)
	}
	page.WriteString("</tr>\n")
	for _, x := range p.Processes {
		page.WriteString("<tr>")
		for _, f := range fieldsOf(x) {
			fmt.Fprintf(&page, "<td>%s</td>", f.show(accessDate, markup))
		}
		page.WriteString("</tr>\n")
	}
	page.WriteString("</table></body></html>")
	return page.Bytes(), nil
}

// markup is text for HTML, XHTML too: what these cannot have becomes U+FFFD.
func markup(s string) string { return html.EscapeString(visible(s)) }

// visible has U+FFFD in the place of what is no UTF-8, is not seen or turns the text
// around it.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

func (p *Page) xml() ([]byte, error) {
	var page bytes.Buffer
	page.WriteString("<?xml version=\"1.0\" ?>\n<status>\n")
	element := func(f field, end string) {
		name := strings.ReplaceAll(f.name, " ", "-")
		fmt.Fprintf(&page, "<%[1]s>%[2]s</%[1]s>%[3]s", name, f.show("", characterData), end)
	}
	for _, f := range fieldsOf(*p) {
		element(f, "\n")
	}
	if p.Processes != nil {
		page.WriteString("<processes>\n")
		for _, x := range p.Processes {
			page.WriteString("<process>")
			for _, f := range fieldsOf(x) {
				element(f, "")
			}
			page.WriteString("</process>\n")
		}
		page.WriteString("</processes>\n")
	}
	page.WriteString("</status>")
	return page.Bytes(), nil
}

func characterData(s string) string {
	var out bytes.Buffer
	if err := xml.EscapeText(&out, []byte(visible(s))); err != nil {
		return ""
	}
	return out.String()
}

// json has in strings what cannot be seen as escapes, and no markup.
func (p *Page) json() ([]byte, error) {
	shown := *p
	if p.Processes != nil {
		shown.Processes = make([]Process, len(p.Processes))
	}
	for i, x := range p.Processes {
		for _, t := range []*Text{&x.RequestMethod, &x.RequestURI, &x.User, &x.Script} {
			*t = Text(visible(string(*t)))
		}
		shown.Processes[i] = x
	}
	return json.Marshal(&shown)
}

// families are those of php-fpm's OpenMetrics, in its order.
var families = []struct {
	name, kind, help string
	value            func(*Page) int64
}{
	{"start_since", "counter", "The number of seconds since the pool has started.", func(p *Page) int64 { return p.StartSince }},
	{"accepted_connections", "counter", "The number of requests accepted by the pool.", func(p *Page) int64 { return p.AcceptedConn }},
	{"listen_queue", "gauge", "The number of requests that wait: in the kernel, or for a place.", func(p *Page) int64 { return int64(p.ListenQueue) }},
	{"max_listen_queue", "counter", "The maximum number of requests that have waited at once.", func(p *Page) int64 { return int64(p.MaxListenQueue) }},
	{"listen_queue_length", "gauge", "The number of requests that may wait.", func(p *Page) int64 { return int64(p.ListenQueueLen) }},
	{"idle_processes", "gauge", "The number of idle processes.", func(p *Page) int64 { return int64(p.IdleProcesses) }},
	{"active_processes", "gauge", "The number of active processes.", func(p *Page) int64 { return int64(p.ActiveProcesses) }},
	{"total_processes", "gauge", "The number of processes.", func(p *Page) int64 { return int64(p.TotalProcesses) }},
	{"max_active_processes", "counter", "The maximum number of active processes since the pool has started.", func(p *Page) int64 { return int64(p.MaxActiveProcesses) }},
	{"max_children_reached", "counter", "The number of times that as many were active as may be.", func(p *Page) int64 { return p.MaxChildrenReached }},
	{"slow_requests", "counter", "The number of requests that have run for longer than slow.after.", func(p *Page) int64 { return p.SlowRequests }},
}

// openMetrics has php-fpm's names, and each series the pool's name beside.
func (p *Page) openMetrics() ([]byte, error) {
	var page bytes.Buffer
	family := func(name, kind, help string, value int64) {
		fmt.Fprintf(&page, "# HELP phpfpm_%s %s\n# TYPE phpfpm_%[1]s %[3]s\nphpfpm_%[1]s{pool=%[4]q} %[5]d\n", name, help, kind, p.Pool, value)
	}
	family("up", "gauge", fmt.Sprintf("Could pool %s using a %s PM be reached?", p.Pool, p.ProcessManager), 1)
	for _, f := range families {
		family(f.name, f.kind, f.help, f.value(p))
	}
	page.WriteString("# EOF\n")
	return page.Bytes(), nil
}

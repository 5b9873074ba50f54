package phpfpm

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"html"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
)

func testPage(s string) *Page {
	return &Page{
		Pool: "www", ProcessManager: "dynamic", StartTime: Time{time.Unix(1795853079, 0).UTC()}, StartSince: 8, AcceptedConn: 9,
		ListenQueue: 1, MaxListenQueue: 2, ListenQueueLen: 3, IdleProcesses: 4, ActiveProcesses: 5, TotalProcesses: 10,
		MaxActiveProcesses: 6, MaxChildrenReached: 7, SlowRequests: 11,
		Processes: []Process{{
			PID: 71, State: Running, StartTime: Time{time.Unix(1795853080, 0).UTC()}, StartSince: 7, Requests: 3, RequestDuration: 70,
			RequestMethod: Text(s), RequestURI: Text(s), ContentLength: 12, User: Text(s), Script: Text(s), LastRequestCPU: 0.5,
		}},
	}
}

func answer(t *testing.T, query string, p *Page) (header, body string) {
	t.Helper()
	out, err := ParseQuery(query).Answer(p)
	if err != nil {
		t.Fatal(err)
	}
	header, body, _ = strings.Cut(string(out), "\r\n\r\n")
	return header, body
}

// The pages as php-fpm writes them: what follows was copied from it, but for the values.
func TestPages(t *testing.T) {
	short := testPage("")
	short.Processes = nil
	for query, want := range map[string]string{
		"": "pool:                 www\nprocess manager:      dynamic\nstart time:           28/Nov/2026:08:04:39 +0000\nstart since:          8\n" +
			"accepted conn:        9\nlisten queue:         1\nmax listen queue:     2\nlisten queue len:     3\nidle processes:       4\n" +
			"active processes:     5\ntotal processes:      10\nmax active processes: 6\nmax children reached: 7\nslow requests:        11\n",
		"json": `{"pool":"www","process manager":"dynamic","start time":1795853079,"start since":8,"accepted conn":9,"listen queue":1,"max listen queue":2,` +
			`"listen queue len":3,"idle processes":4,"active processes":5,"total processes":10,"max active processes":6,"max children reached":7,"slow requests":11}`,
		"xml": "<?xml version=\"1.0\" ?>\n<status>\n<pool>www</pool>\n<process-manager>dynamic</process-manager>\n<start-time>1795853079</start-time>\n" +
			"<start-since>8</start-since>\n<accepted-conn>9</accepted-conn>\n<listen-queue>1</listen-queue>\n<max-listen-queue>2</max-listen-queue>\n" +
			"<listen-queue-len>3</listen-queue-len>\n<idle-processes>4</idle-processes>\n<active-processes>5</active-processes>\n" +
			"<total-processes>10</total-processes>\n<max-active-processes>6</max-active-processes>\n<max-children-reached>7</max-children-reached>\n" +
			"<slow-requests>11</slow-requests>\n</status>",
	} {
		if _, got := answer(t, query, short); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", query, got, want)
		}
	}
	full := testPage("-")
	for query, want := range map[string]string{
		"full": "\n************************\npid:                  71\nstate:                Running\nstart time:           28/Nov/2026:08:04:40 +0000\n" +
			"start since:          7\nrequests:             3\nrequest duration:     70\nrequest method:       -\nrequest URI:          -\n" +
			"content length:       12\nuser:                 -\nscript:               -\nlast request cpu:     0.50\nlast request memory:  0\n",
		"full&json": `"processes":[{"pid":71,"state":"Running","start time":1795853080,"start since":7,"requests":3,"request duration":70,"request method":"-",` +
			`"request uri":"-","content length":12,"user":"-","script":"-","last request cpu":0.50,"last request memory":0}]}`,
		"xml&full": "<processes>\n<process><pid>71</pid><state>Running</state><start-time>1795853080</start-time><start-since>7</start-since><requests>3</requests>" +
			"<request-duration>70</request-duration><request-method>-</request-method><request-uri>-</request-uri><content-length>12</content-length>" +
			"<user>-</user><script>-</script><last-request-cpu>0.50</last-request-cpu><last-request-memory>0</last-request-memory></process>\n</processes>\n</status>",
		"html&full": "<tr><td>71</td><td>Running</td><td>28/Nov/2026:08:04:40 +0000</td><td>7</td><td>3</td><td>70</td><td>-</td><td>-</td><td>12</td>" +
			"<td>-</td><td>-</td><td>0.50</td><td>0</td></tr>\n</table></body></html>",
		"openmetrics": "# HELP phpfpm_slow_requests The number of requests that have run for longer than slow.after.\n# TYPE phpfpm_slow_requests counter\nphpfpm_slow_requests{pool=\"www\"} 11\n# EOF\n",
	} {
		if _, got := answer(t, query, full); !strings.HasSuffix(got, want) {
			t.Errorf("%s:\n%s\nwant at its end\n%s", query, got, want)
		}
	}
}

// As php-fpm, the format that comes first in its code wins, and "" is as good as a value.
func TestQueries(t *testing.T) {
	for query, want := range map[string]string{
		"": "text/plain; charset=utf-8", "full": "text/plain; charset=utf-8", "JSON": "text/plain; charset=utf-8",
		"json": "application/json", "json=0&full=": "application/json", "json&html": "text/html; charset=utf-8", "openmetrics&xml": "text/xml; charset=utf-8",
		"openmetrics": "application/openmetrics-text; version=1.0.0; charset=utf-8", "%zz&json": "application/json", "a;b&json": "application/json",
	} {
		if header, _ := answer(t, query, testPage("")); !strings.HasPrefix(header, "Content-Type: "+want+"\r\n") || !strings.Contains(header, "nosniff") {
			t.Errorf("%s: header is %q", query, header)
		}
	}
}

// FuzzPages: whatever a client has written, each format has the same structure, nothing
// that acts on a terminal or a browser, and can be read.
func FuzzPages(f *testing.F) {
	f.Add("")
	f.Add("<script>alert(1)</script>")
	f.Add("\"><img src=x onerror=alert(1)>&amp;'`")
	f.Add("x\nlisten queue:         4711\r\n************************\n")
	f.Add("\x1b[2J\u202e\u2028\x00\xff\xc0\x80]]>")
	f.Add("\"} 1\n# EOF\nphpfpm_up 0\\u0022,\"pid\":1")
	f.Fuzz(func(t *testing.T, s string) {
		plainPage, hostile := testPage("-"), testPage(s)
		for _, query := range []string{"full", "full&html", "full&xml", "full&json", "openmetrics"} {
			_, want := answer(t, query, plainPage)
			_, got := answer(t, query, hostile)
			if i := strings.IndexFunc(got, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); i >= 0 {
				t.Fatalf("%s: %q", query, got[i:])
			}
			if strings.Count(got, "\n") != strings.Count(want, "\n") || strings.Count(got, "<") != strings.Count(want, "<") && query != "full" {
				t.Errorf("%s: another structure: %q", query, got)
			}
			switch query {
			case "full":
				if names(got) != names(want) {
					t.Errorf("the names are %s", names(got))
				}
			case "full&json":
				wantJSON(t, got, s)
			case "full&xml":
				wantXML(t, got)
			case "full&html":
				if cells := regexp.MustCompile(`<td>([^<]*)</td>`).FindAllStringSubmatch(got, -1); len(cells) != 27 || html.UnescapeString(cells[14+7][1]) != shown(s) {
					t.Errorf("%d cells: %q", len(cells), cells)
				}
			}
		}
	})
}

// shown is what becomes of a text in HTML, XML and JSON.
func shown(s string) string {
	if s == "" {
		return "-"
	}
	return visible(s)
}

// names are those of the lines of a text.
func names(page string) string {
	var all []string
	for line := range strings.Lines(page) {
		if len(line) > 21 {
			line = line[:22]
		}
		all = append(all, strings.TrimSpace(line))
	}
	return strings.Join(all, "|")
}

func wantJSON(t *testing.T, got, s string) {
	t.Helper()
	var page struct {
		Processes []struct {
			PID int
			URI string `json:"request uri"`
		}
	}
	if err := json.Unmarshal([]byte(got), &page); err != nil || len(page.Processes) != 1 || page.Processes[0].PID != 71 || page.Processes[0].URI != shown(s) {
		t.Errorf("%v: %+v of %q", err, page, got)
	}
	if strings.ContainsAny(got, "<>&") {
		t.Errorf("markup in %q", got)
	}
}

func wantXML(t *testing.T, got string) {
	t.Helper()
	d, elements := xml.NewDecoder(bytes.NewReader([]byte(got))), 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v: %q", err, got)
		}
		if _, is := token.(xml.StartElement); is {
			elements++
		}
	}
	if elements != 1+14+1+1+13 {
		t.Errorf("%d elements in %q", elements, got)
	}
}

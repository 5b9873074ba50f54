//go:build apps

package apps

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fcgid/fcgid/e2e/harness"
)

// A browser has cookies and asks for pages of one site. The name that it gives to the
// site stays the same, whichever server it asks.
type browser struct {
	t       *testing.T
	base    string // where it asks
	host    string // of its Host field
	cookies map[string]string
}

func newBrowser(t *testing.T, base string) *browser {
	return &browser{t: t, base: base, host: strings.TrimPrefix(base, "http://"), cookies: make(map[string]string)}
}

// at is the same browser, which asks another server for the same site.
func (b *browser) at(base string) *browser {
	other := *b
	other.base = base
	other.cookies = make(map[string]string)
	for name, value := range b.cookies {
		other.cookies[name] = value
	}
	return &other
}

// A page is what has come of a request.
type page struct {
	status int
	header http.Header
	body   string
}

// String is for messages of a failed test.
func (p page) String() string {
	return fmt.Sprintf("%d, Location %q, %q", p.status, p.header.Get("Location"), harness.Tail(p.body, 600))
}

// send sends a request with the cookies, and keeps those of the answer. No redirect
// is followed.
func (b *browser) send(method, path, contentType string, body io.Reader) page {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.base+path, body)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Host = b.host
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for name, value := range b.cookies {
		req.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	client := http.Client{
		Timeout: 2 * time.Minute, Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatalf("%s %s: %v after %d bytes", method, req.URL, err, len(text))
	}
	for _, c := range res.Cookies() {
		if c.MaxAge < 0 || !c.Expires.IsZero() && c.Expires.Before(time.Now()) {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
	return page{res.StatusCode, res.Header, string(text)}
}

func (b *browser) get(path string) page {
	b.t.Helper()
	return b.send("GET", path, "", nil)
}

// post sends a form: name, value, name, value.
func (b *browser) post(path string, fields ...string) page {
	b.t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}
	return b.send("POST", path, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()))
}

// upload sends a form with a file in it: name, value, name, value.
func (b *browser) upload(path, field, fileName, fileType string, content []byte, fields ...string) page {
	b.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for i := 0; i+1 < len(fields); i += 2 {
		form.WriteField(fields[i], fields[i+1])
	}
	head := textproto.MIMEHeader{}
	head.Set("Content-Disposition", fmt.Sprintf(`form-data; name=%q; filename=%q`, field, fileName))
	head.Set("Content-Type", fileType)
	part, err := form.CreatePart(head)
	if err != nil {
		b.t.Fatal(err)
	}
	part.Write(content)
	form.Close()
	return b.send("POST", path, form.FormDataContentType(), &body)
}

// find is what the first group of a pattern matches in a page.
func (b *browser) find(p page, pattern string) string {
	b.t.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(p.body)
	if found == nil {
		b.t.Fatalf("no %s in %v", pattern, p)
	}
	return found[1]
}

// want sees to a page's status and to what it has in it.
func (b *browser) want(what string, p page, status int, has string) {
	b.t.Helper()
	if p.status != status || !strings.Contains(p.body, has) {
		b.t.Errorf("%s: got %v, want %d with %q", what, p, status, has)
	}
}

// same asks for pages here and, with the same cookies, at another server, and sees
// that it gets the same: status, type, Location, names of cookies, and the body but
// for what differs by its nature.
func (b *browser) same(other string, differs *regexp.Regexp, paths ...string) {
	b.t.Helper()
	for _, path := range paths {
		// The cookies of both are those from before.
		got, want := b.at(b.base).get(path), b.at(other).get(path)
		if got.status == want.status && got.refused() && want.refused() {
			continue
		}
		for _, field := range []string{"Content-Type", "Location", "Link", "Allow", "X-Powered-By"} {
			// A redirect of the web server's own names itself.
			g, w := strings.Join(got.header.Values(field), ", "), strings.ReplaceAll(strings.Join(want.header.Values(field), ", "), other, b.base)
			if g != w {
				b.t.Errorf("%s: %s is %q, want %q", path, field, g, w)
			}
		}
		if g, w := cookieNames(got), cookieNames(want); !slices.Equal(g, w) {
			b.t.Errorf("%s: Set-Cookie of %q, want %q", path, g, w)
		}
		g, w := got.body, want.body
		if differs != nil {
			g, w = differs.ReplaceAllString(g, "…"), differs.ReplaceAllString(w, "…")
		}
		if got.status != want.status || g != w {
			b.t.Errorf("%s: got %d, want %d; bodies of %d and %d bytes part at %s", path, got.status, want.status, len(g), len(w), parting(g, w))
		}
	}
}

// refused reports whether there is no page, in the words of fcgid, php-cgi or php-fpm.
func (p page) refused() bool {
	switch p.body {
	case "403 Forbidden\n", "Access denied.\n":
		return p.status == 403
	case "404 Not Found\n", "No input file specified.\n", "File not found.\n":
		return p.status == 404
	}
	return false
}

func cookieNames(p page) (names []string) {
	for _, c := range p.header.Values("Set-Cookie") {
		name, _, _ := strings.Cut(c, "=")
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// parting shows where two texts part.
func parting(a, b string) string {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	from := max(0, n-80)
	return fmt.Sprintf("%d: %q and %q", n, a[from:min(len(a), n+120)], b[from:min(len(b), n+120)])
}

package fcgi_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/wiretest"
)

func TestLookup(t *testing.T) {
	var r fcgi.Registry
	for _, name := range []string{"hello", "shop.orders", "/srv/whole", "a b", "grüße", "proxy:x", "q"} {
		r.HandleFunc(name, hello)
	}
	long := strings.Repeat("x", 1<<20)
	for _, tt := range []struct{ filename, name, want string }{
		{"hello", "", "hello"},
		{"/hello", "", "hello"},
		{"/srv/www/hello", "/other", "hello"},
		{"/srv/../etc/hello", "", "hello"},
		{"shop.orders", "", "shop.orders"},
		{"/srv/whole", "", "/srv/whole"},
		{"/x/srv/whole", "", ""},
		{"whole", "", ""},
		{"a b", "", "a b"},
		{"/grüße", "", "grüße"},
		{"proxy:fcgi://127.0.0.1:9000/hello", "", "hello"},
		{"proxy:fcgi://localhost/srv/www/hello", "", "hello"},
		{"proxy:fcgi://localhost//hello", "", "hello"},
		{"proxy:balancer://pool/hello", "", "hello"},
		{"proxy:balancer://pool/hello?a=b", "", "hello"},
		{"proxy:balancer://pool/hello?a=/q", "", "hello"},
		{"proxy:balancer://pool/other?a=/q", "", ""},
		{"proxy:fcgi://localhost/hello?a=/q", "", "hello"},
		{"proxy:fcgi://localhost/other?a=/q", "", ""},
		{"proxy:unix:/run/s|fcgi://localhost/other?/q", "", ""},
		{"proxy:fcgi://localhost/", "", ""},
		{"proxy:fcgi://hello", "", "hello"},
		{"", "/hello", "hello"},
		{"", "hello", "hello"},
		{"", "/app/hello", "hello"},
		{"/srv/none", "/hello", ""}, // SCRIPT_NAME is for when there is no other
		{"", "", ""},
		{"/", "/hello", ""},
		{"hello/", "", ""},
		{"/hello/", "", ""},
		{"/hello/more", "", ""},
		{"/hello/..", "", ""},
		{"/hello/.", "", ""},
		{"..", "", ""},
		{"HELLO", "", ""},
		{"hello\x00", "", ""},
		{"\x00/hello", "", "hello"},
		{"hello\n", "", ""},
		{"hello?x", "", ""},
		{"%68ello", "", ""},
		{`\hello`, "", ""},
		{long, "", ""},
		{long + "/hello", "", "hello"},
		{"os.Exit(1)", "", ""},
	} {
		var p fcgi.Params
		if tt.filename != "" || tt.name == "" {
			p.Add("SCRIPT_FILENAME", tt.filename)
		}
		if tt.name != "" {
			p.Add("SCRIPT_NAME", tt.name)
		}
		name, h, ok := r.Lookup(p)
		if name != tt.want || ok != (tt.want != "") || (h != nil) != ok {
			t.Errorf("SCRIPT_FILENAME %.80q, SCRIPT_NAME %q: got %q, %v; want %q", tt.filename, tt.name, name, ok, tt.want)
		}
	}
	if _, _, ok := r.Lookup(nil); ok {
		t.Error("no params: found one")
	}
}

func TestRegisterRefusesNonsense(t *testing.T) {
	var r fcgi.Registry
	r.HandleFunc("taken", hello)
	for _, name := range []string{
		"", "taken", "/", "a/", ".", "..", "a/..", "a/.", "a\x00b", "a\nb", "\x7f", "a\xffb", strings.Repeat("x", 256),
	} {
		if !panics(func() { r.HandleFunc(name, hello) }) {
			t.Errorf("%.20q is registered", name)
		}
	}
	if !panics(func() { r.HandleFunc("nil", nil) }) {
		t.Error("nil is registered")
	}
	r.HandleFunc(strings.Repeat("x", 255), hello)
	if got := r.Names(); !slices.Equal(got, []string{"taken", strings.Repeat("x", 255)}) {
		t.Errorf("names are %.100q", got)
	}
}

func panics(f func()) (did bool) {
	defer func() { did = recover() != nil }()
	f()
	return false
}

func TestEmptyRegistry(t *testing.T) {
	var r fcgi.Registry
	if names := r.Names(); len(names) != 0 {
		t.Errorf("names are %q", names)
	}
	if _, _, ok := r.Lookup(fcgi.Params{{Name: "SCRIPT_FILENAME", Value: "hello"}}); ok {
		t.Error("found one")
	}
}

func TestRegistryIsForManyGoroutines(t *testing.T) {
	var r fcgi.Registry
	var all sync.WaitGroup
	for _, name := range []string{"a", "b", "c", "d"} {
		all.Go(func() {
			r.HandleFunc(name, hello)
			r.Names()
			if _, _, ok := r.Lookup(fcgi.Params{{Name: "SCRIPT_NAME", Value: name}}); !ok {
				t.Errorf("%s is not found", name)
			}
		})
	}
	all.Wait()
	if got := r.Names(); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("names are %q", got)
	}
}

// At the wire: what is registered runs, nothing else does.
func TestRegistryServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r fcgi.Registry
		r.HandleFunc("greet", func(_ context.Context, req *fcgi.Request) (uint32, error) {
			_, err := io.WriteString(req.Stdout, plain+"hello "+req.Params.Get("QUERY_STRING"))
			return 7, err
		})
		w := serve(t, &fcgi.Server{Handler: &r}).dial()
		w.send(wiretest.Get(1, true, "SCRIPT_FILENAME", "/srv/greet", "QUERY_STRING", "you"))
		w.want(1, plain+"hello you", 7)
		w.send(wiretest.Get(1, true, "SCRIPT_FILENAME", "/srv/run"))
		w.wantPage(1, 404, 404)
		w.send(wiretest.Get(1, true))
		w.wantPage(1, 404, 404)
		r.Fallback = fcgi.HandlerFunc(echo)
		w.send(wiretest.Get(1, true, "SCRIPT_FILENAME", "/srv/run"))
		w.want(1, plain, 0)
		r.HandleFunc("run", hello) // while it serves
		w.send(wiretest.Get(1, true, "SCRIPT_FILENAME", "/srv/run"))
		w.want(1, helloAnswer, 0)
	})
}

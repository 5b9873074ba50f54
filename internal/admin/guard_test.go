package admin

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/fcgid/fcgid/internal/status"
)

// On TCP the server answers to its names only, since a browser may have been told
// that another one is ours.
func TestHosts(t *testing.T) {
	s, _ := newTestServer(t)
	s.changeTo(t, Settings{Address: "tcp:127.0.0.1:0", Hosts: []string{"Fcgid.example"}})
	defer http.DefaultClient.CloseIdleConnections()
	for host, want := range map[string]int{
		"127.0.0.1": 200, "127.0.0.1:9253": 200, "[::1]:9253": 200, "[2001:db8::1]": 200,
		"localhost": 200, "LOCALHOST:80": 200, "fcgid.example": 200, "fcgid.example:9253": 200, "FCGID.example.": 200,
		"attacker.example": 421, "attacker.example:9253": 421, "127.0.0.1.attacker.example": 421, "localhost.attacker.example": 421, "x": 421,
	} {
		paths := []string{"/", "/status", "/metrics", "/-/ready"}
		if want != http.StatusOK {
			paths = append(paths, "/events")
		}
		for _, path := range paths {
			req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.l.Addr().String()+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = host
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != want {
				t.Errorf("%s as %s: %d, want %d", path, host, res.StatusCode, want)
			}
		}
	}
}

// Query strings are for who may read the socket file, unless the configuration says
// otherwise, which a reload changes in place.
func TestQueryStringsAreHidden(t *testing.T) {
	s, d := newTestServer(t)
	tcp, unix := Settings{Address: "tcp:127.0.0.1:0"}, Settings{Address: "unix:" + filepath.Join(t.TempDir(), "s")}
	full := tcp
	full.FullURIs = true
	for _, c := range []struct {
		settings Settings
		want     string
	}{{tcp, "/a"}, {full, "/a?token=secret"}, {tcp, "/a"}, {unix, "/a?token=secret"}} {
		failure := status.Failure{URI: "/a?token=secret"}
		d.page.Pools = []status.Pool{{
			LastFailure: &failure,

			Requests: []status.Request{{URI: "/a?token=secret"}, {URI: "/b"}},
			Workers:  &status.Workers{List: []status.Worker{{Current: []status.CurrentRequest{{URI: "/a?token=secret"}}}}},
		}}
		d.page.LeavingRequests = []status.OpenRequest{{Request: status.Request{URI: "/a?token=secret"}}}
		s.changeTo(t, c.settings)
		addr := s.l.Addr()
		page, err := FetchStatus(t.Context(), addr.Network(), addr.String())
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := json.Marshal(page.Pools[0].Requests); page.Pools[0].Requests[0].URI != c.want || page.Pools[0].Requests[1].URI != "/b" {
			t.Errorf("%s: %s, want %s", c.settings.Address, got, c.want)
		}
		if got := page.LeavingRequests[0].URI; got != c.want {
			t.Errorf("%s: one that an older daemon has is %s, want %s", c.settings.Address, got, c.want)
		}
		if got := page.Pools[0].Workers.List[0].Current[0].URI; got != c.want {
			t.Errorf("%s: a worker has %s, want %s", c.settings.Address, got, c.want)
		}
		if got := page.Pools[0].LastFailure.URI; got != c.want || failure.URI != "/a?token=secret" {
			t.Errorf("%s: the last failure has %s, want %s; the pool's own has %s", c.settings.Address, got, c.want, failure.URI)
		}
	}
}

// Who is in no network of allow is not let in; a reload changes that while the address
// stays, and a reload that is dropped does not.
func TestAllow(t *testing.T) {
	s, _ := newTestServer(t)
	near, far := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for _, address := range []string{"tcp:127.0.0.1:0", "tcp:[::]:0"} { // to the latter we come as ::ffff:127.0.0.1
		for _, c := range []struct {
			allow []netip.Prefix
			want  bool
		}{{far, false}, {near, true}, {far, false}, {nil, true}} {
			settings := Settings{Address: address, Allow: c.allow}
			s.changeTo(t, settings)
			settings.Allow = near
			dropped, err := s.Listen(t.Context(), settings)
			if err != nil {
				t.Fatal(err)
			}
			dropped.Undo()
			port := netip.MustParseAddrPort(s.l.Addr().String()).Port()
			at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String()
			if got := isServed(t, "tcp", at); got != c.want {
				t.Errorf("%s, allow %v: served %v", address, c.allow, got)
			}
		}
	}
}

package listen

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
)

func prefixes(s ...string) (list []netip.Prefix) {
	for _, p := range s {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}

func TestAdmitAddr(t *testing.T) {
	tests := []struct {
		allow  []netip.Prefix
		client string
		want   bool
	}{
		{prefixes("10.0.0.0/8"), "10.255.0.1", true},
		{prefixes("10.0.0.0/8"), "11.0.0.1", false},
		{prefixes("2001:db8::1/128"), "2001:db8::1:0:1", false}, // CVE-2026-91768: all 16 bytes count
		{prefixes("2001:db8::1/128"), "2001:db8::2", false},
		{prefixes("10.0.0.0/8"), "::ffff:10.1.2.3", true},
		{prefixes("10.0.0.0/8"), "::ffff:11.1.2.3", false},
		{prefixes("::ffff:10.0.0.0/104"), "10.1.2.3", true},
		{prefixes("::ffff:10.0.0.0/104"), "::ffff:11.1.2.3", false},
		{prefixes("192.0.2.1/32", "2001:db8::/32"), "192.0.2.1", true},
		{prefixes("192.0.2.1/32", "2001:db8::/32"), "192.0.2.2", false},
		{prefixes("192.0.2.1/32", "2001:db8::/32"), "2001:db8:ffff::1", true},
		{prefixes("192.0.2.1/32", "2001:db8::/32"), "2001:db9::1", false},
		{prefixes("2001:db8::1/128"), "2001:db8::1", true},
		{prefixes("2001:db8::1/128"), "2001:db8::2", false},
		{prefixes("fe80::/10"), "fe80::1%lo", true},
		{prefixes("::/0"), "2001:db8::1", true},
		{prefixes("::/0"), "10.0.0.1", false},
		{prefixes("::/0"), "::ffff:10.0.0.1", false},
		{prefixes("0.0.0.0/0"), "10.0.0.1", true},
		{prefixes("0.0.0.0/0"), "::1", false},
		{prefixes("::a00:0/104"), "10.0.0.1", false},
	}
	for _, test := range tests {
		o := Options{Allow: test.allow}
		err := o.admitAddr(netip.MustParseAddr(test.client))
		if got := err == nil; got != test.want {
			t.Errorf("allow %v, client %s: %v", test.allow, test.client, err)
		}
	}
}

// A refusal is what OnRefused was told.
type refusal struct {
	client string
	reason error
}

// recordRefusals must be called before the first Accept.
func recordRefusals(l *Listener) <-chan refusal {
	refusals := make(chan refusal, 16)
	l.OnRefused = func(client string, reason error) { refusals <- refusal{client, reason} }
	return refusals
}

// wantClosed fails unless the peer of c closes it.
func wantClosed(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes from a refused connection", n)
	}
}

// An Accept refuses a client, goes on, and returns the first one that comes after
// Apply has let it in.
func testRefuseThenApply(t *testing.T, refuse, admit Options, wantClient, wantReason string) {
	checkNoFDLeak(t)
	l := mustOpen(t, refuse)
	refusals := recordRefusals(l)
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	for range 2 {
		client := dial(t, l)
		wantClosed(t, client)
		got := <-refusals
		if want := strings.ReplaceAll(wantClient, "LOCAL", client.LocalAddr().String()); got.client != want {
			t.Errorf("refused client %q, want %q", got.client, want)
		}
		wantError(t, got.reason, wantReason)
	}
	if err := l.Apply(admit); err != nil {
		t.Fatal(err)
	}
	client := dial(t, l)
	server := <-accepted
	if server == nil {
		t.FailNow()
	}
	if _, err := server.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if n, err := client.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
	server.Close()
	client.Close()
	l.Close()
	if len(refusals) > 0 {
		t.Errorf("refused as well: %v", <-refusals)
	}
}

func TestRefusedUser(t *testing.T) {
	uid := uint32(os.Getuid())
	for name, address := range map[string]string{"path": "unix:" + tempSocket(t), "abstract": abstractAddress(t)} {
		t.Run(name, func(t *testing.T) {
			testRefuseThenApply(t,
				Options{Address: address, Mode: 0o600, AllowUIDs: []uint32{uid + 1, uid + 2}},
				Options{Address: address, Mode: 0o600, AllowUIDs: []uint32{uid + 1, uid}},
				fmt.Sprintf("pid %d uid %d", os.Getpid(), uid), fmt.Sprintf("uid %d is not in allow_uids", uid))
		})
	}
}

func TestRefusedNetwork(t *testing.T) {
	// With no host the socket takes both families, if there are both: the client
	// comes as ::ffff:127.0.0.1 then.
	for name, address := range map[string]string{"v4": "tcp:127.0.0.1:0", "any": "tcp::0"} {
		t.Run(name, func(t *testing.T) {
			testRefuseThenApply(t,
				Options{Address: address, Allow: prefixes("10.0.0.0/8", "2001:db8::/32")},
				Options{Address: address, Allow: prefixes("10.0.0.0/8", "127.0.0.0/8", "::1/128")},
				"LOCAL", "is in no network of allow")
		})
	}
}

func TestRefusedWithoutHook(t *testing.T) {
	checkNoFDLeak(t)
	l := mustOpen(t, Options{Address: "tcp:127.0.0.1:0", Allow: prefixes("10.0.0.0/8")})
	done := serve(l)
	wantClosed(t, dial(t, l))
	l.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestRuleOfTheOtherFamilyIsAnError(t *testing.T) {
	checkNoFDLeak(t)
	path := tempSocket(t)
	wantOpenError(t, Options{Address: "unix:" + path, Allow: prefixes("10.0.0.0/8")}, "allow is for tcp")
	wantNoFile(t, path)
	o := Options{Address: "tcp:127.0.0.1:0", AllowUIDs: []uint32{0}}
	wantOpenError(t, o, "allow_uids is for unix sockets")

	l := mustOpen(t, Options{Address: o.Address})
	defer l.Close()
	wantError(t, l.Apply(o), "apply to tcp:127.0.0.1:0: allow_uids is for unix sockets")
}

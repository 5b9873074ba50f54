package spawn

import "testing"

// A hint is given where the sandbox can be the reason, and names the keys that it has.
func TestHint(t *testing.T) {
	strict := &Sandbox{Read: []string{"/srv"}, NoNewPrivs: true, LimitCapabilities: true, NoNetwork: true}
	const files = "the sandbox may have refused that: see sandbox.read and sandbox.write"
	for _, test := range []struct {
		box          *Sandbox
		stderr, want string
	}{
		{strict, "cat: /etc/shadow: Permission denied", files},
		{strict, "PHP Warning:  fopen(/x): Failed to open stream: Permission denied in /srv/a.php on line 1", files},
		{strict, "PermissionError: [Errno 13] Permission denied: '/x'", files},
		{strict, "Error: EACCES: permission denied, open '/x'", files},
		{strict, "mount: Operation not permitted", "the sandbox may have refused that: see sandbox.capabilities and sandbox.no_new_privs"},
		{strict, "socket: Address family not supported by protocol", "the sandbox may have refused that: see sandbox.network"},
		{strict, "curl: Temporary failure in name resolution", "the sandbox may have refused that: see sandbox.network"},
		{strict, "php_network_getaddresses: getaddrinfo for db failed", "the sandbox may have refused that: see sandbox.network"},
		{strict, "no such thing", ""},
		{&Sandbox{Write: []string{"/srv"}}, "Permission denied", "the sandbox may have refused that: see sandbox.write"},
		{&Sandbox{NoNetwork: true}, "Permission denied", ""},
		{&Sandbox{Read: []string{"/srv"}}, "Address family not supported by protocol", ""},
		{new(Sandbox), "Permission denied. Operation not permitted", ""},
		{nil, "Permission denied", ""},
	} {
		if got := test.box.Hint(test.stderr); got != test.want {
			t.Errorf("%q: got %q, want %q", test.stderr, got, test.want)
		}
	}
}

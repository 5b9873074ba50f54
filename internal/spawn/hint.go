package spawn

import "strings"

// denials are what programs say when the kernel has refused something, in small letters,
// and the keys of a sandbox that may be why. The words are those of strerror(3), which
// shells, Perl, PHP and Python all print.
var denials = []struct {
	says string
	keys func(*Sandbox) []string
}{
	{"permission denied", (*Sandbox).fileKeys},
	{"operation not permitted", (*Sandbox).rightsKeys},
	{"address family not supported", (*Sandbox).networkKeys},
	{"name resolution", (*Sandbox).networkKeys}, // of getaddrinfo(3), which gets the former
	{"getaddrinfo", (*Sandbox).networkKeys},
}

// Hint names the keys of the configuration that may be why a program has said this on its
// STDERR; "" is none. The sandbox may be nil.
func (s *Sandbox) Hint(stderr string) string {
	if s == nil {
		return ""
	}
	stderr = strings.ToLower(stderr)
	for _, d := range denials {
		if !strings.Contains(stderr, d.says) {
			continue
		}
		if keys := d.keys(s); len(keys) > 0 {
			return "the sandbox may have refused that: see " + strings.Join(keys, " and ")
		}
	}
	return ""
}

func (s *Sandbox) fileKeys() (keys []string) {
	if len(s.Read) > 0 {
		keys = append(keys, "sandbox.read")
	}
	if s.limitsFiles() {
		keys = append(keys, "sandbox.write")
	}
	return keys
}

func (s *Sandbox) rightsKeys() (keys []string) {
	if s.LimitCapabilities {
		keys = append(keys, "sandbox.capabilities")
	}
	if s.NoNewPrivs {
		keys = append(keys, "sandbox.no_new_privs")
	}
	return keys
}

func (s *Sandbox) networkKeys() (keys []string) {
	if s.NoNetwork {
		keys = append(keys, "sandbox.network")
	}
	return keys
}

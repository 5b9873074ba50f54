package spawn_test

import (
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/spawn"
)

// BenchmarkStart starts, hears and reaps a small static program, under each means.
func BenchmarkStart(b *testing.B) {
	program := smallProgram(b)
	files := append([]string{program}, system...)
	limits := []spawn.Rlimit{{Name: "nofile", Resource: unix.RLIMIT_NOFILE, Value: 1024}, {Name: "core", Resource: unix.RLIMIT_CORE}}
	for _, test := range []struct {
		name string
		s    *spawn.Sandbox
		id   *spawn.Identity
	}{
		{"plain", nil, nil},
		{"umask", &spawn.Sandbox{Umask: umask(0o022)}, nil},
		{"landlock", &spawn.Sandbox{NoNewPrivs: true, Read: files}, nil},
		{"seccomp", &spawn.Sandbox{NoNewPrivs: true, NoNetwork: true}, nil},
		{"rlimits", &spawn.Sandbox{Rlimits: limits}, nil},
		{"rlimits of another", &spawn.Sandbox{Rlimits: limits}, identity()},
		{"rlimits and landlock", &spawn.Sandbox{NoNewPrivs: true, Read: files, Rlimits: limits}, nil},
		{"all", &spawn.Sandbox{NoNewPrivs: true, LimitCapabilities: true, Read: files, Rlimits: limits, NoNetwork: true, PrivateTmp: true}, nil},
	} {
		b.Run(test.name, func(b *testing.B) {
			var l spawn.Local
			release, err := l.Hold(test.s, test.id)
			if err != nil {
				b.Skip(err)
			}
			defer release()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					cmd := &spawn.Command{Argv: []string{program}, Dir: "/", Sandbox: test.s, Identity: test.id}
					if err := spawn.Run(b.Context(), &l, cmd, io.Discard); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// smallProgram needs no library.
func smallProgram(b *testing.B) string {
	b.Helper()
	program := "/usr/local/fcgid-bench-hello" // not below /tmp, which may be private
	b.Cleanup(func() { os.Remove(program) })
	runnertest.Compile(b, program, `#include <stdio.h>
int main(void) { puts("hello"); return 0; }`)
	return program
}

package privsep

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/fcgid/fcgid/internal/runner/runnertest"
)

// BenchmarkScripts is a small static program for each request, by both implementations; the
// remote one has its spawner in the same process.
func BenchmarkScripts(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("only root starts programs as others")
	}
	dir := folder(b)
	program := filepath.Join(dir, "hello")
	runnertest.Compile(b, program, `#include <unistd.h>
int main(void) { return write(1, "Status: 200\n\n", 13) < 0; }`)
	for _, name := range []string{"local", "remote"} {
		b.Run(name, func(b *testing.B) {
			cfg := cgi(dir)
			cfg.Limits.MaxReqs = 64
			run := newSide(b, name == "remote").scripts(cfg)
			b.ReportAllocs()
			b.SetParallelism(4)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					c := newCall(program)
					c.Params = runnertest.NginxParams(program)
					if status, err := run.Run(b.Context(), &c.Request); status != 0 || err != nil {
						b.Error(status, err)
						return
					}
				}
			})
		})
	}
}

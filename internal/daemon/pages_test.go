package daemon

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestCleanMappings(t *testing.T) {
	smaps := `00400000-00b26000 r-xp 00000000 fe:00 1062                               /usr/bin/fcgid
Size:               7320 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
AnonHugePages:         0 kB
VmFlags: rd ex mr mw me sd
00b26000-01319000 r--p 00726000 fe:00 1062                               /usr/bin/fcgid
Anonymous:             4 kB
01319000-0138d000 rw-p 00f19000 fe:00 1062                               /usr/bin/fcgid
Anonymous:             0 kB
01400000-01500000 r--p 00f19000 fe:00 1062                               /usr/bin/fcgid
Anonymous:             0 kB
01500000-01600000 r--p 00000000 fe:00 7                                  /usr/lib/libc.so.6
Anonymous:             0 kB
7ffc0000-7ffd0000 r-xp 00000000 00:00 0                                  [vdso]
Anonymous:             0 kB
01700000-01800000 r--p 00000000 00:00 0
Anonymous:             0 kB
`
	want := pages{{0x400000, 0xb26000}, {0x1400000, 0x1500000}}
	if diff := cmp.Diff(want, pages(cleanMappings([]byte(smaps), "/usr/bin/fcgid")), cmp.AllowUnexported(mapping{})); diff != "" {
		t.Error(diff)
	}
	if got := cleanMappings([]byte(smaps), "/usr/bin/fcgid (deleted)"); got != nil {
		t.Errorf("of another file: %v", got)
	}
}

// What is forgotten is there again when it is needed.
func TestForgetPages(t *testing.T) {
	own := programPages()
	own.advise(unix.MADV_POPULATE_READ) // all of it is there
	before := fileMemory(t)
	own.forget()
	if after := fileMemory(t); after > before/2 {
		t.Errorf("%d KiB of files before, %d after", before, after)
	}
	if got := fmt.Sprintf("%v %x", map[string]int{"b": 2, "a": 1}, 255); got != "map[a:1 b:2] ff" {
		t.Error(got)
	}
}

// fileMemory is how much of files this process has mapped, in KiB.
func fileMemory(t *testing.T) (kib int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "RssFile:")
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}

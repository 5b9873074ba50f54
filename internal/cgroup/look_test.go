package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLook(t *testing.T) {
	for controllers, want := range map[string]string{
		"cpuset cpu io memory pids": "yes: memory, pids, cpu",
		"memory":                    "memory; not pids, cpu (in a unit: Delegate=yes)",
		"":                          "groups without limits: no controllers (in a unit: Delegate=yes)",
	} {
		dir := t.TempDir()
		write := func(name, text string) string {
			file := filepath.Join(dir, name)
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			return file
		}
		if err := os.Mkdir(dir+"/unit", 0o755); err != nil {
			t.Fatal(err)
		}
		write("unit/cgroup.type", "domain\n")
		write("unit/cgroup.controllers", controllers+"\n")
		from := places{
			cgroup: write("own", "0::/unit\n"), mounts: write("mounts", "26 30 0:22 / "+dir+" rw - cgroup2 cgroup2 rw\n"),
			systemd: dir + "/none", isDelegated: func(string) bool { return false },
		}
		if got := look(from); got != want {
			t.Errorf("controllers %q: %s, want %s", controllers, got, want)
		}
		from.systemd = dir
		if got := look(from); got != "no: cgroup /unit is systemd's (in a unit: Delegate=yes)" {
			t.Errorf("under systemd, not delegated: %s", got)
		}
	}
}

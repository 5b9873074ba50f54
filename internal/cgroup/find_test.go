package cgroup

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// startSleep starts a process that is not this program.
func startSleep(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd.Process.Pid
}

func TestFind(t *testing.T) {
	const v1 = "25 30 0:21 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n"
	const whole, part = v1 + "26 30 0:22 / MOUNT rw shared:4 - cgroup2 cgroup2 rw\n", "26 30 0:22 /pod MOUNT rw - cgroup2 none rw\n"
	for name, test := range map[string]struct {
		own, mounts string
		uid         int
		systemd     bool
		delegated   string // a folder below MOUNT
		base        string // likewise; "" is an error
		isRoot      bool
		err         string
	}{
		"v1":                    {own: "4:memory:/x\n", mounts: v1, err: "v1 only"},
		"not mounted":           {own: "0::/x\n", mounts: v1, err: "no cgroup v2 is mounted"},
		"root of all":           {own: "4:memory:/y\n0::/\n", mounts: whole, base: "/", isRoot: true},
		"a user's":              {own: "0::/user/a\n", mounts: whole, uid: 33, systemd: true, base: "/user/a"},
		"systemd's":             {own: "0::/user/a\n", mounts: whole, systemd: true, err: "is systemd's (in a unit: Delegate=yes)"},
		"delegated to root":     {own: "0::/user/a\n", mounts: whole, systemd: true, delegated: "/user/a", base: "/user/a"},
		"DelegateSubgroup":      {own: "0::/user/a\n", mounts: whole, systemd: true, delegated: "/user", base: "/user"},
		"root without systemd":  {own: "0::/user/a\n", mounts: whole, base: "/user/a"},
		"moved":                 {own: "0::/user/" + daemonName + "\n", mounts: whole, systemd: true, base: "/user"},
		"container":             {own: "0::/pod/user\n", mounts: part, base: "/user"},
		"container, outside":    {own: "0::/other\n", mounts: part, err: "outside of what is mounted"},
		"outside the namespace": {own: "0::/../other\n", mounts: whole, err: "outside of what is mounted"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			mount := filepath.Join(dir, "a mount")
			for _, group := range []string{"/user/a", "/user/" + daemonName} {
				if err := os.MkdirAll(mount+group, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			write := func(name, text string) string {
				file := filepath.Join(dir, name)
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				return file
			}
			write("a mount/user/cgroup.type", "domain\n")
			write("a mount/user/a/cgroup.type", "domain\n")
			from := places{
				cgroup: write("own", test.own), systemd: dir + "/none", uid: test.uid,
				mounts:      write("mounts", strings.ReplaceAll(test.mounts, "MOUNT", strings.ReplaceAll(mount, " ", `\040`))),
				isDelegated: func(folder string) bool { return test.delegated != "" && folder == mount+test.delegated },
			}
			if test.systemd {
				from.systemd = dir
			}
			at, err := find(from)
			switch {
			case test.err != "":
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error is %v, want %q", err, test.err)
				}
			case err != nil:
				t.Error(err)
			case filepath.Clean(at.base) != filepath.Join(mount, test.base) || at.isRoot != test.isRoot:
				t.Errorf("found %+v, want %s", at, test.base)
			}
		})
	}
}

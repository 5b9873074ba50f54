package cgi

import "testing"

func TestExitText(t *testing.T) {
	for status, want := range map[uint32]string{
		0: "exit status 0", 4: "exit status 4", 127: "exit status 127", 128: "exit status 128",
		137: "killed by SIGKILL (out of memory?)", 139: "killed by SIGSEGV", 141: "killed by SIGPIPE",
		255: "exit status 255", 500: "exit status 500",
	} {
		if got := ExitText(status); got != want {
			t.Errorf("of %d: %q, want %q", status, got, want)
		}
	}
}

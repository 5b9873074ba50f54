package harness

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// Alive reports whether a process runs; a zombie does not.
func Alive(pid int) bool {
	state, _ := ProcState(pid)
	return state != "" && state != "Z" && state != "X"
}

// ProcState is a process' state and parent, "" when there is none.
func ProcState(pid int) (state string, parent int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	_, rest, _ := strings.Cut(string(b[bytes.LastIndexByte(b, ')'):]), " ")
	f := strings.Fields(rest)
	parent, _ = strconv.Atoi(f[1])
	return f[0], parent
}

// AwaitGone waits until none of the processes runs.
func AwaitGone(t testing.TB, pids []int) {
	t.Helper()
	for _, pid := range pids {
		Await(t, fmt.Sprintf("process %d of %v to end", pid, pids), func() bool { return !Alive(pid) })
	}
}

// AwaitPID waits for a file that a program writes its pid to.
func AwaitPID(t testing.TB, file string) (pid int) {
	t.Helper()
	Await(t, "a pid in "+file, func() bool {
		text, _ := os.ReadFile(file)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return pid > 0
	})
	return pid
}

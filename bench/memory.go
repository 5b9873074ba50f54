package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// proportionalSize is what a process and all its descendants hold in memory, in MiB: a page
// that several processes share is counted once, in parts (PSS of proc_pid_smaps(5)).
func proportionalSize(root int) (float64, error) {
	var total float64
	for _, s := range tree(root) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", s.pid))
		if s.pid != root && (errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH)) {
			continue // it has ended
		}
		if err != nil {
			return 0, err
		}
		n, err := sizeIn(string(text), "Pss:")
		if err != nil {
			return 0, fmt.Errorf("smaps_rollup of %s: %w", s.name, err)
		}
		total += n / 1024
	}
	return total, nil
}

// sizeIn is the size in KiB of a line of that name.
func sizeIn(text, name string) (float64, error) {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == name && f[2] == "kB" {
			return strconv.ParseFloat(f[1], 64)
		}
	}
	return 0, fmt.Errorf("there is no %s", name)
}

package daemon

import (
	"bufio"
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// pages are those of this process's own program: the mappings of its file that can be read
// from there again.
type pages []mapping

// programPages looks for them.
func programPages() pages {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return nil
	}
	return cleanMappings(smaps, program)
}

// forget has the kernel forget that this process has looked at pages of its own program: of
// the start, of libraries for other commands and of what lay beside them, since the kernel maps
// sixteen pages for one. They stay in its cache, and what is needed is mapped again when it is;
// without it more than half of an idle daemon's memory is code that never runs again.
func (p pages) forget() { p.advise(unix.MADV_DONTNEED) }

// advise tells the kernel something of them.
func (p pages) advise(advice uintptr) {
	for _, m := range p {
		unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, advice)
	}
}

// A mapping is a part of the address space.
type mapping struct{ start, end uintptr }

// cleanMappings are those of a file that cannot be written and have nothing that is not
// in the file, such as what the loader of a dynamically linked program writes: that
// would be lost. The text is that of /proc/PID/smaps, see proc_pid_smaps(5).
func cleanMappings(smaps []byte, file string) (clean []mapping) {
	var now mapping
	isOurs := false
	lines := bufio.NewScanner(bytes.NewReader(smaps))
	for lines.Scan() {
		fields := bytes.Fields(lines.Bytes())
		switch {
		case len(fields) >= 5 && bytes.Contains(fields[0], []byte("-")): // its first line
			now = mapping{}
			fmt.Sscanf(string(fields[0]), "%x-%x", &now.start, &now.end)
			isOurs = len(fields) == 6 && string(fields[5]) == file && fields[1][1] == '-'
		case isOurs && len(fields) == 3 && string(fields[0]) == "Anonymous:" && string(fields[1]) == "0" && now.end > now.start:
			clean = append(clean, now)
		}
	}
	return clean
}

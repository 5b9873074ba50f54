package config

import (
	"fmt"
	"io/fs"
	"math"
	"strconv"
)

// Sandbox is what a pool's programs may have and do. A pool of functions has none.
//
// Paths of Read and Write are those of the programs: they lie in Chroot. One after "-" need
// not exist.
type Sandbox struct {
	Owner  bool `mapstructure:"owner"   default:"false"` // process: run as the script's owner
	MinUID int  `mapstructure:"min_uid" default:"1000"`  // of Owner's users and groups, from 1

	Preset       string       `mapstructure:"preset" reload:"workers"`                        // strict, whose keys are filled in; "" is none
	Required     bool         `mapstructure:"required"      default:"false" reload:"workers"` // what the machine lacks is a refusal, not a warning
	Umask        fs.FileMode  `mapstructure:"umask"         default:"0022" reload:"workers"`
	Nice         int32        `mapstructure:"nice"          default:"0" reload:"workers"`     // -20 to 19, added to the daemon's
	OOMScoreAdj  int32        `mapstructure:"oom_score_adj" default:"0" reload:"workers"`     // -1000 to 1000; 0 is the daemon's
	NoNewPrivs   bool         `mapstructure:"no_new_privs"  default:"false" reload:"workers"` // set-user-ID programs get nothing by that
	Capabilities []Capability `mapstructure:"capabilities" reload:"workers"`                  // that are kept, or none alone; empty: as they are
	Rlimits      []Rlimit     `mapstructure:"rlimits" reload:"workers"`                       // a name appears once
	Chroot       string       `mapstructure:"chroot" reload:"workers"`                        // absolute; "" is no other root
	Read         []string     `mapstructure:"read" reload:"workers"`                          // what may be read and executed; empty: all
	Write        []string     `mapstructure:"write" reload:"workers"`                         // what may be written; empty: all, without Read nothing
	Network      bool         `mapstructure:"network"       default:"true" reload:"workers"`  // false: no sockets but Unix sockets with a file
	PrivateTmp   bool         `mapstructure:"private_tmp"   default:"false" reload:"workers"` // a /tmp and a /var/tmp of the pool's own

	Cgroup        string  `mapstructure:"cgroup"         default:"auto"` // auto, off or required
	Memory        int64   `mapstructure:"memory"         default:"0"`    // of the pool, from 1 MiB; 0 is no limit, as in the next three
	MemoryRequest int64   `mapstructure:"memory_request" default:"0"`    // of a program with what it starts, from 1 MiB
	Pids          int     `mapstructure:"pids"           default:"0"`    // processes and threads of a program
	CPU           float64 `mapstructure:"cpu"            default:"0"`    // processors of the pool, from 0.01
}

// IsLimited reports whether there is something that only a cgroup can bound.
func (s *Sandbox) IsLimited() bool {
	return s.Memory > 0 || s.MemoryRequest > 0 || s.Pids > 0 || s.CPU > 0
}

// isGiven reports whether anything is not as by default.
func (s *Sandbox) isGiven() bool { return s.IsLimited() || s.Cgroup != "auto" || s.IsConfined() }

const (
	maxPids = 1 << 22 // of the kernel: PID_MAX_LIMIT
	minCPU  = 0.01    // of the kernel: a millisecond in a tenth of a second
	maxCPU  = 1 << 13 // of the kernel: NR_CPUS
)

func (r *report) sandbox(key string, s *Sandbox) {
	r.confinement(key, s)
	r.oneOf(key+".cgroup", s.Cgroup, "auto", "off", "required")
	for name, n := range map[string]int64{".memory": s.Memory, ".memory_request": s.MemoryRequest} {
		if n != 0 && n < minMemory {
			r.add(key+name, "must be at least %s, or 0 for no limit", formatSize(minMemory))
		}
	}
	r.count(key+".pids", s.Pids, 0, maxPids)
	if s.CPU != 0 && !(s.CPU >= minCPU && s.CPU <= maxCPU) { // NaN too
		r.add(key+".cpu", "must be from %v to %v processors, or 0 for no limit", minCPU, maxCPU)
	}
	if s.Memory > 0 && s.MemoryRequest > s.Memory {
		r.add(key+".memory_request", "%s is never reached: memory, which is %s at %s, is less",
			formatSize(s.MemoryRequest), formatSize(s.Memory), r.find(key+".memory"))
	}
	if s.Cgroup == "off" && s.IsLimited() {
		r.add(key+".cgroup", "memory, memory_request, pids and cpu are limits of a cgroup: write auto or required")
	}
}

func parseNumber(text string) (float64, error) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(n, 0) || math.IsNaN(n) || n < 0 {
		return 0, fmt.Errorf("must be a number from 0, for example 0.5, not %q", text)
	}
	return n, nil
}

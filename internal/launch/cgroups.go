package launch

import (
	"errors"
	"strings"

	"github.com/fcgid/fcgid/internal/cgroup"
	"github.com/fcgid/fcgid/internal/config"
)

// CgroupLimits are what a configuration says of a pool's cgroup.
func CgroupLimits(s *config.Sandbox) cgroup.Limits {
	return cgroup.Limits{
		Memory: s.Memory, MemoryRequest: s.MemoryRequest, Pids: s.Pids, CPU: s.CPU, Required: RequiredBy(s) != "",
	}
}

// RequiredBy is the key that refuses what lacks a limit, "" if none does.
func RequiredBy(s *config.Sandbox) string {
	switch {
	case s.Cgroup == "required":
		return "sandbox.cgroup is required"
	case s.Required && s.IsLimited():
		return "sandbox.required"
	}
	return ""
}

// UsesCgroup reports whether a pool is to have one.
func UsesCgroup(cfg *config.Pool) bool { return cfg.StartsPrograms() && cfg.Sandbox.Cgroup != "off" }

// UnmetError tells of limits in one line, those with the same reason together.
func UnmetError(unmet []cgroup.Unmet) error {
	var all []error
	keys := make(map[string][]string)
	for _, u := range unmet {
		why := u.Why.Error()
		if keys[why] == nil {
			all = append(all, u.Why)
		}
		keys[why] = append(keys[why], "sandbox."+u.Key)
	}
	var texts []string
	for _, why := range all {
		texts = append(texts, strings.Join(keys[why.Error()], ", ")+": "+why.Error())
	}
	if len(texts) == 0 {
		return nil
	}
	return errors.New(strings.Join(texts, "; "))
}

package cgroup

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Look says in words what of cgroups a process like this one can use, where it is. It
// changes nothing, so it cannot tell whether others in the same group are in the way.
func Look() string { return look(realPlaces) }

func look(from places) string {
	at, has, lacks, err := controllers(from)
	switch {
	case err != nil:
		return "no: " + err.Error()
	case len(has) == 0:
		return "groups without limits: no controllers (" + at.remedy() + ")"
	case len(lacks) > 0:
		return strings.Join(has, ", ") + "; not " + strings.Join(lacks, ", ") + " (" + at.remedy() + ")"
	}
	return "yes: " + strings.Join(has, ", ")
}

// controllers are those of the place, as far as Controllers has them.
func controllers(from places) (at *place, has, lacks []string, err error) {
	if at, err = find(from); err != nil {
		return nil, nil, nil, err
	}
	if err = unix.Access(at.base, unix.W_OK); err != nil {
		return nil, nil, nil, explain(at, err)
	}
	there := strings.Fields(kernel{}.text(at.base + "/cgroup.controllers"))
	for _, c := range Controllers {
		if slices.Contains(there, c) {
			has = append(has, c)
		} else {
			lacks = append(lacks, c)
		}
	}
	return at, has, lacks, nil
}

// LookFor is why a process like this one cannot have those limits, where it is. It changes nothing,
// and so cannot tell all. BySystemd is that systemd runs, which may give a unit what is not here.
func LookFor(l *Limits) (bySystemd bool, err error) {
	at, _, lacks, err := controllers(realPlaces)
	bySystemd = isThere(realPlaces.systemd)
	if err != nil {
		return bySystemd, err
	}
	needs := map[string]bool{"memory": l.Memory > 0 || l.MemoryRequest > 0, "pids": l.Pids > 0, "cpu": l.CPU > 0}
	for _, c := range lacks {
		if needs[c] {
			return bySystemd, fmt.Errorf("cgroup %s does not have the controller %s (%s)", at.name, c, at.remedy())
		}
	}
	return bySystemd, nil
}

package cgroup

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Look says in words what of cgroups a process like this one can use, where it is. It
// changes nothing, so it cannot tell whether others in the same group are in the way.
func Look() string { return look(realPlaces) }

func look(from places) string {
	at, err := find(from)
	if err == nil {
		if err = unix.Access(at.base, unix.W_OK); err != nil {
			err = explain(at, err)
		}
	}
	if err != nil {
		return "no: " + err.Error()
	}
	var has, lacks []string
	there := strings.Fields(kernel{}.text(at.base + "/cgroup.controllers"))
	for _, c := range Controllers {
		if slices.Contains(there, c) {
			has = append(has, c)
		} else {
			lacks = append(lacks, c)
		}
	}
	switch {
	case len(has) == 0:
		return "groups without limits: no controllers (" + at.remedy() + ")"
	case len(lacks) > 0:
		return strings.Join(has, ", ") + "; not " + strings.Join(lacks, ", ") + " (" + at.remedy() + ")"
	}
	return "yes: " + strings.Join(has, ", ")
}

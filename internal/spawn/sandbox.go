package spawn

import (
	"strconv"
	"strings"
)

// An Identity is who a program runs as. To be somebody else takes root's rights.
type Identity struct {
	UID, GID uint32
	Groups   []uint32 // supplementary ones, and no others
}

// A Sandbox is what a program, and all that it starts, cannot undo. It is a plain value;
// the zero one changes nothing. What a kernel or an account cannot do is an error of Start
// that names the key: programs do not run with less than was asked for.
type Sandbox struct {
	// Name says whose it is. Programs under sandboxes of other names share nothing.
	Name string

	Umask       *uint32 // nil: ours
	Nice        int     // is added to ours
	OOMScoreAdj int     // 0: ours
	NoNewPrivs  bool    // set-user-ID, set-group-ID and file capabilities mean nothing
}

// isInherited reports whether the sandbox has what a thread gives to its children.
func (s *Sandbox) isInherited() bool { return s.Umask != nil || s.NoNewPrivs }

// key tells sandboxes apart whose threads must not be the same.
func (s *Sandbox) key() string {
	var k strings.Builder
	word := func(text string) {
		k.WriteString(text)
		k.WriteByte(0)
	}
	word(s.Name)
	if s.Umask != nil {
		word("umask " + strconv.FormatUint(uint64(*s.Umask), 8))
	}
	word("no_new_privs " + strconv.FormatBool(s.NoNewPrivs))
	return k.String()
}

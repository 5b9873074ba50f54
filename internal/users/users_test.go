package users

import (
	"errors"
	"os/user"
	"slices"
	"testing"
)

func TestFind(t *testing.T) {
	for _, name := range []string{"root", "0", "00"} {
		u, err := Find(name)
		if err != nil || u.Name != "root" || u.UID != 0 || u.GID != 0 {
			t.Errorf("%s is %+v, %v", name, u, err)
			continue
		}
		if groups, err := u.Groups(); err != nil || !slices.Contains(groups, 0) {
			t.Errorf("%s is in the groups %v, %v", name, groups, err)
		}
	}
	var noName user.UnknownUserError
	for _, name := range []string{"", "nosuch", "+0", "-1", "0x0", "4294967296"} {
		if u, err := Find(name); !errors.As(err, &noName) {
			t.Errorf("%q is %+v, %v", name, u, err)
		}
	}
	var noNumber user.UnknownUserIdError
	if u, err := Find("4000000123"); !errors.As(err, &noNumber) {
		t.Errorf("nobody's number is %+v, %v", u, err)
	}
}

func TestNameOf(t *testing.T) {
	for uid, want := range map[uint32]string{0: "root", 4000000123: "4000000123"} {
		if got := NameOf(uid); got != want {
			t.Errorf("%d is %q", uid, got)
		}
	}
}

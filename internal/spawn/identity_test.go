package spawn

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// With another user's rights nothing can be read that is not that user's to read, and only
// for as long as the look takes.
func TestLook(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can look as somebody else")
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(secret, 0, 64001); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(secret); dir != "/"; dir = filepath.Dir(dir) {
		if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.X_OK, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Dir(secret), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(filepath.Dir(secret)), 0o755); err != nil {
		t.Fatal(err)
	}
	read := func() error {
		_, err := os.ReadFile(secret)
		return err
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				stranger := &Identity{UID: 64002, GID: 64002}
				if err := stranger.Look(read); !errors.Is(err, fs.ErrPermission) {
					t.Errorf("a stranger: %v", err)
				}
				member := &Identity{UID: 64002, GID: 64002, Groups: []uint32{64001}}
				if err := member.Look(read); err != nil {
					t.Errorf("who is in its group: %v", err)
				}
				for _, us := range []*Identity{nil, {}} {
					if err := us.Look(read); err != nil {
						t.Errorf("we: %v", err)
					}
				}
				if err := read(); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			}
		})
	}
	all.Wait()
	other := errors.New("other")
	if err := (&Identity{UID: 64002}).Look(func() error { return other }); err != other {
		t.Errorf("Look returned %v", err)
	}
}

// What is made with an identity's name and our rights is the identity's, wherever it is made.
func TestMake(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make files of somebody else")
	}
	dir := t.TempDir()
	id := &Identity{UID: 64002, GID: 64003}
	write := func(name string) func() error {
		return func() error { return os.WriteFile(filepath.Join(dir, name), nil, 0o600) }
	}
	if err := id.Look(write("looked")); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("who only looks has written in a folder of root's: %v", err)
	}
	if err := id.Make(write("made")); err != nil {
		t.Error(err)
	}
	if err := write("ours")(); err != nil {
		t.Error(err)
	}
	for name, want := range map[string][2]uint32{"made": {64002, 64003}, "ours": {}} {
		var stat unix.Stat_t
		if err := unix.Stat(filepath.Join(dir, name), &stat); err != nil || stat.Uid != want[0] || stat.Gid != want[1] {
			t.Errorf("%s is of %d:%d, %v", name, stat.Uid, stat.Gid, err)
		}
	}
	if err := id.Look(write("again")); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("the rights of Make are those of Look afterwards: %v", err)
	}
}

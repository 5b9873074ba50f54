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

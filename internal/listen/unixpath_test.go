package listen

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func setUmask(t *testing.T, mask int) {
	old := unix.Umask(mask)
	t.Cleanup(func() { unix.Umask(old) })
}

func lstat(t *testing.T, path string) fs.FileInfo {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func wantMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	if got := lstat(t, path).Mode(); got != want|fs.ModeSocket {
		t.Errorf("%s is %v, want %v", path, got, want|fs.ModeSocket)
	}
}

func wantNoFile(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("lstat %s: %v, want no file", path, err)
	}
}

// leaveStale leaves a socket at path that nobody listens on.
func leaveStale(t *testing.T, path string) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	lstat(t, path)
}

func TestStaleSocketIsReplaced(t *testing.T) {
	checkNoFDLeak(t)
	path := tempSocket(t)
	leaveStale(t, path)
	l := mustOpen(t, Options{Address: "unix:" + path, Mode: 0o600})
	dial(t, l)
	accept(t, l)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	wantNoFile(t, path)
}

func TestLiveSocketIsRefused(t *testing.T) {
	checkNoFDLeak(t)
	path := tempSocket(t)
	live := mustOpen(t, Options{Address: "unix:" + path, Mode: 0o600})
	defer live.Close()
	wantOpenError(t, Options{Address: "unix:" + path}, "unix:"+path+": address in use: another process answers on it")
	accept(t, live) // the question
	dial(t, live)
	accept(t, live)
}

// fillBacklog connects until the kernel takes no more and returns how many it took.
func fillBacklog(t *testing.T, l net.Listener) int {
	t.Helper()
	for n := 0; ; n++ {
		c, err := tryDial(l)
		if errors.Is(err, unix.EAGAIN) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
}

func TestLiveSocketWithFullBacklogIsRefused(t *testing.T) {
	checkNoFDLeak(t)
	path := tempSocket(t)
	live := mustOpen(t, Options{Address: "unix:" + path, Mode: 0o600, Backlog: 1})
	defer live.Close()
	n := fillBacklog(t, live)
	wantOpenError(t, Options{Address: "unix:" + path}, "address in use: another process answers on it")
	for range n {
		accept(t, live)
	}
}

// A datagram socket refuses a stream client with EPROTOTYPE, but is alive.
func TestSocketOfAnotherTypeIsRefused(t *testing.T) {
	checkNoFDLeak(t)
	path := tempSocket(t)
	datagram, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer datagram.Close()
	wantOpenError(t, Options{Address: "unix:" + path}, "address in use: connect: protocol wrong type")
	lstat(t, path)
}

func TestWhatIsNoSocketIsLeftAlone(t *testing.T) {
	checkNoFDLeak(t)
	stale := tempSocket(t)
	leaveStale(t, stale)
	tests := map[string]func(path string) error{
		"file":             func(path string) error { return os.WriteFile(path, []byte("kept"), 0o644) },
		"folder":           func(path string) error { return os.Mkdir(path, 0o755) },
		"link to a socket": func(path string) error { return os.Symlink(stale, path) },
		"dangling link":    func(path string) error { return os.Symlink("nosuch", path) },
		"fifo":             func(path string) error { return unix.Mkfifo(path, 0o600) },
	}
	for name, create := range tests {
		t.Run(name, func(t *testing.T) {
			path := tempSocket(t)
			if err := create(path); err != nil {
				t.Fatal(err)
			}
			before := lstat(t, path)
			wantOpenError(t, Options{Address: "unix:" + path}, path+" exists and is no socket")
			after := lstat(t, path)
			if !os.SameFile(before, after) || before.Mode() != after.Mode() || before.Size() != after.Size() {
				t.Errorf("changed from %v to %v", before, after)
			}
		})
	}
	lstat(t, stale)
}

func TestModeIsExactAndNeverWider(t *testing.T) {
	checkNoFDLeak(t)
	for _, mask := range []int{0, 0o022, 0o077, 0o777} {
		for _, mode := range []fs.FileMode{0, 0o600, 0o660, 0o666, 0o700, 0o777, 0o060} {
			t.Run(strconv.FormatInt(int64(mask), 8)+"/"+mode.String(), func(t *testing.T) {
				path := tempSocket(t)
				setUmask(t, mask)
				fd, err := bindUnix(path, Local{}.firstMode(path, mode), alone)
				if err != nil {
					t.Fatal(err)
				}
				wantMode(t, path, mode&0o700&^fs.FileMode(mask))
				file, err := findSocket(path)
				if err == nil {
					err = file.setPermissions(mode, Owner{-1, -1})
				}
				if err != nil {
					t.Error(err)
				}
				wantMode(t, path, mode)
				file.remove()
				unix.Close(fd)

				l := mustOpen(t, Options{Address: "unix:" + path, Mode: mode})
				wantMode(t, path, mode)
				l.Close()
			})
		}
	}
}

// Where the thread makes files as they are to be, there is no moment before.
func TestModeIsFinalAtOnce(t *testing.T) {
	path := tempSocket(t)
	b := Local{Owner: &Owner{os.Geteuid(), os.Getegid()}}
	if got := b.firstMode(path, 0o664); got != 0o664 {
		t.Errorf("made with mode %04o", got)
	}
	setUmask(t, 0)
	l, err := OpenBy(t.Context(), b, Options{Address: "unix:" + path, Mode: 0o664, Owner: "nosuch", Group: "nosuch"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	wantMode(t, path, 0o664)
	if uid, gid := owners(t, path); uid != b.Owner.UID || gid != b.Owner.GID {
		t.Errorf("it is of %d:%d", uid, gid)
	}
	if err := os.Chmod(filepath.Dir(path), 0o700|fs.ModeSetgid); err != nil { // whose group the file has then, at first
		t.Fatal(err)
	}
	if got := b.firstMode(path, 0o664); got != 0o600 {
		t.Errorf("in a folder that gives files its group, made with mode %04o", got)
	}
}

// otherID is an id that chown can give a file to: any other for root, else the own.
func otherID(own int) int {
	if os.Geteuid() == 0 {
		return 65534
	}
	return own
}

func owners(t *testing.T, path string) (uid, gid int) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return int(st.Uid), int(st.Gid)
}

func TestOwnerAndGroup(t *testing.T) {
	checkNoFDLeak(t)
	path := tempSocket(t)
	uid, gid := otherID(os.Getuid()), otherID(os.Getgid())
	o := Options{Address: "unix:" + path, Mode: 0o660, Group: strconv.Itoa(gid)}
	l := mustOpen(t, o)
	defer l.Close()
	if u, g := owners(t, path); u != os.Geteuid() || g != gid {
		t.Errorf("owner %d:%d after Open, want %d:%d", u, g, os.Geteuid(), gid)
	}
	wantMode(t, path, 0o660)

	o.Owner, o.Group = strconv.Itoa(uid), ""
	if err := l.Apply(o); err != nil {
		t.Fatal(err)
	}
	if u, g := owners(t, path); u != uid || g != gid {
		t.Errorf("owner %d:%d after Apply, want %d:%d", u, g, uid, gid)
	}
	wantMode(t, path, 0o660)
}

func TestOwnerByName(t *testing.T) {
	if o, err := LookupOwner("root", "root"); o != (Owner{}) || err != nil {
		t.Errorf("root:root is %v, %v", o, err)
	}
	for _, bad := range []string{"nosuch", "-1", "4294967295", "4294967296", "1.5"} {
		_, err := LookupOwner(bad, "")
		wantError(t, err, `owner "`+bad+`": `)
		_, err = LookupOwner("", bad)
		wantError(t, err, `group "`+bad+`": `)
	}
}

func TestFailedOpenLeavesNoSocket(t *testing.T) {
	checkNoFDLeak(t)
	path := tempSocket(t)
	wantOpenError(t, Options{Address: "unix:" + path, Owner: "nosuch"}, `owner "nosuch": `)
	wantNoFile(t, path)
	wantOpenError(t, Options{Address: "unix:" + path, Group: "nosuch"}, `group "nosuch": `)
	wantNoFile(t, path)
}

// withoutChown runs f on a thread that may not give files away, and ends the thread.
func withoutChown(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&header, &data[0]); err != nil {
			t.Error(err)
			return
		}
		data[0].Effective &^= 1 << unix.CAP_CHOWN
		if err := unix.Capset(&header, &data[0]); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

func TestRefusedChownChangesNothing(t *testing.T) {
	checkNoFDLeak(t)
	path := tempSocket(t)
	o := Options{Address: "unix:" + path, Mode: 0o660}
	stranger := o
	stranger.Mode, stranger.Owner = 0o606, strconv.Itoa(os.Getuid()+1)
	withoutChown(t, func() {
		l, err := Open(context.Background(), stranger)
		wantError(t, err, "listen unix:"+path+": chown ", "operation not permitted")
		if l != nil {
			l.Close()
		}
	})
	wantNoFile(t, path)

	l := mustOpen(t, o)
	defer l.Close()
	withoutChown(t, func() {
		wantError(t, l.Apply(stranger), "apply to unix:"+path+": chown ", "operation not permitted")
	})
	wantMode(t, path, 0o660)
	if l.Options().Mode != 0o660 {
		t.Error("options of a failed Apply hold")
	}
}

func TestCloseUnlinksOnlyItsOwnFile(t *testing.T) {
	checkNoFDLeak(t)
	tests := map[string]func(t *testing.T, path string){
		"gone": func(*testing.T, string) {},
		"file": func(t *testing.T, path string) {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"another's socket": func(t *testing.T, path string) {
			mustOpen(t, Options{Address: "unix:" + path, Mode: 0o600})
		},
	}
	for name, replace := range tests {
		t.Run(name, func(t *testing.T) {
			path := tempSocket(t)
			l := mustOpen(t, Options{Address: "unix:" + path, Mode: 0o600})
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			replace(t, path)
			before, beforeErr := os.Lstat(path)

			o := l.Options()
			o.Mode = 0o666
			wantError(t, l.Apply(o), "apply to unix:"+path)

			if err := l.Close(); err != nil {
				t.Error(err)
			}
			after, afterErr := os.Lstat(path)
			if (beforeErr == nil) != (afterErr == nil) {
				t.Fatalf("%v before Close, %v after", beforeErr, afterErr)
			}
			if beforeErr == nil && (!os.SameFile(before, after) || before.Mode() != after.Mode()) {
				t.Errorf("%v became %v", before, after)
			}
		})
	}
}

package privsep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
)

// tableOf are addresses as the table of a daemon of daemonUser's has them.
func tableOf(all ...config.Listen) (table []Listen) {
	c := &config.Config{RunsAs: asUser(daemonUser)}
	for _, l := range all {
		table = append(table, newListen(c, l))
	}
	return table
}

// newSockets returns listeners with a table, and a daemon's Binder of them.
func newSockets(t *testing.T, table ...config.Listen) (*listeners, *Binder) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root makes files of others")
	}
	sockets, err := newListeners()
	runnertest.Must(t, err)
	commit, _ := sockets.prepare(tableOf(table...))
	commit()
	ours, fd, err := NewPair()
	runnertest.Must(t, err)
	theirs, err := NewConn(fd)
	runnertest.Must(t, err)
	ours.MaxFDs, theirs.MaxFDs = 1, programFDs
	client := NewClient(ours)
	var running sync.WaitGroup
	running.Go(func() { Serve(theirs, sockets.handle) })
	running.Go(func() { client.Run() })
	t.Cleanup(func() {
		ours.Close()
		running.Wait()
		close(sockets.turns)
	})
	return sockets, &Binder{client}
}

func optionsOf(l config.Listen) listen.Options {
	return listen.Options{Address: l.Address, Mode: l.Mode, Owner: l.Owner, Group: l.Group}
}

// Both Binders do the same, but for whose a file is that the configuration gives to nobody.
func TestBinders(t *testing.T) {
	dir := folder(t)
	path := filepath.Join(dir, "s")
	first := config.Listen{Address: "unix:" + path, Mode: 0o640, Owner: "64201", Group: "64202"}
	second := first
	second.Mode, second.Owner = 0o606, "64203"
	_, remote := newSockets(t, first, second)
	for name, by := range map[string]listen.Binder{"local": listen.Local{}, "remote": remote} {
		t.Run(name, func(t *testing.T) {
			stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
			runnertest.Must(t, err)
			stale.SetUnlinkOnClose(false)
			stale.Close()
			l, err := listen.OpenBy(t.Context(), by, optionsOf(first))
			runnertest.Must(t, err)
			runnertest.WantFile(t, path, "140640 64201:64202")
			if l.IsLost() || !l.IsAt(first.Address) {
				t.Error("it is not found")
			}
			if _, err := listen.OpenBy(t.Context(), by, optionsOf(first)); !errors.Is(err, listen.ErrInUse) || !strings.Contains(err.Error(), "another process answers on it") {
				t.Errorf("the address of one that listens: %v", err)
			}
			runnertest.Must(t, l.Apply(optionsOf(second)))
			runnertest.WantFile(t, path, "140606 64203:64202")
			runnertest.Must(t, l.Drain())
			runnertest.WantFile(t, path, runnertest.NoFile)
			runnertest.Must(t, l.Close())

			for what, create := range map[string]func() error{
				"file": func() error { return os.WriteFile(path, nil, 0o600) },
				"link": func() error { return os.Symlink("/run/other.sock", path) },
			} {
				runnertest.Must(t, create())
				before := runnertest.DescribeFile(path)
				if _, err := listen.OpenBy(t.Context(), by, optionsOf(first)); err == nil || !strings.Contains(err.Error(), path+" exists and is no socket") {
					t.Errorf("a %s has the place: %v", what, err)
				}
				runnertest.WantFile(t, path, before)
				runnertest.Must(t, os.Remove(path))
			}
		})
	}
}

// A file never has another mode, owner or group than those that it is to have.
func TestFilesAreMadeAsTheyAreToBe(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	l := config.Listen{Address: "unix:" + path, Mode: 0o666, Owner: "64201", Group: "64202"}
	_, by := newSockets(t, l)
	ctx, stop := context.WithCancel(t.Context())
	seen := make(map[string]int)
	var watching sync.WaitGroup
	watching.Go(func() {
		for ctx.Err() == nil {
			seen[runnertest.DescribeFile(path)]++
		}
	})
	for range 100 {
		s, err := listen.OpenBy(t.Context(), by, optionsOf(l))
		runnertest.Must(t, err)
		runnertest.Must(t, s.Close())
	}
	stop()
	watching.Wait()
	delete(seen, runnertest.NoFile)
	if delete(seen, "140666 64201:64202"); len(seen) > 0 {
		t.Errorf("it was seen as %v", seen)
	}
}

// TCP is bound by the spawner as well, beside what is about to leave, and drained.
func TestBindTCP(t *testing.T) {
	port := freeTCP(t)
	any := config.Listen{Address: "tcp:0.0.0.0:" + port}
	one := config.Listen{Address: "tcp:localhost:" + port}
	abstract := config.Listen{Address: "unix:@fcgid-test-" + port}
	_, by := newSockets(t, any, one, abstract)
	wild, err := listen.OpenBy(t.Context(), by, optionsOf(any))
	runnertest.Must(t, err)
	if _, err := listen.OpenBy(t.Context(), by, optionsOf(one)); !errors.Is(err, listen.ErrInUse) {
		t.Errorf("an address that is in use: %v", err)
	}
	l, err := listen.OpenBy(t.Context(), by, optionsOf(one), wild)
	runnertest.Must(t, err)
	defer l.Close()
	for _, l := range []*listen.Listener{wild, l} {
		runnertest.Must(t, l.Drain())
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after Drain: %v", err)
		}
		runnertest.Must(t, l.Close())
	}
	name, err := listen.OpenBy(t.Context(), by, optionsOf(abstract))
	runnertest.Must(t, err)
	runnertest.Must(t, name.Close())
}

func freeTCP(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	runnertest.Must(t, err)
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// In a folder that others than root can change, the rights of the socket's owner count alone.
func TestFoldersOfOthers(t *testing.T) {
	dir := folder(t)
	theirs, roots := filepath.Join(dir, "theirs"), filepath.Join(dir, "roots")
	for _, path := range []string{theirs, roots} {
		runnertest.Must(t, os.Mkdir(path, 0o755))
	}
	runnertest.Must(t, os.Chown(theirs, poolUser, poolUser))
	own := config.Listen{Address: "unix:" + theirs + "/own", Mode: 0o600, Owner: strconv.Itoa(poolUser)}
	foreign := config.Listen{Address: "unix:" + theirs + "/foreign", Mode: 0o600}
	led := config.Listen{Address: "unix:" + theirs + "/link/s", Mode: 0o600, Owner: strconv.Itoa(poolUser)}
	runnertest.Must(t, os.Symlink(roots, theirs+"/link"))
	_, by := newSockets(t, own, foreign, led)

	l, err := listen.OpenBy(t.Context(), by, optionsOf(own))
	runnertest.Must(t, err)
	runnertest.WantFile(t, theirs+"/own", fmt.Sprintf("140600 %d:%d", poolUser, daemonUser))
	runnertest.Must(t, l.Close())
	runnertest.WantFile(t, theirs+"/own", runnertest.NoFile)

	_, err = listen.OpenBy(t.Context(), by, optionsOf(foreign))
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "others than root can change this folder") {
		t.Errorf("who may not write there: %v", err)
	}
	if _, err = listen.OpenBy(t.Context(), by, optionsOf(led)); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a link to a folder of root's: %v", err)
	}

	// What its owner exchanges meanwhile is not removed.
	l, err = listen.OpenBy(t.Context(), by, optionsOf(own))
	runnertest.Must(t, err)
	runnertest.Must(t, os.Rename(theirs+"/own", theirs+"/kept"))
	other, err := net.Listen("unix", theirs+"/own")
	runnertest.Must(t, err)
	defer other.Close()
	before := runnertest.DescribeFile(theirs + "/own")
	if !l.IsLost() {
		t.Error("another socket has its name, and it is not lost")
	}
	runnertest.Must(t, l.Close())
	runnertest.WantFile(t, theirs+"/own", before)
}

// The files of sockets that another process has made are known from it, and no others.
func TestAdoptedFiles(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	l := config.Listen{Address: "unix:" + path, Mode: 0o600}
	before, by := newSockets(t, l)
	s, err := listen.OpenBy(t.Context(), by, optionsOf(l))
	runnertest.Must(t, err)
	defer s.Close()
	made := before.files()
	if len(made) != 1 || made[0].Path != path {
		t.Fatalf("made: %+v", made)
	}
	after, by := newSockets(t, l)
	if err := by.Remove(&made[0].File); err == nil || !strings.Contains(err.Error(), "was not made by this process") {
		t.Errorf("remove what another one has made: %v", err)
	}
	after.recover([]listen.File{{Path: "/elsewhere", Dev: 1, Ino: 1}})
	if files := after.files(); len(files) != 0 {
		t.Errorf("it has recovered %+v", files)
	}
	t.Setenv("RUNTIME_DIRECTORY", "/run")
	of := listen.File{Path: "/run/of-the-file-before", Dev: 1, Ino: 1}
	after.recover([]listen.File{of, {Path: "/run/elsewhere/s", Dev: 1, Ino: 2}})
	if files := after.files(); len(files) != 1 || files[0].File != of {
		t.Errorf("of the unit's folder it has recovered %+v", files)
	}
	after.forget([]string{of.Path})
	t.Setenv("RUNTIME_DIRECTORY", "")
	for name, take := range map[string]func(){
		"adopt":   func() { after.adopt(made) },
		"recover": func() { after.recover([]listen.File{made[0].File}) },
	} {
		take()
		if files := after.files(); !slices.EqualFunc(files, made, func(a, b Made) bool { return a.File == b.File }) {
			t.Errorf("%s: it has %+v, want %+v", name, files, made)
		}
	}
	runnertest.Must(t, by.Remove(&made[0].File))
	runnertest.WantFile(t, path, runnertest.NoFile)
}

// What the daemon before had systemd keep is its word: a name for the file of a socket that it has
// bound by any path. None of that leads to another file than a socket, or out of the folder.
func TestRecoveredFilesOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files to others")
	}
	dir := folder(t)
	unit, theirs, roots := filepath.Join(dir, "unit"), filepath.Join(dir, "unit/daemon"), filepath.Join(dir, "roots")
	for _, path := range []string{unit, theirs, roots, roots + "/in"} {
		runnertest.Must(t, os.Mkdir(path, 0o755))
	}
	runnertest.Must(t, os.Chown(theirs, daemonUser, daemonUser))
	runnertest.Must(t, os.Symlink(roots+"/in", theirs+"/l"))
	t.Setenv("RUNTIME_DIRECTORY", unit)
	table := []config.Listen{{Address: "unix:" + theirs + "/l/s", Mode: 0o600}, {Address: "unix:" + roots + "/s", Mode: 0o600}}
	after, by := newSockets(t, table...)
	const word = "not a socket"
	for name, victim := range map[string]string{
		"by a link and dots":   theirs + "/l/../../passwd",
		"a file of the unit":   unit + "/passwd",
		"by a link":            theirs + "/l/s",
		"a file of the table":  roots + "/s",
		"the daemon's own":     theirs + "/passwd",
		"out of the folder":    unit + "/../roots/passwd",
		"dots that lead back":  unit + "/daemon/l/../../unit/passwd",
		"a path of no folder":  "passwd",
		"the folder as a file": unit + "/daemon",
	} {
		isFolder := victim == theirs
		if !isFolder {
			runnertest.Must(t, os.WriteFile(victim, []byte(word), 0o600))
		}
		file, err := listen.Local{}.Find(victim)
		runnertest.Must(t, err)
		after.recover([]listen.File{*file})
		by.Remove(file) // refused, or nothing to do
		after.removeAll()
		if text, err := os.ReadFile(victim); !isFolder && (err != nil || string(text) != word) || isFolder && errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %s is %q, %v", name, victim, text, err)
		}
		after.forget([]string{filepath.Clean(victim)})
		if !isFolder {
			os.Remove(victim)
		}
	}

	// What somebody has put into a folder of theirs is given to nobody, whoever has made it.
	moved := filepath.Join(theirs, "s")
	other, err := net.Listen("unix", moved)
	runnertest.Must(t, err)
	defer other.Close()
	runnertest.Must(t, os.Chmod(moved, 0o600)) // root's
	entry := config.Listen{Address: "unix:" + moved, Mode: 0o666}
	sockets, binder := newSockets(t, entry)
	claimed, err := listen.Local{}.Find(moved)
	runnertest.Must(t, err)
	sockets.recover([]listen.File{*claimed})
	o := optionsOf(entry)
	if err := binder.Permit(&o, claimed); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("permit: %v", err)
	}
	runnertest.WantFile(t, moved, "140600 0:0")

	// By a folder that has become another's since the table was made, nothing is removed with root's rights.
	s, err := net.Listen("unix", roots+"/s")
	runnertest.Must(t, err)
	defer s.Close()
	runnertest.Must(t, os.Chown(roots, daemonUser, daemonUser))
	file, err := listen.Local{}.Find(roots + "/s")
	runnertest.Must(t, err)
	after.recover([]listen.File{*file})
	if err := by.Remove(file); err == nil {
		t.Error("a socket in a folder of the daemon's is removed by root")
	}
	runnertest.WantFile(t, roots+"/s", runnertest.DescribeFile(roots+"/s"))
	if _, err := os.Lstat(roots + "/s"); err != nil {
		t.Error(err)
	}
}

// FuzzListen has the spawner asked whatever there may be about listeners. There is none.
func FuzzListen(f *testing.F) {
	for what := range uint64(listenQuestions + 1) {
		q := listenQuestion{what: what, Options: listen.Options{Address: "unix:/x", Mode: 0o660, Group: "g"}, file: listen.File{Path: "/x", Dev: 1, Ino: 2}}
		f.Add(q.append(nil), int(what/listenDropNew))
	}
	sockets, err := newListeners()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { close(sockets.turns) })
	f.Fuzz(func(t *testing.T, body []byte, n int) {
		m := &Message{Kind: KindListen, ID: 1, Body: body}
		for range min(max(n, 0), 3) {
			if null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
				m.FDs = append(m.FDs, null)
			}
		}
		defer m.Close()
		answer, err := sockets.handle(m)
		var ref *Refusal
		if answer != nil || err == nil || !errors.As(err, &ref) && !errors.Is(err, ErrBroken) {
			t.Fatalf("%v, %v", answer, err)
		}
		listenErrorOf(&Refusal{body})
	})
}

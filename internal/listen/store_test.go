package listen

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A keeper is systemd's store of a test.
type keeper struct {
	t     *testing.T
	files map[string]*os.File
	conn  *net.UnixConn
	path  string
}

func newKeeper(t *testing.T) *keeper {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{t: t, files: make(map[string]*os.File), conn: conn, path: path}
	t.Cleanup(func() {
		conn.Close()
		for _, file := range k.files {
			file.Close()
		}
	})
	return k
}

// send is Store.Send.
func (k *keeper) send(message string, fd int) error { return SendTo(k.path, message, fd) }

// take does what so many messages say.
func (k *keeper) take(n int) {
	k.t.Helper()
	for range n {
		text, rights := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
		k.conn.SetReadDeadline(time.Now().Add(time.Minute))
		n, m, _, _, err := k.conn.ReadMsgUnix(text, rights)
		if err != nil {
			k.t.Fatal(err)
		}
		_, name, _ := strings.Cut(string(text[:n]), "FDNAME=")
		if strings.HasPrefix(string(text[:n]), "FDSTOREREMOVE=1\n") {
			k.files[name].Close()
			delete(k.files, name)
			continue
		}
		messages, err := unix.ParseSocketControlMessage(rights[:m])
		if err != nil || len(messages) != 1 {
			k.t.Fatalf("%q: %v", text[:n], err)
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil {
			k.t.Fatal(err)
		}
		k.files[name] = os.NewFile(uintptr(fds[0]), name)
	}
}

func (k *keeper) stored() map[string][]*os.File {
	stored := make(map[string][]*os.File)
	for name, file := range k.files {
		stored[name] = []*os.File{file}
	}
	return stored
}

// What systemd keeps is what the next process opens, with what waits; the rest is removed.
func TestStore(t *testing.T) {
	inheriting(t, func() {
		k, dir, port := newKeeper(t), t.TempDir(), freePort(t)
		store := &Store{Send: k.send, Most: 4}
		var all []*Listener
		addresses := []string{"unix:" + dir + "/a", "unix:" + dir + "/b", "tcp:127.0.0.1:" + port, "unix:" + dir + "/replaced"}
		for _, address := range addresses {
			l, err := Open(context.Background(), Options{Address: address, Mode: 0o600})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, l)
		}
		if err := store.Keep(append(all, nil)); err != nil {
			t.Fatal(err)
		}
		k.take(4)
		if err := store.Keep(all); err != nil { // nothing to say
			t.Fatal(err)
		}
		early := mustDial(t, "unix", dir+"/a")
		for _, l := range all {
			l.Leave()
			if err := l.Drain(); err != nil {
				t.Error(err)
			}
		}
		if c, err := all[0].Accept(); err != nil {
			t.Errorf("what waited before: %v", err)
		} else {
			c.Close()
		}
		early.Close()
		mustDial(t, "unix", dir+"/a")
		mustDial(t, "tcp", "127.0.0.1:"+port)
		if c, err := all[0].Accept(); err == nil {
			t.Error("it takes what came after the drain")
			c.Close()
		}
		for _, l := range all {
			l.Close()
		}
		os.Remove(dir + "/replaced")
		other, err := Open(context.Background(), Options{Address: "unix:" + dir + "/replaced", Mode: 0o600})
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()

		recoverStored(k.stored())
		if names := inheritance.stored; len(names) != 4 {
			t.Errorf("names %v", names)
		}
		var now []*Listener
		for _, address := range []string{addresses[0], addresses[2]} {
			l, err := Open(context.Background(), Options{Address: address, Mode: 0o640})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			accepts(t, l)
			now = append(now, l)
		}
		if err := DropRest(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(dir + "/b"); err == nil {
			t.Error("the file of a socket that nobody wants is left")
		}
		if _, err := os.Lstat(dir + "/replaced"); err != nil {
			t.Errorf("the file of another socket: %v", err)
		}
		store.Names = inheritance.stored
		k.files = map[string]*os.File{store.Names[0]: os.Stdin, store.Names[1]: os.Stdin, store.Names[2]: os.Stdin, store.Names[3]: os.Stdin}
		if err := store.Keep(now); err != nil {
			t.Fatal(err)
		}
		k.take(2)
		if len(store.Names) != 2 || slices.ContainsFunc(now, func(l *Listener) bool { return k.files[l.StoreName()] == nil }) {
			t.Errorf("stored: %v", store.Names)
		}
	})
}

func mustDial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// No more is sent than systemd keeps, and who has asked is told what is not kept. A socket
// that goes makes room for one.
func TestStoreIsFull(t *testing.T) {
	k, dir := newKeeper(t), t.TempDir()
	store := &Store{Send: k.send, Most: 2}
	var all []*Listener
	for _, name := range []string{"a", "b", "c", "d"} {
		l, err := Open(t.Context(), Options{Address: "unix:" + dir + "/" + name, Mode: 0o600})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		all = append(all, l)
	}
	if err := store.Keep(all[:1]); err != nil {
		t.Fatal(err)
	}
	k.take(1)
	err := store.Keep([]*Listener{nil, all[1], all[2], all[3], all[0], all[1]})
	if !errors.Is(err, ErrNoRoom) || !strings.HasSuffix(err.Error(), ": not kept: unix:"+dir+"/c unix:"+dir+"/d") {
		t.Errorf("%v", err)
	}
	k.take(1)
	want := []string{all[0].StoreName(), all[1].StoreName()}
	if !slices.Equal(store.Names, want) || k.files[want[0]] == nil || k.files[want[1]] == nil {
		t.Errorf("stored: %v, want %v", store.Names, want)
	}
	if err := store.Keep(all[1:3]); err != nil {
		t.Errorf("when there is room: %v", err)
	}
	k.take(2)
	want = []string{all[1].StoreName(), all[2].StoreName()}
	if !slices.Equal(store.Names, want) || len(k.files) != 2 || k.files[want[1]] == nil {
		t.Errorf("stored: %v, want %v", store.Names, want)
	}
	// What is sent beyond that would be the next message.
	if err := store.Send("FDSTOREREMOVE=1\nFDNAME="+want[1], -1); err != nil {
		t.Fatal(err)
	}
	if k.take(1); len(k.files) != 1 {
		t.Errorf("more was sent than there is room for: %v", k.files)
	}
}

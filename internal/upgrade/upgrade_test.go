package upgrade

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/spawn"
)

// partVariable has the test's program be the new daemon, and says how that behaves.
const partVariable = "FCGID_TEST_UPGRADE"

func TestMain(m *testing.M) {
	if part := os.Getenv(partVariable); part != "" {
		if err := newDaemon(part); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// newDaemon is the new daemon of the tests. What it has to say beside the protocol it answers to
// connections.
func newDaemon(part string) error {
	p, err := Inherit()
	if err != nil || p == nil {
		return fmt.Errorf("inherit: %v, %w", p, err)
	}
	switch part {
	case "exits":
		return errors.New("it exits")
	case "hangs":
		<-p.Gone()
		return ErrGone
	case "refuses":
		p.Fail(nil, []string{"f:1: wrong", "f:2: worse"})
		<-p.Gone()
		return ErrGone
	case "fails":
		p.Fail(errors.New("it cannot"), nil)
		<-p.Gone()
		return ErrGone
	}
	l, err := listen.Open(context.Background(), listen.Options{Address: p.Hello.Sockets[0].Address, Mode: 0o600})
	if err != nil {
		return err
	}
	defer l.Disown() // its file is the test's
	if err := p.Prepared(); err != nil {
		return err
	}
	if part == "dies" {
		<-p.Begun()
		return errors.New("it dies")
	}
	select {
	case <-p.Begun():
	case <-p.Gone():
		return ErrGone
	}
	if part == "leaves" {
		p.Fail(errors.New("stopped by a signal"), nil)
		<-p.Gone()
		return ErrGone
	}
	listen.Begin()
	if part == "stalls" {
		signal.Ignore(unix.SIGTERM)
		p.Prepared() // which is not what is waited for
		<-p.Gone()
		return errors.Join(errors.New("it drains"), l.Drain())
	}
	p.Serving()
	<-p.Yours()
	go p.Connections(func(place int, conn net.Conn) bool {
		fmt.Fprintf(conn, "place %d", place)
		conn.Close()
		return true
	})
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		counted, isThere := p.Metrics()
		fmt.Fprintf(c, "%s %v, requests %s from %d, killed %s", counted, isThere, p.Requests(), p.Serial(), p.Kill([]byte("2")))
		c.Close()
		if !isThere {
			return nil
		}
		p.Hurry()
	}
}

// old is the old daemon of a test.
type old struct {
	t    *testing.T
	by   spawn.Local
	l    *listen.Listener
	path string

	child *spawn.Successor // after start
}

func newOld(t *testing.T, part string) *old {
	t.Helper()
	t.Setenv(partVariable, part)
	o := &old{t: t, path: filepath.Join(t.TempDir(), "s")}
	var err error
	if o.l, err = listen.Open(t.Context(), listen.Options{Address: "unix:" + o.path, Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.l.Close() })
	return o
}

func (o *old) start() *Successor {
	o.t.Helper()
	h, fd, err := o.l.Hand()
	if err != nil {
		o.t.Fatal(err)
	}
	defer unix.Close(fd)
	s, err := Start(o.t.Context(), func(files []int) (Process, int, error) {
		o.child, err = o.by.StartSuccessor(os.Args[0], files)
		return o.child, o.child.PID, err
	}, Hello{Sockets: []listen.Handed{h}}, []int{fd})
	if err != nil {
		o.t.Fatal(err)
	}
	return s
}

// read is what a client is told that has a connection.
func read(t *testing.T, c net.Conn) string {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	b := make([]byte, 100)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func (o *old) dial() net.Conn {
	o.t.Helper()
	c, err := net.Dial("unix", o.path)
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { c.Close() })
	return c
}

// A new daemon that is not ready has ended when that is told, and the old one has why.
func TestSuccessorIsNotReady(t *testing.T) {
	for part, want := range map[string]string{
		"exits": "the new daemon has ended before it was ready: exit status 3", "refuses": "f:1: wrong\nf:2: worse",
		"fails": "it cannot", "hangs": "too late",
	} {
		t.Run(part, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			if part == "hangs" {
				cancel(errors.New("too late"))
			}
			o := newOld(t, part)
			s := o.start()
			_, err := s.Prepared(ctx)
			if err == nil || err.Error() != want {
				t.Errorf("%v, want %s", err, want)
			}
			if faults := (Faulty)(nil); errors.As(err, &faults) != (part == "refuses") {
				t.Errorf("%T", err)
			}
			if unix.Kill(s.PID, 0) != unix.ESRCH {
				t.Error("it is left")
			}
		})
	}
}

// One that dies when it is its turn leaves the old one what that has.
func TestSuccessorDies(t *testing.T) {
	o := newOld(t, "dies")
	s := o.start()
	if _, err := s.Prepared(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Begin(4711); err == nil || !strings.Contains(err.Error(), "has ended before it was ready") {
		t.Errorf("%v", err)
	}
	o.dial()
	c, err := o.l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// One that will not begin although it was ready, since it was stopped meanwhile, says why.
func TestSuccessorFailsToBegin(t *testing.T) {
	o := newOld(t, "leaves")
	s := o.start()
	if _, err := s.Prepared(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Begin(4711); err == nil || err.Error() != "stopped by a signal" {
		t.Errorf("%v", err)
	}
}

// One that was to begin and does not say that it has, is not left the time to take the
// sockets for its own: those of the old one are as they were.
func TestSuccessorStalls(t *testing.T) {
	o := newOld(t, "stalls")
	s := o.start()
	if _, err := s.Prepared(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Begin(4711); err == nil || !strings.Contains(err.Error(), `"serving" was expected`) {
		t.Errorf("%v", err)
	}
	if unix.Kill(s.PID, 0) != unix.ESRCH {
		t.Error("it is left")
	}
	if o.l.IsLost() {
		t.Fatal("the file of the old one's socket is gone")
	}
	o.dial()
	c, err := o.l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// The whole way: the sockets, what the old one has counted, connections, and its end.
func TestUpgrade(t *testing.T) {
	o := newOld(t, "serves")
	s := o.start()
	waiting := o.dial()
	taken, err := s.Prepared(t.Context())
	if err != nil || len(taken) != 1 || taken[0] != 0 {
		t.Fatalf("%v, %v", taken, err)
	}
	if err := s.Begin(4711); err != nil {
		t.Fatal(err)
	}
	hurried := make(chan struct{}, 10)
	s.Follow(Answers{
		Metrics:  func() []byte { return []byte(`[7]`) },
		Requests: func() []byte { return []byte(`["one","two"]`) },
		Kill:     func(asked []byte) []byte { return append([]byte(`[1,`), append(asked, ']')...) },
		Hurry:    func() { hurried <- struct{}{} },
	})
	if got := read(t, waiting); got != `[7] true, requests ["one","two"] from 4711, killed [1,2]` {
		t.Errorf("who has waited is told %q", got)
	}
	<-hurried

	ours, theirs, err := spawn.NewPair(unix.SOCK_STREAM)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	given, err := spawn.ConnOf(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if !s.Give(5, given) {
		t.Error("it takes no connection")
	}
	given.Close()
	if got := read(t, ours); got != "place 5" {
		t.Errorf("on a connection that was given: %q", got)
	}
	if pipe, _ := net.Pipe(); s.Give(0, pipe) {
		t.Error("a pipe was given")
	}

	s.End([]byte(`[9]`))
	if got := read(t, o.dial()); got != "[9] false, requests  from 4711, killed " {
		t.Errorf("after the end of the old one: %q", got)
	}
	<-s.Gone()
	<-o.child.Exited()
	if how := s.process.Discard(false); how != "exit status 0" {
		t.Errorf("it ends with %s", how)
	}
}

// What comes without a descriptor, since there was no room for one, and what nobody takes is lost.
func TestConnectionsAreLost(t *testing.T) {
	ours, theirs, err := spawn.NewPair(unix.SOCK_SEQPACKET)
	if err != nil {
		t.Fatal(err)
	}
	conns, err := spawn.ConnOf(theirs)
	if err != nil {
		t.Fatal(err)
	}
	s, p := &Successor{conns: ours}, &Predecessor{conns: conns}
	for place := range 3 {
		if !s.Give(place, conns) {
			t.Fatal("a connection was not given")
		}
	}
	if _, err := ours.Write(make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	ours.Close()
	var places []int
	lost := p.Connections(func(place int, conn net.Conn) bool {
		conn.Close()
		places = append(places, place)
		return place != 1
	})
	if lost != 2 || fmt.Sprint(places) != "[0 1 2]" {
		t.Errorf("%d are lost, and %v came", lost, places)
	}
}

// Whoever is started with the variable, but not by who has set it, takes nobody's place.
func TestInheritNothing(t *testing.T) {
	for _, value := range []string{"", "1", "0 5", fmt.Sprintf("%d x", os.Getppid())} {
		t.Setenv("FCGID_UPGRADE", value)
		if p, err := Inherit(); p != nil || err != nil {
			t.Errorf("%q: %v, %v", value, p, err)
		}
	}
}

// The program is the one that is called, if that is a link too, and not what the link leads to.
func TestSelf(t *testing.T) {
	called := os.Args[0]
	defer func() { os.Args[0] = called }()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(exe, link); err != nil {
		t.Fatal(err)
	}
	for arg, want := range map[string]string{link: link, "/bin/sh": exe, "no such program": exe, "": exe} {
		os.Args[0] = arg
		if got, err := Self(); got != want || err != nil {
			t.Errorf("called %q: %q, %v, want %q", arg, got, err, want)
		}
	}
}

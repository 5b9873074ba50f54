package privsep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/polltest"
)

// newConns are the two ends of a session.
func newConns(t *testing.T) (a, b *Conn) {
	t.Helper()
	a, fd, err := NewPair()
	if err != nil {
		t.Fatal(err)
	}
	b, err = NewConn(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	a.MaxFDs, b.MaxFDs = 100, 100
	return a, b
}

// openFDs is n descriptors.
func openFDs(t *testing.T, n int) (fds []int) {
	t.Helper()
	for range n {
		fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		fds = append(fds, fd)
	}
	return fds
}

func inode(t *testing.T, fd int) uint64 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Ino
}

func TestMessagesArriveWhole(t *testing.T) {
	for _, size := range []int{0, 1, maxPart - 1, maxPart, maxPart + 1, 3 * maxPart, maxBody} {
		for _, n := range []int{0, 1, maxPartFDs, maxPartFDs + 1, 100} {
			t.Run(fmt.Sprintf("%d bytes, %d descriptors", size, n), func(t *testing.T) {
				a, b := newConns(t)
				sent := &Message{Kind: KindStartCGI, ID: 1<<63 + 7, Body: bytes.Repeat([]byte("x\x00"), size)[:size], FDs: openFDs(t, n)}
				var sending sync.WaitGroup
				defer sending.Wait()
				sending.Go(func() {
					if err := a.Send(sent); err != nil {
						t.Error(err)
					}
				})
				got, err := b.Receive()
				if err != nil {
					t.Fatal(err)
				}
				defer got.Close()
				if got.Kind != sent.Kind || got.ID != sent.ID || !bytes.Equal(got.Body, sent.Body) || len(got.FDs) != n {
					t.Errorf("kind %d id %d, %d bytes, %d descriptors came", got.Kind, got.ID, len(got.Body), len(got.FDs))
				}
				for i, fd := range got.FDs {
					if inode(t, fd) != inode(t, sent.FDs[i]) {
						t.Errorf("descriptor %d is another one", i)
					}
					if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
						t.Errorf("descriptor %d is left to programs", i)
					}
				}
			})
		}
	}
}

func TestMessageThatIsTooLargeIsNotSent(t *testing.T) {
	a, _ := newConns(t)
	if err := a.Send(&Message{Kind: KindAnswer, Body: make([]byte, maxBody+1)}); err == nil {
		t.Error("it was sent")
	}
}

// raw sends one packet, as a hostile daemon may.
func raw(t *testing.T, c *Conn, packet []byte, fds ...int) {
	t.Helper()
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if _, _, err := c.conn.WriteMsgUnix(packet, rights, nil); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsNoMessageEndsTheSession(t *testing.T) {
	header := func(kind Kind, more byte, id uint64) []byte { return appendUint([]byte{byte(kind), more}, id) }
	full := make([]byte, maxPart)
	for name, packets := range map[string][][]byte{
		"short":                {{byte(KindReload)}},
		"kind 0":               {header(0, 0, 1)},
		"kind that is not":     {header(lastKind+1, 0, 1)},
		"flag that is not":     {header(KindReload, 2, 1)},
		"part too large":       {append(header(KindReload, 0, 1), make([]byte, maxPart+1)...)},
		"part not full":        {append(header(KindReload, 1, 1), 'x')},
		"another ID within":    {append(header(KindReload, 1, 1), full...), header(KindReload, 0, 2)},
		"another kind within":  {append(header(KindReload, 1, 1), full...), header(KindAbort, 0, 1)},
		"its end within":       {append(header(KindReload, 1, 1), full...)},
		"without end":          slicesRepeat(append(header(KindReload, 1, 1), full...), maxBody/maxPart+1),
		"too many descriptors": {header(KindReload, 0, 1)},
		"more than a part's":   {header(KindReload, 0, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newConns(t)
			b.MaxFDs = 3
			before := countFDs(t)
			var sending sync.WaitGroup
			sending.Go(func() {
				for _, p := range packets {
					var fds []int
					switch {
					case strings.HasPrefix(name, "too many"):
						fds = openFDs(t, 4)
					case strings.HasPrefix(name, "more than"):
						fds = openFDs(t, maxPartFDs+20)
					}
					raw(t, a, p, fds...)
					before += len(fds)
				}
				a.Close()
				before--
			})
			m, err := b.Receive()
			sending.Wait()
			if !errors.Is(err, ErrBroken) && err != io.ErrUnexpectedEOF {
				t.Errorf("%v, %v came", m, err)
			}
			if now := countFDs(t); now != before {
				t.Errorf("%d descriptors are open, and %d were", now, before)
			}
		})
	}
}

func slicesRepeat(packet []byte, n int) (packets [][]byte) {
	for range n {
		packets = append(packets, packet)
	}
	return packets
}

func countFDs(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestQuestionsAndAnswers(t *testing.T) {
	a, b := newConns(t)
	client := NewClient(a)
	var running sync.WaitGroup
	running.Go(func() {
		err := Serve(b, func(m *Message) (*Message, error) {
			switch string(m.Body) {
			case "no":
				return nil, errors.New("not today")
			case "coded":
				return nil, &Refusal{[]byte{1, 2}}
			case "nothing":
				return nil, nil
			case "descriptor":
				fd, err := unix.Dup(m.FDs[0])
				return &Message{FDs: []int{fd}}, err
			}
			return &Message{Body: append([]byte("to "), m.Body...)}, nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	running.Go(func() { client.Run() })
	before := countFDs(t)
	var asking sync.WaitGroup
	for i := range 200 {
		asking.Go(func() {
			text := fmt.Sprint(i)
			m, err := client.Ask(t.Context(), KindResolve, []byte(text))
			if err != nil || string(m.Body) != "to "+text {
				t.Errorf("asked %s: %v, %v", text, m, err)
			}
		})
	}
	asking.Wait()
	if _, err := client.Ask(t.Context(), KindReload, []byte("no")); err == nil || err.Error() != "not today" {
		t.Errorf("no: %v", err)
	}
	var refusal *Refusal
	if _, err := client.Ask(t.Context(), KindReload, []byte("coded")); !errors.As(err, &refusal) || !bytes.Equal(refusal.Body, []byte{1, 2}) {
		t.Errorf("coded: %v", err)
	}
	if m, err := client.Ask(t.Context(), KindReload, []byte("nothing")); err != nil || len(m.Body) > 0 {
		t.Errorf("nothing: %v, %v", m, err)
	}
	fd := openFDs(t, 1)[0]
	m, err := client.Ask(t.Context(), KindStartCGI, []byte("descriptor"), fd)
	if err != nil || inode(t, m.FDs[0]) != inode(t, fd) {
		t.Errorf("descriptor: %v, %v", m, err)
	}
	m.Close()
	unix.Close(fd)
	// The other side closes its own after it has answered.
	polltest.Until(t, "all descriptors to be closed", func() bool { return countFDs(t) == before })
	a.Close()
	running.Wait()
	if _, err := client.Ask(context.Background(), KindReload, nil); !errors.Is(err, ErrGone) {
		t.Errorf("asked nobody: %v", err)
	}
}

func TestAskDoesNotWaitForEver(t *testing.T) {
	a, b := newConns(t)
	client := NewClient(a)
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { client.Run() })
	ctx, cancel := context.WithCancel(t.Context())
	running.Go(func() {
		b.Receive()
		cancel() // and no answer comes
	})
	if _, err := client.Ask(ctx, KindReload, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("asked: %v", err)
	}
	running.Go(func() {
		b.Receive()
		b.Close()
	})
	if _, err := client.Ask(t.Context(), KindReload, nil); !errors.Is(err, ErrGone) {
		t.Errorf("asked one that ends: %v", err)
	}
}

func TestServeRefusesWhatIsNoQuestion(t *testing.T) {
	for kind := KindAnswer; kind <= lastKind; kind++ {
		a, b := newConns(t)
		if err := a.Send(&Message{Kind: kind, ID: 1}); err != nil {
			t.Fatal(err)
		}
		if err := Serve(b, func(*Message) (*Message, error) { panic("asked") }); !errors.Is(err, ErrBroken) {
			t.Errorf("kind %d: %v", kind, err)
		}
	}
}

func TestValues(t *testing.T) {
	b := appendUint(nil, 1<<40)
	b = appendString(b, "a\x00b")
	b = appendStrings(b, []string{"", "x=y", strings.Repeat("z", 200<<10)})
	b = appendStrings(b, nil)
	d := decoder{b: b}
	if n, s, list, none := d.uint(), d.string(), d.strings(), d.strings(); n != 1<<40 || s != "a\x00b" || len(list) != 3 || list[1] != "x=y" || none != nil || d.end() != nil {
		t.Errorf("%d %q %d %v %v", n, s, len(list), none, d.end())
	}
	for n := range len(b) {
		if n > 100 && n < len(b)-100 {
			continue
		}
		d := decoder{b: b[:n]}
		d.uint()
		d.string()
		d.strings()
		d.strings()
		if d.end() == nil {
			t.Errorf("the first %d bytes are a whole", n)
		}
	}
	if d := (decoder{b: append(b, 0)}); d.uint() == 0 || d.string() == "" || d.strings() == nil || d.strings() != nil || d.end() == nil {
		t.Error("one byte more was not seen")
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte{byte(KindReload), 0, 0, 0, 0, 0, 0, 0, 0, 1}, []byte{})
	f.Add([]byte{byte(KindStartCGI), 1, 0, 0, 0, 0, 0, 0, 0, 1, 'x'}, []byte{byte(KindStartCGI), 0, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		m := new(Message)
		isMore, err := m.take(first, true)
		if err == nil && isMore {
			_, err = m.take(second, false)
		}
		if err != nil {
			if !errors.Is(err, ErrBroken) {
				t.Fatal(err)
			}
			return
		}
		if m.Kind == 0 || m.Kind > lastKind || len(m.Body) > maxBody {
			t.Fatalf("%+v", m)
		}
		d := decoder{b: m.Body}
		d.uint()
		if list := d.strings(); len(list) > len(m.Body)/4 {
			t.Fatalf("%d strings of %d bytes", len(list), len(m.Body))
		}
		d.end()
	})
}

// Who says what is no question is known for it at once, whatever hangs meanwhile.
func TestNonsenseIsHeardWhileAnAnswerHangs(t *testing.T) {
	a, b := newConns(t)
	asked, release := make(chan struct{}), make(chan struct{})
	var running sync.WaitGroup
	heard := make(chan error, 1)
	go func() {
		heard <- hear(b, func(*Message) (*Message, error) {
			close(asked)
			<-release
			return nil, nil
		}, newAdmission(func(string) int { return 1 }), &running)
	}()
	if err := a.Send(&Message{Kind: KindResolve, ID: 1}); err != nil {
		t.Fatal(err)
	}
	<-asked
	if err := a.Send(&Message{Kind: KindAnswer, ID: 2}); err != nil {
		t.Fatal(err)
	}
	if err := <-heard; !errors.Is(err, ErrBroken) {
		t.Errorf("%v", err)
	}
	close(release)
	running.Wait()
}

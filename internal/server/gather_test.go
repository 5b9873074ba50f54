package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// serveSocket serves a socket of the kernel's: only there last words are gathered.
func serveSocket(t *testing.T, network string, settings Settings, change ...func(*Options)) *testServer {
	t.Helper()
	l, err := net.Listen(network, filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	change = append(change, func(o *Options) { o.Memory = NewMemory(64 << 20) })
	return startServer(t, &unevenListener{Listener: l}, settings, change...)
}

// An unevenListener gives every second connection room for one small answer, so that who writes
// to it waits for the client again and again.
type unevenListener struct {
	net.Listener
	accepted int
}

func (l *unevenListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if l.accepted++; l.accepted%2 == 0 {
		err = nc.(*net.UnixConn).SetWriteBuffer(1) // the kernel makes the least of it that there is
	}
	return nc, err
}

// dialSocket connects to it.
func (ts *testServer) dialSocket() net.Conn {
	ts.t.Helper()
	nc, err := net.Dial(ts.l.Addr().Network(), ts.l.Addr().String())
	if err != nil {
		ts.t.Fatal(err)
	}
	ts.t.Cleanup(func() { nc.Close() })
	return nc
}

// wantNothingHeld waits until there is nothing of any request left.
func (ts *testServer) wantNothingHeld() {
	ts.t.Helper()
	polltest.Until(ts.t, "nothing to be held", func() bool {
		running, _, waiting, _ := ts.admission.numbers()
		return running == 0 && waiting == 0 && ts.opt.Memory.Used() == 0
	})
}

// manySettings let so many requests of a connection run.
func manySettings(many int, run runnerFunc) Settings {
	settings := testSettings(run)
	settings.Limits.MaxReqs, settings.Limits.Queue, settings.Limits.Params = many, many, 1<<20
	settings.Limits.QueueTimeout = time.Minute
	return settings
}

// sized answers with SIZE bytes, as functions do.
func sized(_ context.Context, req *protocol.Request) (uint32, error) {
	n, _ := strconv.Atoi(req.Params.Get("SIZE"))
	_, err := req.Stdout.(protocol.LastWriter).WriteLast([]byte(plainHeader + strings.Repeat("x", n)))
	return 0, err
}

// Answers that are ready at about the same time leave in few writes: each is a message of
// its own on this kind of socket.
func TestAnswersLeaveTogether(t *testing.T) {
	if wiretest.UnderRace() {
		t.Skip("each of its writes is two messages")
	}
	const many, rounds, tries = 32, 5, 200
	s := serveSocket(t, "unixpacket", manySettings(many, sized))
	nc := s.dialSocket()
	messages := 0
	for range tries { // they do not while another process has the CPU for longer than longYield
		messages = 0
		for range rounds {
			messages += messagesOf(t, nc, many)
		}
		if messages <= rounds*many*3/4 {
			return
		}
	}
	t.Errorf("%d answers are %d writes, again and again", rounds*many, messages)
}

// messagesOf is in how many messages the answers to so many requests come.
func messagesOf(t *testing.T, nc net.Conn, many int) (messages int) {
	t.Helper()
	var wire []byte
	for id := 1; id <= many; id++ {
		wire = append(wire, get(uint16(id), true)...)
	}
	if _, err := nc.Write(wire); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<17)
	for ends := 0; ends < many; messages++ {
		n, err := nc.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		for rest := strings.NewReader(string(buf[:n])); rest.Len() > 0; {
			rec, err := readRecord(rest)
			if err != nil {
				t.Fatalf("a record that is divided: %v", err)
			}
			if rec.Type == protocol.TypeEndRequest {
				ends++
			}
		}
	}
	return messages
}

// No answer waits for a neighbour that waits itself, nor for a log or metric that is stuck.
func TestAnswersBesideSlowOnes(t *testing.T) {
	const many = 32
	release := make(chan struct{})
	var stuck atomic.Bool
	var told atomic.Int64
	done := func(*Result) {
		told.Add(1)
		if stuck.Swap(false) {
			<-release
		}
	}
	s := serveSocket(t, "unix", manySettings(2*many, func(ctx context.Context, req *protocol.Request) (uint32, error) {
		if req.Params.Get("SLOW") != "" {
			<-release
		}
		return sized(ctx, req)
	}), func(o *Options) { o.Hooks.Done = done })
	p := newPeer(t, s.dialSocket())
	for round := range 10 {
		stuck.Store(round == 5)
		for id := uint16(1); id <= many; id++ {
			if round == 0 {
				p.send(get(many+id, true, "SLOW", "1"))
			}
			p.send(get(id, true))
		}
		for id := uint16(1); id <= many; id++ {
			p.wantAnswer(id, plainHeader, 0)
		}
	}
	close(release)
	for id := uint16(1); id <= many; id++ {
		p.wantAnswer(many+id, plainHeader, 0)
	}
	polltest.Until(t, "all to be told of", func() bool { return told.Load() == 11*many })
	s.wantNothingHeld()
}

// A client that sends many requests and reads nothing holds no place to run; what it reads
// later is whole, and each answer comes once.
func TestAnswersForAClientThatReadsLate(t *testing.T) {
	const many = 400
	s := serveSocket(t, "unix", manySettings(many, sized))
	nc := s.dialSocket()
	size := func(id int) int { return id * 7 % 3000 }
	go func() {
		for id := 1; id <= many; id++ {
			nc.Write(get(uint16(id), id < many, "SIZE", strconv.Itoa(size(id))))
		}
	}()
	polltest.Until(t, "all to have run", func() bool {
		running, _, waiting, _ := s.admission.numbers()
		return s.admission.tallied().Admitted == many && running == 0 && waiting == 0
	})
	s.stop() // answers that are on their way are not lost
	p := newPeer(t, nc)
	for id := 1; id <= many; id++ {
		p.wantAnswer(uint16(id), plainHeader+strings.Repeat("x", size(id)), 0)
	}
	p.wantClosed()
	for range many {
		if r := s.result(); r.Outcome != OK {
			t.Errorf("request is %+v", r)
		}
	}
	s.wantNothingHeld()
}

// A client that reads nothing is gone after write_timeout, however many answers wait for it,
// and so is one that leaves; its neighbours are answered meanwhile.
func TestAnswersForAClientThatNeverReads(t *testing.T) {
	const many = 400
	for _, leaves := range []bool{false, true} {
		settings := manySettings(many, sized)
		settings.Limits.WriteTimeout = 50 * time.Millisecond
		if leaves {
			settings.Limits.WriteTimeout = 0
		}
		s := serveSocket(t, "unix", settings)
		nc := s.dialSocket()
		for id := range uint16(many) {
			if _, err := nc.Write(get(id+1, true, "SIZE", "3000")); err != nil {
				break // it is cut off
			}
		}
		p := newPeer(t, s.dialSocket())
		for range 20 {
			p.send(get(1, true), get(2, true))
			p.wantAnswer(1, plainHeader, 0)
			p.wantAnswer(2, plainHeader, 0)
		}
		if leaves {
			nc.Close()
		}
		s.wantNothingHeld()
	}
}

// A crowd of clients that send, abort and leave, faster and slower than their answers come, on
// connections that carry many requests each, gets each answer once and whole.
func TestAnswersForACrowd(t *testing.T) {
	const crowd, rounds, many = 6, 30, 40
	var all clients
	s := serveSocket(t, "unix", manySettings(crowd*many, func(ctx context.Context, req *protocol.Request) (uint32, error) {
		switch rand.IntN(8) {
		case 0:
			all.awaitSending(req.Params.Get("CLIENT"))
		case 1:
			if _, err := io.WriteString(req.Stdout, plainHeader); err != nil {
				return 0, err
			}
			n, _ := strconv.Atoi(req.Params.Get("SIZE"))
			_, err := io.WriteString(req.Stdout, strings.Repeat("x", n))
			return 0, err
		case 2:
			fmt.Fprint(req.Stderr, "a message")
		}
		return sized(ctx, req)
	}))
	var here sync.WaitGroup
	for client := range crowd {
		here.Go(func() {
			for round := range rounds {
				if err := all.beOne(fmt.Sprint(client, ".", round), s.dialSocket(), many); err != nil {
					t.Error(err)
				}
			}
		})
	}
	here.Wait()
	s.wantNothingHeld()
}

// clients know of each one, by its name, a channel that takes something when that has
// sent a request, and is closed when that was the last.
type clients struct{ sending sync.Map }

// awaitSending returns when the client has sent one more request, or sends none any more.
func (all *clients) awaitSending(client string) {
	sent, _ := all.sending.Load(client)
	<-sent.(chan struct{})
}

func (all *clients) beOne(name string, nc net.Conn, many int) error {
	nc.SetDeadline(time.Now().Add(time.Minute))
	sizes := make([]int, many+1)
	aborted := make([]bool, many+1)
	for id := range sizes {
		sizes[id] = []int{0, 10, 2000, 6000, 20_000}[rand.IntN(5)]
		aborted[id] = rand.IntN(10) == 0
	}
	sent := make(chan struct{})
	all.sending.Store(name, sent)
	var sending sync.WaitGroup
	defer sending.Wait()
	defer nc.Close()
	sending.Go(func() {
		defer close(sent)
		for _, id := range rand.Perm(many) {
			id++
			nc.Write(get(uint16(id), true, "SIZE", strconv.Itoa(sizes[id]), "CLIENT", name))
			if aborted[id] {
				nc.Write(abort(uint16(id)))
			}
			select {
			case sent <- struct{}{}:
			default:
			}
		}
	})
	leaves := rand.IntN(4) == 0
	answers, ended := make([]int, many+1), make([]bool, many+1)
	for left := many; left > 0; {
		if leaves && rand.IntN(200) == 0 {
			return nil
		}
		rec, err := readRecord(nc)
		id := int(rec.ID)
		switch {
		case err != nil:
			return err
		case id < 1 || id > many || ended[id]:
			return fmt.Errorf("record %v of a request that is not open", rec)
		case rec.Type == protocol.TypeStdout:
			answers[id] += len(rec.Content)
		case rec.Type == protocol.TypeEndRequest:
			ended[id], left = true, left-1
			if want := len(plainHeader) + sizes[id]; answers[id] != want && !aborted[id] {
				return fmt.Errorf("answer has %d bytes, want %d", answers[id], want)
			}
		case rec.Type != protocol.TypeStderr:
			return errors.New("a record of another kind")
		}
	}
	return nil
}

package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// FuzzAnswer: whatever workers write, and whenever, each request has an outcome in
// time, which is no other request's answer; and nothing is left of it.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		"\x00roEroEroE", "\x01roeErxxxxoE", "\x02oErdrocroE", "\x03rE\x00rootErt\x05E", "\x00rhx\x04\x01\x06\x00\x01E",
		"\x00roEoEroE", "\x04rn\x06\x02\x03abcroE", "\x00ra\x07roEcroE", "\x01pooooE", "\x06pEroE", "\x02rs\x02rs\x63roE", "\x05rtzoErtzoE",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 300 {
			return
		}
		synctest.Test(t, func(t *testing.T) { playWorkers(t, script) })
	})
}

// playWorkers sends requests to workers that do what a script says; its first byte
// chooses the settings.
func playWorkers(t *testing.T, script []byte) {
	var flags byte
	if len(script) > 0 {
		flags, script = script[0], script[1:]
	}
	play := &scriptedWorkers{script: script}
	o := Options{
		Scale: ScaleStatic, Max: 1 + int(flags&1), Concurrency: 1 + int(flags>>1&1), SpawnRate: 32, StartTimeout: 5 * time.Second,
		Stderr: []string{"log", "client", "both"}[int(flags>>2&3)%3],
	}
	p, stop := fakeWorkers(t, o, func(id int) (process, error) {
		f := newFake(id)
		f.serve = func(conn net.Conn) { play.serve(f, conn) }
		return f, nil
	})
	var asking sync.WaitGroup
	for i, req := range []*protocol.Request{
		{}, {Stdin: strings.NewReader("short")}, {Stdin: io.LimitReader(zeros{}, 200_000)}, {}, {Stdin: slow{strings.NewReader("slow")}}, {},
	} {
		asking.Go(func() { askScripted(t, p, i, req) })
		if flags&16 == 0 {
			asking.Wait()
		}
	}
	asking.Wait()
	stop()
	time.Sleep(time.Hour) // what the processes do ends
}

// askScripted sends a request that has half a minute from when it runs.
func askScripted(t *testing.T, p *Pool, number int, req *protocol.Request) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	name := string(rune('A' + number))
	method := "GET"
	if req.Stdin != nil {
		method = "POST"
	}
	req.Params.Add("REQUEST_METHOD", method)
	req.Params.Add("NAME", name)
	var out, complaints strings.Builder
	req.Stdout, req.Stderr, req.QueueDeadline = &out, &complaints, time.Now().Add(10*time.Second)
	req.Running = func() {
		time.AfterFunc(30*time.Second, func() { cancel(protocol.ErrTimeout) })
		if number == 3 {
			time.AfterFunc(3*time.Second, func() { cancel(errors.New("client has left")) })
		}
	}
	began := time.Now()
	_, err := p.Run(ctx, req)
	if took := time.Since(began); took > 3*time.Minute {
		t.Errorf("request %s took %v: %v", name, took, err)
	}
	for _, other := range "ABCDEF" {
		if other := fmt.Sprintf("<%c>", other); other != "<"+name+">" && strings.Contains(out.String()+complaints.String(), other) {
			t.Errorf("request %s got %q, %q", name, out.String(), complaints.String())
		}
	}
}

// zeros is a STDIN without end.
type zeros struct{}

// Read is always full.
func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// slow is a STDIN that comes byte by byte.
type slow struct{ io.Reader }

// Read takes a second.
func (s slow) Read(p []byte) (int, error) {
	time.Sleep(time.Second)
	return s.Reader.Read(p[:1])
}

// scriptedWorkers go on in one script, on whichever connection.
type scriptedWorkers struct {
	mu     sync.Mutex // guards the field below
	script []byte
}

// next is the script's next byte; without more it says to hang.
func (s *scriptedWorkers) next() byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.script) == 0 {
		return 'h'
	}
	b := s.script[0]
	s.script = s.script[1:]
	return b
}

// serve does what the script says with a connection.
func (s *scriptedWorkers) serve(f *fakeProcess, conn net.Conn) {
	in := &receiveQueue{conn: conn, parts: make(chan []byte, 16)}
	go in.fill()
	defer func() {
		conn.Close()
		for range in.parts { // or fill could wait for us
		}
	}()
	w := &scriptedConn{Conn: conn, r: protocol.NewReader(in)}
	for {
		var out []byte
		switch op := s.next(); op {
		case 'r', 'p':
			if !w.await(op == 'r') {
				return
			}
		case 'o', 'e':
			kind := map[byte]protocol.Type{'o': protocol.TypeStdout, 'e': protocol.TypeStderr}[op]
			out = protocol.AppendRecord(nil, kind, w.id, []byte("A: b\r\n\r\n<"+w.name+">"))
		case 'z':
			out = protocol.AppendRecord(nil, protocol.TypeStdout, w.id, nil)
		case 'l':
			out = protocol.AppendRecord(nil, protocol.TypeStdout, w.id, make([]byte, 60_000))
		case 'E':
			out = protocol.AppendEnd(nil, w.id, protocol.End{})
		case 's':
			out = protocol.AppendEnd(nil, w.id, protocol.End{AppStatus: 3, Status: protocol.Status(s.next() % 5)})
		case 'n':
			kind, id := protocol.Type(s.next()), uint16(s.next())
			out = protocol.AppendRecord(nil, kind, id, s.some())
		case 'x':
			out = s.some()
		case 'a': // half of a record
			out = protocol.AppendRecord(nil, protocol.TypeStdout, w.id, []byte("A: b\r\n\r\n"))[:12]
		case 't':
			time.Sleep(time.Duration(s.next()) * time.Second / 4)
		case 'c':
			return
		case 'd':
			f.die()
			return
		case 'h':
			io.Copy(io.Discard, in)
			return
		}
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}

// some is a number and so many bytes.
func (s *scriptedWorkers) some() (out []byte) {
	for n := s.next() % 32; n > 0; n-- {
		out = append(out, s.next())
	}
	return out
}

// A receiveQueue holds what was sent and is not read yet, as a socket does.
type receiveQueue struct {
	conn  net.Conn
	parts chan []byte
	part  []byte
}

// fill reads until the connection ends.
func (q *receiveQueue) fill() {
	defer close(q.parts)
	for {
		part := make([]byte, 4<<10)
		n, err := q.conn.Read(part)
		if err != nil {
			return
		}
		q.parts <- part[:n]
	}
}

// Read takes what is first.
func (q *receiveQueue) Read(p []byte) (n int, err error) {
	if len(q.part) == 0 {
		if q.part = <-q.parts; q.part == nil {
			return 0, io.EOF
		}
	}
	n = copy(p, q.part)
	q.part = q.part[n:]
	return n, nil
}

// A scriptedConn remembers the last request that it has read.
type scriptedConn struct {
	net.Conn
	r    *protocol.Reader
	id   uint16
	name string
}

// await reads until the end of the next request's PARAMS, or of its STDIN.
func (w *scriptedConn) await(whole bool) bool {
	var params []byte
	for {
		rec, err := w.r.Next()
		switch {
		case err != nil:
			return false
		case rec.Type == protocol.TypeParams && len(rec.Content) > 0:
			params = append(params, rec.Content...)
		case rec.Type == protocol.TypeParams:
			all, _ := protocol.ParseParams(string(params))
			w.id, w.name = rec.ID, all.Get("NAME")
			if !whole {
				return true
			}
		case rec.Type == protocol.TypeStdin && len(rec.Content) == 0 && rec.ID == w.id && params != nil:
			return true
		}
	}
}

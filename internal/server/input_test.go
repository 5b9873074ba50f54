package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/protocol"
)

// A pipeInput is a program's stdin, as a runner writes to it.
type pipeInput struct{ *os.File }

func (p pipeInput) Pipe() (syscall.RawConn, error) { return p.SyscallConn() }

// toPipe runs a program that reads its input from a pipe. It ends when the input
// has, or when read returns.
func toPipe(read func(stdin *os.File) string) runnerFunc {
	return func(_ context.Context, req *protocol.Request) (uint32, error) {
		r, w, err := os.Pipe()
		if err != nil {
			return 1, err
		}
		var fed sync.WaitGroup
		var broken error
		fed.Go(func() {
			defer w.Close()
			if req.Stdin != nil {
				_, broken = req.Stdin.(io.WriterTo).WriteTo(pipeInput{w})
			}
		})
		answer := plainHeader + read(r)
		r.Close()
		if c, ok := req.Stdin.(io.Closer); ok {
			c.Close()
		}
		fed.Wait()
		if broken != nil && !strings.Contains(broken.Error(), "broken pipe") {
			return 1, broken
		}
		_, err = io.WriteString(req.Stdout, answer)
		return 0, err
	}
}

// digestOf reads all, now and then slowly.
func digestOf(pause time.Duration) func(*os.File) string {
	return func(stdin *os.File) string {
		h, buf, n := sha256.New(), make([]byte, 64<<10), 0
		for {
			k, err := stdin.Read(buf)
			h.Write(buf[:k])
			if err != nil {
				return fmt.Sprintf("%x", h.Sum(nil))
			}
			if n++; n%50 == 0 {
				time.Sleep(pause)
			}
		}
	}
}

// stdinRecords are body in records of random sizes, padded at random.
func stdinRecords(id uint16, body []byte) (records [][]byte) {
	for len(body) > 0 {
		n := min(len(body), 1+rand.IntN(protocol.MaxContent-1))
		pad := rand.IntN(256)
		rec := protocol.AppendHeader(nil, protocol.TypeStdin, id, n, pad)
		rec = append(append(rec, body[:n]...), make([]byte, pad)...)
		records, body = append(records, rec), body[n:]
	}
	return append(records, part(id, ""))
}

// However it is cut, and whether its program is fast or slow, what a program reads
// from a pipe is what its client sent; also where several share a connection.
func TestInputOfPrograms(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		for _, pause := range []time.Duration{0, time.Millisecond} {
			t.Run(fmt.Sprint(network, pause), func(t *testing.T) {
				settings := liveSettings(toPipe(digestOf(pause)))
				settings.Limits.Body = 16 << 20
				p := listen(t, network, settings).connect()
				const requests = 4
				var bodies [requests][]byte
				var records [requests][][]byte
				for i := range bodies {
					id := uint16(i + 1)
					bodies[i] = randomBytes(1 + rand.IntN(2<<20))
					records[i] = stdinRecords(id, bodies[i])
					p.send(begin(id, true), params(id, "CONTENT_LENGTH", fmt.Sprint(len(bodies[i]))))
				}
				for left := requests; left > 0; {
					i := rand.IntN(requests)
					for n := 1 + rand.IntN(20); n > 0 && len(records[i]) > 0; n-- {
						p.send(records[i][0])
						if records[i] = records[i][1:]; len(records[i]) == 0 {
							left--
						}
					}
				}
				for i, body := range bodies {
					p.wantAnswer(uint16(i+1), fmt.Sprintf("%s%x", plainHeader, sha256.Sum256(body)), 0)
				}
			})
		}
	}
}

// A program that reads nothing delays neither its neighbour nor the end of what it
// is sent, and gets it all.
func TestInputOfAStuckProgram(t *testing.T) {
	release := make(chan struct{})
	stuck := toPipe(func(stdin *os.File) string { <-release; return digestOf(0)(stdin) })
	settings := liveSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
		if req.Stdin == nil {
			return hello(ctx, req)
		}
		return stuck(ctx, req)
	})
	settings.Limits.Body = 16 << 20
	p := listen(t, "unix", settings).connect()
	body := randomBytes(4 << 20)
	p.send(begin(1, true), params(1, "CONTENT_LENGTH", fmt.Sprint(len(body))))
	for _, rec := range stdinRecords(1, body) {
		p.send(rec)
	}
	p.send(get(2, true))
	p.wantAnswer(2, helloAnswer, 0)
	close(release)
	p.wantAnswer(1, fmt.Sprintf("%s%x", plainHeader, sha256.Sum256(body)), 0)
}

// Input that its program does not want is no error, and the connection lives on.
func TestInputIsNotWanted(t *testing.T) {
	for name, read := range map[string]func(*os.File) string{
		"closed at once": func(stdin *os.File) string { stdin.Close(); return "ok" },
		"some is read":   func(stdin *os.File) string { io.ReadFull(stdin, make([]byte, 300_000)); return "ok" },
	} {
		t.Run(name, func(t *testing.T) {
			settings := liveSettings(toPipe(read))
			settings.Limits.Body = 16 << 20
			p := listen(t, "unix", settings).connect()
			for id := uint16(1); id <= 3; id++ {
				p.send(begin(id, true), params(id, "CONTENT_LENGTH", "4000000"))
				for _, rec := range stdinRecords(id, make([]byte, 4_000_000)) {
					p.send(rec)
				}
				p.wantAnswer(id, plainHeader+"ok", 0)
			}
		})
	}
}

// A body that grows too large on its way to the program is refused.
func TestInputIsTooLarge(t *testing.T) {
	settings := liveSettings(toPipe(digestOf(0)))
	settings.Limits.Body = 1 << 20
	s := listen(t, "unix", settings)
	p := s.connect()
	p.send(begin(1, true), params(1, "CONTENT_LENGTH", "1000000"))
	for _, rec := range stdinRecords(1, make([]byte, 2<<20)) {
		p.send(rec)
	}
	if a := p.answer(1); !strings.HasPrefix(a.stdout, "Status: 413 ") {
		t.Errorf("answer is %+v", a)
	}
}

// A client that goes away, stops or aborts in the middle of a large record ends
// its request.
func TestInputBreaksOff(t *testing.T) {
	leave, stay := func(p *peer) { p.nc.Close() }, func(*peer) {}
	for _, c := range []struct {
		name, network string
		leave         func(*peer)
		want          Outcome
	}{
		{"gone", "unix", leave, Aborted},
		{"silent", "unix", stay, TimedOut},
		{"silent", "tcp blocking", stay, TimedOut},
	} {
		t.Run(c.name+" "+c.network, func(t *testing.T) {
			settings := liveSettings(toPipe(digestOf(0)))
			settings.Limits.ReadTimeout = time.Hour
			if c.want == TimedOut {
				settings.Limits.ReadTimeout = 200 * time.Millisecond
			}
			s := listen(t, c.network, settings)
			p := s.connect()
			p.send(begin(1, true), params(1, "CONTENT_LENGTH", "1000000"))
			for range 3 {
				p.send(part(1, strings.Repeat("x", 60000)))
			}
			p.send(part(1, strings.Repeat("x", 60000))[:50000])
			c.leave(p)
			if r := s.result(); r.Outcome != c.want {
				t.Errorf("result is %+v", r)
			}
		})
	}
}

// While its program waits for more, what comes goes to the pipe and nowhere else.
func TestBodyGoesStraightToThePipe(t *testing.T) {
	b := newLive(t, 4<<10, 0)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	done := make(chan error)
	go func() {
		_, err := b.WriteTo(pipeInput{w})
		w.Close()
		done <- err
	}()
	polltest.Until(t, "WriteTo to wait for more", b.isDirect)
	text := bytes.Repeat([]byte("x"), 40<<10)
	if err := b.write(text); err != nil || b.mem != nil || b.spool.file != nil {
		t.Errorf("%d bytes are in memory, or %v", len(b.mem), err)
	}
	socket, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket[0])
	defer unix.Close(socket[1])
	if n, wait := b.splice(socket[0], 100); n != 0 || !wait {
		t.Errorf("of an empty socket: %d, wait %v", n, wait)
	}
	unix.Write(socket[1], text)
	if n, _ := b.splice(socket[0], 30<<10); n != 30<<10 {
		t.Errorf("%d bytes moved", n)
	}
	pipeSize, _ := unix.FcntlInt(r.Fd(), unix.F_GETPIPE_SZ, 0)
	b.write(make([]byte, pipeSize)) // more than there is room for
	if n, wait := b.splice(socket[0], 10<<10); n != 0 || wait {
		t.Errorf("past what is held: %d, wait %v", n, wait)
	}
	b.complete()
	n, err := io.Copy(io.Discard, r)
	if want := int64(70<<10 + pipeSize); n != want || err != nil || b.length() != want {
		t.Errorf("%d bytes come out, %d went in, %v; want %d", n, b.length(), err, want)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

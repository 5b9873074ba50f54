package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// spooling is a request whose body may be in a file.
func spooling(t testing.TB, limits Limits) *request {
	r := &request{conn: new(conn), server: New(Settings{}, Options{}), settings: &Settings{SpoolDir: t.TempDir(), Limits: limits}}
	r.ctx, r.cancelFn = context.WithCancelCause(context.Background())
	return r
}

// breakOff ends the context of a body's request.
func breakOff(b *liveBody, cause error) {
	b.spool.req.cancelFn(cause)
	b.wake()
}

func newLive(t testing.TB, memory, limit int64) *liveBody {
	b := newLiveBody(spooling(t, Limits{BodyMemory: memory, Body: limit}))
	t.Cleanup(func() { b.Close() })
	return b
}

func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// However it is cut and however slowly it is read, what comes out is what went in.
func TestBodyKeepsOrder(t *testing.T) {
	before := openFiles(t)
	for range 30 {
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))
		data := make([]byte, r.IntN(600_000))
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		b := newLive(t, int64(r.IntN(100_000)), 0)
		go func(r *rand.Rand) {
			for rest := data; len(rest) > 0; {
				n := min(len(rest), 1+r.IntN(65_535))
				if err := b.write(rest[:n]); err != nil {
					t.Error(err)
				}
				rest = rest[n:]
			}
			b.complete()
		}(rand.New(rand.NewPCG(seed, 1)))
		h := sha256.New()
		var err error
		switch r.IntN(3) {
		case 0:
			_, err = b.WriteTo(h)
		case 1:
			_, err = io.Copy(h, struct{ io.Reader }{b})
		default:
			_, err = io.Copy(h, iotest.HalfReader(b))
		}
		if want := sha256.Sum256(data); err != nil || !bytes.Equal(h.Sum(nil), want[:]) {
			t.Fatalf("seed %d: digest is wrong, error %v", seed, err)
		}
		if got := b.length(); got != int64(len(data)) {
			t.Fatalf("length is %d, want %d", got, len(data))
		}
		b.Close()
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d files are left open", after-before)
	}
}

// What follows a Read can be copied: a chunk of which a part was read has its rest
// delivered, and a body that broke is broken for both.
func TestBodyReadThenWriteTo(t *testing.T) {
	for _, memory := range []int64{1 << 20, 0} {
		b := newLive(t, memory, 0)
		data := strings.Repeat("0123456789", 10_000)
		b.write([]byte(data))
		b.complete()
		head := make([]byte, 5)
		if _, err := io.ReadFull(b, head); err != nil {
			t.Fatal(err)
		}
		var rest strings.Builder
		n, err := io.Copy(&rest, b)
		if got := string(head) + rest.String(); err != nil || got != data || int(n) != rest.Len() {
			t.Errorf("memory %d: got %d bytes of %d, %v", memory, len(got), len(data), err)
		}
	}
	b := newLive(t, 1<<20, 0)
	b.write([]byte("0123456789"))
	b.Read(make([]byte, 5))
	breakOff(b, errBodyTooLarge)
	if n, err := b.WriteTo(io.Discard); n != 0 || !errors.Is(err, errBodyTooLarge) {
		t.Errorf("a copy of a broken body gets %d, %v", n, err)
	}
	if n, err := b.Read(make([]byte, 5)); n != 0 || !errors.Is(err, errBodyTooLarge) {
		t.Errorf("a reader of a broken body gets %d, %v", n, err)
	}
}

// Memory first, then a file that no folder names, then no more.
func TestBodyBounds(t *testing.T) {
	b := newLive(t, 8, 16)
	before := openFiles(t)
	if err := b.write([]byte("12345678")); err != nil || openFiles(t) != before {
		t.Fatalf("a file is open, or %v", err)
	}
	if err := b.write([]byte("90123456")); err != nil || openFiles(t) != before+1 {
		t.Fatalf("no file is open, or %v", err)
	}
	if entries, _ := os.ReadDir(b.spool.req.settings.SpoolDir); len(entries) != 0 {
		t.Errorf("the file has the name %v", entries)
	}
	if err := b.write([]byte("x")); !errors.Is(err, errBodyTooLarge) {
		t.Errorf("one byte too many: %v", err)
	}
	breakOff(b, errBodyTooLarge)
	if n, err := b.Read(make([]byte, 8)); n != 0 || !errors.Is(err, errBodyTooLarge) {
		t.Errorf("reader gets %d, %v", n, err)
	}
	if err := b.write([]byte("x")); err != nil {
		t.Errorf("what comes later: %v", err)
	}
	b.Close()
	if got := openFiles(t); got != before {
		t.Errorf("%d files are open, were %d", got, before)
	}
}

// The room in the file, and then the memory, are used again.
func TestBodyFileIsUsedAgain(t *testing.T) {
	b := newLive(t, 4, 0)
	chunk := strings.Repeat("x", 1000)
	for range 100 {
		b.write([]byte(chunk))
		if _, err := io.ReadFull(b, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := b.spool.file.Stat(); err != nil || info.Size() != 1000 {
		t.Errorf("file has %d bytes, %v", info.Size(), err)
	}
	b.write([]byte("1234"))
	if string(b.mem) != "1234" || b.writeAt != 0 {
		t.Errorf("memory is %q", b.mem)
	}
}

// Whoever waits for more is told when there will be none.
func TestBodyWakesItsReader(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name string
		stop func(b *liveBody)
		want error
	}{
		{"end", func(b *liveBody) { b.complete() }, io.EOF},
		{"close", func(b *liveBody) { b.Close() }, io.EOF},
		{"fail", func(b *liveBody) { breakOff(b, broken) }, broken},
	} {
		bubble(t, func(t *testing.T) {
			b := newLive(t, 4, 0)
			go func() {
				time.Sleep(time.Second)
				tt.stop(b)
			}()
			if _, err := b.Read(make([]byte, 1)); err != tt.want {
				t.Errorf("%s: reader gets %v, want %v", tt.name, err, tt.want)
			}
			if _, err := b.WriteTo(io.Discard); err != nil && err != tt.want {
				t.Errorf("%s: WriteTo returns %v", tt.name, err)
			}
		})
	}
}

// A failure is told at once, whatever is buffered; the first is the one.
func TestBodyFailsOnce(t *testing.T) {
	b := newLive(t, 10, 0)
	first := errors.New("first")
	b.write([]byte("12345678"))
	breakOff(b, first)
	breakOff(b, errors.New("second"))
	b.complete()
	if _, err := b.Read(make([]byte, 1)); err != first {
		t.Errorf("reader gets %v", err)
	}
}

// A request that ends in any stage leaves no file open.
func TestNoSpoolFileIsLeft(t *testing.T) {
	before := openFiles(t)
	for name, leave := range map[string]func(p *peer){
		"aborted in its body":      func(p *peer) { p.send(abort(1)); p.answer(1) },
		"client gone in its body":  func(p *peer) { p.nc.Close() },
		"read timeout":             func(p *peer) { p.answer(1) },
		"body too large":           func(p *peer) { p.send(post(1, true, strings.Repeat("x", 2<<20))) },
		"program reads only a bit": func(p *peer) { p.send(part(1, ""), get(2, true)); p.answer(1) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				settings := testSettings(hello)
				settings.SpoolDir = t.TempDir()
				p := serve(t, settings).dial()
				if name != "body too large" {
					p.send(begin(1, true), params(1), part(1, strings.Repeat("x", 60_000)))
					p.wantSilence()
				}
				leave(p)
			})
			if after := openFiles(t); after > before {
				t.Errorf("%d files are left open", after-before)
			}
		})
	}
}

var _ protocol.WholeReader = (*wholeBody)(nil)

func newWhole(t testing.TB, memory, limit int64) *wholeBody {
	b := &wholeBody{ctx: t.Context(), spool: spool{req: spooling(t, Limits{})}, memory: memory, limit: limit}
	return b
}

// However it comes and is read, what comes out is what went in.
func TestWholeBodyKeepsOrder(t *testing.T) {
	before := openFiles(t)
	for range 30 {
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))
		data := make([]byte, r.IntN(6_000_000))
		for i := range data {
			data[i] = byte(r.Uint32())
		}
		b := newWhole(t, int64(r.IntN(100_000)), int64(len(data)))
		memory := NewMemory(int64(r.IntN(32) << 20)) // short of it: one batch, or none
		b.spool.req.memory = share{conn: b.spool.req.conn, all: memory, spare: maxSpare}
		for rest := data; len(rest) > 0; {
			n := min(len(rest), 1+r.IntN(65_535))
			if err := b.write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := b.write([]byte("x")); !errors.Is(err, errBodyTooLarge) {
			t.Errorf("one byte too many: %v", err)
		}
		err := b.complete()
		if err != nil {
			t.Fatal(err)
		}
		if n := memory.Used(); n > int64(cap(b.mem)) {
			t.Errorf("%d bytes are held of a body with %d in memory", n, cap(b.mem))
		}
		h := sha256.New()
		head := make([]byte, min(len(data), r.IntN(10)))
		io.ReadFull(b, head)
		h.Write(head)
		switch r.IntN(3) {
		case 0:
			_, err = b.WriteTo(h)
		case 1:
			_, err = io.Copy(h, struct{ io.Reader }{b})
		default:
			_, err = io.Copy(h, iotest.HalfReader(b))
		}
		if want := sha256.Sum256(data); err != nil || !bytes.Equal(h.Sum(nil), want[:]) {
			t.Fatalf("seed %d: digest is wrong, error %v", seed, err)
		}
		if got := b.length(); got != int64(len(data)) {
			t.Fatalf("length is %d, want %d", got, len(data))
		}
		b.discard()
		b.spool.req.conn.wg.Wait()
	}
	if after := openFiles(t); after > before {
		t.Errorf("%d files are left open", after-before)
	}
}

// A body in a file is a program's own descriptor: read-only, from the beginning,
// whoever else reads it.
func TestWholeBodyAsAFile(t *testing.T) {
	b := newWhole(t, 8, 0)
	b.write([]byte("1234"))
	if f, err := b.File(); f != nil || err != nil {
		t.Errorf("what is in memory is a file: %v, %v", f, err)
	}
	b.write([]byte("567890"))
	b.complete()
	io.ReadFull(b, make([]byte, 3))
	for range 2 {
		f, err := b.File()
		if err != nil || f == nil {
			t.Fatal(f, err)
		}
		got, err := io.ReadAll(f)
		if string(got) != "1234567890" || err != nil {
			t.Errorf("file holds %q, %v", got, err)
		}
		if _, err := f.Write([]byte("x")); err == nil {
			t.Error("it can be written")
		}
		f.Close()
	}
	b.Close()
	if f, err := b.File(); f != nil || err != nil {
		t.Errorf("after its end: %v, %v", f, err)
	}
}

// A large body is written to its file in large pieces, whatever it comes in, and the room
// that was made for it beforehand is no part of it. A small one takes no memory for that.
func TestWholeBodyIsWrittenInBatches(t *testing.T) {
	const each, records = 32 << 10, 75
	b := newWhole(t, 64<<10, 0)
	defer b.discard()
	size := func() int64 {
		info, err := b.spool.file.Stat()
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	for n := 1; n <= records; n++ {
		if err := b.write(make([]byte, each)); err != nil {
			t.Fatal(err)
		}
		if b.spool.file == nil {
			continue
		}
		want := int64(n * each)
		if want > allocateFrom {
			want -= want % int64(len(batch{}))
		} else if b.batch != nil {
			t.Fatalf("a batch for %d bytes", want)
		}
		if got := size(); got != want {
			t.Fatalf("after %d bytes the file has %d, want %d", n*each, got, want)
		}
	}
	if err := b.complete(); err != nil || size() != records*each {
		t.Errorf("in the end the file has %d bytes, %v; want %d", size(), err, records*each)
	}
}

// The end of a body that cannot be written is no end: the request is refused.
func TestEndOfABodyThatCannotBeWritten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(hello)
		settings.SpoolDir, settings.Limits.Body = t.TempDir(), 0
		s := serve(t, settings)
		p := s.dial()
		p.send(begin(1, true), params(1))
		for range 40 {
			p.send(part(1, strings.Repeat("x", 40_000)))
		}
		synctest.Wait()
		s.Server.mu.Lock()
		for c := range s.conns {
			c.table.byID[1].stdin.(*wholeBody).spool.file.Close()
		}
		s.Server.mu.Unlock()
		p.send(part(1, ""))
		p.wantOwn(1, 503, protocol.End{AppStatus: 503, Status: protocol.StatusOverloaded})
		if r := s.result(); r.Outcome != Overloaded {
			t.Errorf("result is %+v", r)
		}
	})
}

// What cannot be written is told before the end of the body, and nothing is held of it.
func TestBodyThatCannotBeWritten(t *testing.T) {
	b := newWhole(t, 0, 0)
	memory := NewMemory(0)
	b.spool.req.memory = share{conn: b.spool.req.conn, all: memory, spare: maxSpare}
	part := make([]byte, 60_000)
	for b.batch == nil {
		if err := b.write(part); err != nil {
			t.Fatal(err)
		}
	}
	b.spool.file.Close()
	var err error
	for n := 0; err == nil && n < 4*len(batch{}); n += len(part) {
		err = b.write(part)
	}
	if !errors.Is(err, os.ErrClosed) {
		t.Errorf("error is %v", err)
	}
	b.discard()
	if n := memory.Used(); n != 0 {
		t.Errorf("%d bytes are held in the end", n)
	}
}

// A body can be had as a whole while all of it is in memory and nobody has read it, and
// ends with its request.
func TestWholeBodyWhole(t *testing.T) {
	want := func(b *wholeBody, text string, ok bool) {
		t.Helper()
		if got, whole := b.Whole(); string(got) != text || whole != ok {
			t.Errorf("got %q, %v; want %q, %v", got, whole, text, ok)
		}
	}
	b := newWhole(t, 8, 0)
	b.write([]byte("1234"))
	b.write([]byte("5678"))
	want(b, "12345678", true)
	want(b, "12345678", true)
	b.Read(make([]byte, 1))
	want(b, "", false)
	b.Close()
	if n, err := b.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after Close: %d, %v", n, err)
	}

	b = newWhole(t, 8, 0)
	b.write([]byte("123456789"))
	want(b, "", false) // in a file

	ctx, cancel := context.WithCancelCause(t.Context())
	b = newWhole(t, 8, 0)
	b.ctx = ctx
	b.write([]byte("1234"))
	cancel(ErrAborted)
	want(b, "", false)
	if n, err := b.Read(make([]byte, 1)); n != 0 || err != ErrAborted {
		t.Errorf("after the end of the request: %d, %v", n, err)
	}
	if n, err := b.WriteTo(io.Discard); n != 0 || err != ErrAborted {
		t.Errorf("after the end of the request: %d, %v", n, err)
	}
}

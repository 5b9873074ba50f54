package fcgi_test

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// An upload is one of many requests on a connection.
type upload struct {
	id   uint16
	left int
	sent hash.Hash // of STDIN
	got  hash.Hash // of the answer's body
	head int       // bytes of the answer's header that have not come
	over bool
}

// newUploads are requests with bodies of up to 1 MiB, most of them smaller.
func newUploads(r *rand.Rand, n int) []*upload {
	all := make([]*upload, n)
	for i := range all {
		size := r.IntN(1<<20 + 1)
		if i%16 != 0 {
			size >>= r.IntN(12) + 1
		}
		all[i] = &upload{id: uint16(i*61 + 1), left: size, sent: sha256.New(), got: sha256.New(), head: len(plain)}
	}
	all[0].left, all[n-1].left = 1<<20, 0
	return all
}

// sendAll sends all of them at once: first what begins each, then their bodies
// in records of random sizes, in random order.
func sendAll(nc net.Conn, r *rand.Rand, all []*upload) error {
	w := bufio.NewWriter(nc)
	for _, u := range all {
		w.Write(wiretest.Begin(u.id, true))
		w.Write(wiretest.Params(u.id, "CONTENT_LENGTH", fmt.Sprint(u.left)))
	}
	open := append([]*upload(nil), all...)
	chunk := make([]byte, protocol.MaxContent)
	for len(open) > 0 {
		i := r.IntN(len(open))
		u := open[i]
		n := min(u.left, r.IntN(len(chunk))+1)
		for j := range n {
			chunk[j] = byte(j) ^ byte(u.left)
		}
		u.sent.Write(chunk[:n])
		u.left -= n
		w.Write(protocol.AppendRecord(nil, protocol.TypeStdin, u.id, chunk[:n]))
		if n > 0 && u.left == 0 {
			w.Write(wiretest.Stdin(u.id, ""))
		}
		if u.left == 0 {
			open[i] = open[len(open)-1]
			open = open[:len(open)-1]
		}
	}
	return w.Flush()
}

// receiveAll reads the answers to their ends.
func receiveAll(nc net.Conn, all []*upload) error {
	byID := make(map[uint16]*upload, len(all))
	for _, u := range all {
		byID[u.id] = u
	}
	src := bufio.NewReaderSize(nc, 1<<16)
	for len(byID) > 0 {
		rec, err := wiretest.ReadRecord(src)
		if err != nil {
			return fmt.Errorf("%d requests are open: %w", len(byID), err)
		}
		u := byID[rec.ID]
		switch {
		case u == nil:
			return fmt.Errorf("%v is of no open request", rec)
		case rec.Type == protocol.TypeStdout:
			n := min(u.head, len(rec.Content))
			u.head -= n
			io.WriteString(u.got, rec.Content[n:])
		case rec.Type == protocol.TypeEndRequest && rec.Content == strings.Repeat("\x00", 8):
			u.over = true
			delete(byID, rec.ID)
		default:
			return fmt.Errorf("unexpected %v", rec)
		}
	}
	return nil
}

// A thousand requests on one connection at once, with bodies to 1 MiB: each gets
// back what it has sent, and the server holds little of it in memory.
func TestThousandRequestsOnOneConnection(t *testing.T) {
	const requests = 1000
	for _, buffer := range []bool{false, true} {
		t.Run(fmt.Sprint("buffered ", buffer), func(t *testing.T) {
			sockets(t, func(t *testing.T, l net.Listener) {
				s := &fcgi.Server{Handler: fcgi.HandlerFunc(echo), MaxReqs: requests, MaxQueue: requests, BufferRequests: buffer, BodyMemory: 16 << 10, MaxConns: 1}
				v := serveOn(t, l, s)
				nc, err := net.Dial(l.Addr().Network(), l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer nc.Close()
				r := rand.New(rand.NewPCG(1, 2))
				all := newUploads(r, requests)
				sent := make(chan error, 1)
				go func() { sent <- sendAll(nc, r, all) }()
				if err := receiveAll(nc, all); err != nil {
					nc.Close()
					t.Error(err)
				}
				if err := <-sent; err != nil {
					t.Error(err)
				}
				for _, u := range all {
					if !u.over || string(u.got.Sum(nil)) != string(u.sent.Sum(nil)) {
						t.Errorf("request %d ended: %v, with the digest of what was sent: %v", u.id, u.over, string(u.got.Sum(nil)) == string(u.sent.Sum(nil)))
					}
				}
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				if m.HeapSys > 512<<20 {
					t.Errorf("the heap has grown to %d MiB", m.HeapSys>>20)
				}
				t.Logf("heap %d MiB", m.HeapSys>>20)
				if got := v.log.lines("level=WARN"); len(got) > 0 {
					t.Errorf("logged %.1000q", got)
				}
			})
		})
	}
}

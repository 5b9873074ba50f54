package daemon

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
	"go.uber.org/goleak"
)

// startFakeApp is a FastCGI application on a Unix socket. Each connection
// carries one request, which handle answers after its PARAMS have come.
func startFakeApp(t *testing.T, handle func(*fakeRequest)) (socket string) {
	t.Helper()
	ignored := goleak.IgnoreCurrent()
	socket = filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serveFake(t, conn, handle) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
		goleak.VerifyNone(t, ignored)
	})
	return socket
}

func serveFake(t *testing.T, conn net.Conn, handle func(*fakeRequest)) {
	defer conn.Close()
	f := &fakeRequest{t: t, conn: conn, r: protocol.NewReader(conn)}
	var raw []byte
	for {
		rec, err := f.r.Next()
		if err != nil {
			return
		}
		switch {
		case rec.Type == protocol.TypeGetValues:
			f.write(protocol.AppendGetValuesResult(nil, rec.Content, func(name string) (string, bool) {
				return "1", name != protocol.MaxConns
			}))
		case rec.Type == protocol.TypeBeginRequest:
			begin, err := protocol.ParseBegin(rec.Content)
			if err != nil {
				t.Errorf("fake application: %v", err)
			}
			f.role = begin.Role
		case rec.Type == protocol.TypeParams && len(rec.Content) > 0:
			raw = append(raw, rec.Content...)
		case rec.Type == protocol.TypeParams:
			if f.params, err = protocol.ParseParams(string(raw)); err != nil {
				t.Errorf("fake application: %v", err)
			}
			handle(f)
			return
		}
	}
}

// A fakeRequest is one request at the application's side.
type fakeRequest struct {
	t      *testing.T
	conn   net.Conn
	r      *protocol.Reader
	role   protocol.Role
	params protocol.Params
}

// next is the next piece of STDIN or DATA, io.EOF at its end, errAborted after
// an ABORT_REQUEST, and else the error of the connection.
func (f *fakeRequest) next() (string, error) {
	rec, err := f.r.Next()
	switch {
	case err != nil:
		return "", errors.Join(errAborted, err)
	case rec.Type == protocol.TypeAbortRequest:
		return "", errAborted
	case len(rec.Content) == 0:
		return "", io.EOF
	}
	return string(rec.Content), nil
}

var errAborted = errors.New("aborted")

// stdin is all of STDIN or DATA.
func (f *fakeRequest) stdin() string {
	var all strings.Builder
	for {
		piece, err := f.next()
		if err == io.EOF {
			return all.String()
		}
		if err != nil {
			f.t.Errorf("fake application: stdin: %v", err)
			return all.String()
		}
		all.WriteString(piece)
	}
}

func (f *fakeRequest) stdout(s string) {
	f.write(protocol.AppendRecord(nil, protocol.TypeStdout, 1, []byte(s)))
}

func (f *fakeRequest) stderr(s string) {
	f.write(protocol.AppendRecord(nil, protocol.TypeStderr, 1, []byte(s)))
}

func (f *fakeRequest) end(appStatus uint32, status protocol.Status) {
	f.write(protocol.AppendEnd(nil, 1, protocol.End{AppStatus: appStatus, Status: status}))
}

// write ignores a client that has gone.
func (f *fakeRequest) write(b []byte) { _, _ = f.conn.Write(b) }

// answer takes STDIN and sends a whole answer.
func (f *fakeRequest) answer(response string) {
	f.stdin()
	f.stdout(response)
	f.end(0, protocol.StatusRequestComplete)
}

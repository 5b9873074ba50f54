package wiretest

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/fcgid/fcgid/internal/protocol"
)

// StartApplication starts a FastCGI application on a Unix socket. Each connection
// carries one request, which handle answers after its PARAMS have come.
func StartApplication(t *testing.T, handle func(*AppRequest)) (socket string) {
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

func serveFake(t *testing.T, conn net.Conn, handle func(*AppRequest)) {
	defer conn.Close()
	f := &AppRequest{t: t, conn: conn, r: protocol.NewReader(conn)}
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
			f.Role = begin.Role
		case rec.Type == protocol.TypeParams && len(rec.Content) > 0:
			raw = append(raw, rec.Content...)
		case rec.Type == protocol.TypeParams:
			if f.Params, err = protocol.ParseParams(string(raw)); err != nil {
				t.Errorf("fake application: %v", err)
			}
			handle(f)
			return
		}
	}
}

// An AppRequest is one request at the application's side.
type AppRequest struct {
	t      *testing.T
	conn   net.Conn
	r      *protocol.Reader
	Role   protocol.Role
	Params protocol.Params
}

// Next is the next piece of STDIN or DATA, io.EOF at its end, ErrAborted after
// an ABORT_REQUEST, and else the error of the connection.
func (f *AppRequest) Next() (string, error) {
	rec, err := f.r.Next()
	switch {
	case err != nil:
		return "", errors.Join(ErrAborted, err)
	case rec.Type == protocol.TypeAbortRequest:
		return "", ErrAborted
	case len(rec.Content) == 0:
		return "", io.EOF
	}
	return string(rec.Content), nil
}

// ErrAborted is that of a request which the client has given up.
var ErrAborted = errors.New("aborted")

// Stdin is all of STDIN or DATA.
func (f *AppRequest) Stdin() string {
	var all strings.Builder
	for {
		piece, err := f.Next()
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

// Stdout sends a record of STDOUT.
func (f *AppRequest) Stdout(s string) {
	f.write(protocol.AppendRecord(nil, protocol.TypeStdout, 1, []byte(s)))
}

// Stderr sends a record of STDERR.
func (f *AppRequest) Stderr(s string) {
	f.write(protocol.AppendRecord(nil, protocol.TypeStderr, 1, []byte(s)))
}

// End ends the request.
func (f *AppRequest) End(appStatus uint32, status protocol.Status) {
	f.write(protocol.AppendEnd(nil, 1, protocol.End{AppStatus: appStatus, Status: status}))
}

// write ignores a client that has gone.
func (f *AppRequest) write(b []byte) { _, _ = f.conn.Write(b) }

// Answer takes STDIN and sends a whole answer.
func (f *AppRequest) Answer(response string) {
	f.Stdin()
	f.Stdout(response)
	f.End(0, protocol.StatusRequestComplete)
}

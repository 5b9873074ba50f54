package privsep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/config"
)

// A Table is what the spawner knows of a configuration.
type Table struct {
	User      config.Identity // the daemon's
	LogFormat string
	Spool     string        // the folder of the daemon's unlinked files
	Listen    []Listen      // on what it listens for the daemon
	Pools     []config.Pool // whose programs it starts
	Writes    []Write       // where the daemon writes
	Leave     time.Duration // how long a daemon that was replaced may be there
}

// faults are what is wrong with a configuration, on their way.
type faults struct {
	Faults config.Faults `json:"faults,omitempty"`
	Text   string        `json:"text,omitempty"`
}

func (f *faults) error() error {
	if len(f.Faults) > 0 {
		return f.Faults
	}
	return errors.New(f.Text)
}

// refuse is err as a spawner says it.
func refuse(err error) *Refusal {
	f := faults{Text: err.Error()}
	errors.As(err, &f.Faults)
	body, err := json.Marshal(f)
	if err != nil {
		body, _ = json.Marshal(faults{Text: f.Text})
	}
	return &Refusal{body}
}

// unrefuse is its opposite.
func unrefuse(err error) error {
	refusal, ok := errors.AsType[*Refusal](err)
	if !ok {
		return err
	}
	var f faults
	if json.Unmarshal(refusal.Body, &f) != nil {
		return err
	}
	return f.error()
}

// unseal reads such a file.
func unseal(fd int, value any) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return err
	}
	data := make([]byte, stat.Size)
	for at := 0; at < len(data); {
		n, err := unix.Pread(fd, data[at:], int64(at))
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		at += n
	}
	return json.Unmarshal(data, value)
}

// A reading is what a reader has found.
type reading struct {
	table  *Table
	bundle int // a descriptor
}

func (r *reading) close() { unix.Close(r.bundle) }

// readTime is how long a reader may take: users may be looked up over a network.
const readTime = time.Minute

// read has a process of its own read the configuration, unless this one is to end meanwhile. It is
// nil at the start where this one is to go on alone.
func (s *spawner) read(isFirst bool) (*reading, error) {
	conn, theirs, err := NewPair()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.MaxFDs = 2
	number := 0
	if isFirst {
		number = 1
	}
	reader, err := s.local.StartSelf([]string{fmt.Sprintf("%s=%s 3 %d", roleVariable, roleReader, number)}, []uintptr{0, 1, 2, uintptr(theirs)})
	unix.Close(theirs)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(s.stopping, readTime, fmt.Errorf("not done within %v", readTime))
	defer cancel()
	defer context.AfterFunc(ctx, func() { reader.Signal(unix.SIGKILL) })() // it has spoken, or never will
	m, err := conn.Receive()
	if err != nil {
		reader.Signal(unix.SIGKILL)
		<-reader.Exited()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("read the configuration: %w", context.Cause(ctx))
		}
		return nil, fmt.Errorf("read the configuration: the process that does it has ended: %s", describe(reader.Status()))
	}
	<-reader.Exited()
	return readingOf(m)
}

func readingOf(m *Message) (*reading, error) {
	defer m.Close()
	switch {
	case m.Kind == KindRefusal:
		return nil, &Refusal{m.Body}
	case len(m.FDs) == 0:
		return nil, nil
	case len(m.FDs) != 2:
		return nil, ErrBroken
	}
	r := &reading{table: new(Table), bundle: m.FDs[1]}
	if err := unseal(m.FDs[0], r.table); err != nil {
		return nil, fmt.Errorf("read the table: %w", err)
	}
	m.FDs = m.FDs[:1]
	return r, nil
}

// describe says how a process has ended.
func describe(status unix.WaitStatus) string {
	if status.Signaled() {
		return "signal: " + status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}

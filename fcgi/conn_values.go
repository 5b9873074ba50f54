package fcgi

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/fcgid/fcgid/internal/protocol"
)

const (
	// maxQuery is the longest content of the one GET_VALUES record.
	maxQuery = 8 << 10
	// maxPairLengths is what the lengths of a name and its value take at most.
	maxPairLengths = 8
)

// A query is a GET_VALUES record that waits for its answer. What it holds is
// the reader's until done is closed.
type query struct {
	done   chan struct{}
	values map[string]string
	err    error
}

// Values asks the application for variables such as [MaxConns], when no request
// is on the connection. Those that it does not know are missing in the map. When
// ctx ends first, the connection is closed and the error is context.Cause(ctx).
//
// With [MpxsConns] among the names, requests share the connection from then on
// if its value is "1", and else take turns.
//
// Few applications answer well: some close the connection after it, or know
// one name only.
func (c *Conn) Values(ctx context.Context, names ...string) (map[string]string, error) {
	size := 0
	for _, n := range names {
		size += maxPairLengths + len(n)
	}
	if size > maxQuery {
		return nil, c.explain("values", fmt.Errorf("names take more than %d bytes: ask for fewer at once", maxQuery))
	}
	if err := c.takeTurn(ctx, false); err != nil {
		return nil, err
	}
	defer c.giveTurn()
	finished := whenDone(ctx, func() { c.shut(nil) })
	values, err := c.ask(names)
	if !finished() {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		c.shut(nil)
		return nil, c.explain("values", err)
	}
	if slices.Contains(names, MpxsConns) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if values[MpxsConns] == "1" {
			c.learn(mpxYes)
		} else {
			c.learn(mpxNo)
		}
	}
	return values, nil
}

func (c *Conn) ask(names []string) (map[string]string, error) {
	q := &query{done: make(chan struct{})}
	c.mu.Lock()
	if c.shutting {
		c.mu.Unlock()
		return nil, errClosed
	}
	c.query = q
	c.startReader()
	c.mu.Unlock()

	c.writing <- struct{}{}
	_, err := c.conn.Write(protocol.AppendGetValues(nil, names...))
	<-c.writing
	if err != nil {
		c.shut(nil)
	}
	<-q.done
	if err != nil && q.err != nil {
		return nil, err
	}
	return q.values, q.err
}

// answerQuery takes a management record: the answer to the query, or none of ours.
// The reader calls it; it reports whether there is more to read.
func (c *Conn) answerQuery(rec protocol.Record) (more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.query
	if q == nil {
		return true
	}
	switch rec.Type {
	case protocol.TypeUnknownType:
		q.err = errors.New("application does not know GET_VALUES: its limits cannot be asked for")
	case protocol.TypeGetValuesResult:
		q.values, q.err = parseValues(rec.Content)
	default:
		return true
	}
	c.query = nil
	close(q.done)
	return c.goOnReading()
}

func parseValues(content []byte) (map[string]string, error) {
	params, err := protocol.ParseParams(string(content))
	if err != nil {
		return nil, fmt.Errorf("read GET_VALUES_RESULT: %w", err)
	}
	values := make(map[string]string, params.Len())
	for name, value := range params.All() {
		values[name] = value
	}
	return values, nil
}

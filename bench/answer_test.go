package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A noter writes down what answers finds.
type noter struct{ notes []string }

func (n *noter) stdout(id int, p []byte) error {
	n.notes = append(n.notes, fmt.Sprintf("%d:%s", id, p))
	return nil
}

func (n *noter) ended(id int) error {
	n.notes = append(n.notes, fmt.Sprintf("%d ended", id))
	return nil
}

func endRecord(id int, app, status byte) []byte {
	return appendRecord(nil, typeEnd, id, []byte{0, 0, 0, app, status, 0, 0, 0})
}

func TestAnswers(t *testing.T) {
	wire := appendRecord(nil, typeStdout, 1, []byte("a"))
	wire = appendRecord(wire, typeStdout, 2, nil)
	wire = append(wire, 1, typeEnd, 0, 2, 0, 8, 3, 0) // padded
	wire = append(wire, make([]byte, 8+3)...)
	wire = append(wire, endRecord(1, 0, 0)...)
	want := []string{"1:a", "2 ended", "1 ended"}
	for size := 1; size <= len(wire); size++ {
		var a answers
		var n noter
		for piece := range slices.Chunk(wire, size) {
			if err := a.feed(piece, &n); err != nil {
				t.Fatalf("pieces of %d bytes: %v", size, err)
			}
		}
		if !slices.Equal(n.notes, want) || a.headLen != 0 {
			t.Errorf("pieces of %d bytes: %q", size, n.notes)
		}
	}
}

func TestWrongAnswers(t *testing.T) {
	for _, test := range []struct {
		name string
		wire []byte
		want string
	}{
		{"version", []byte("HTTP/1.1 400"), "version 72"},
		{"appStatus", endRecord(1, 3, 0), "appStatus 3"},
		{"protocolStatus", endRecord(1, 0, 2), "protocolStatus 2"},
		{"stderr", appendRecord(nil, typeStderr, 1, []byte("oops\n")), "STDERR: oops"},
		{"type", appendRecord(nil, 11, 0, nil), "type 11"},
		{"short end", appendRecord(nil, typeEnd, 1, []byte("1234")), "4 bytes"},
	} {
		var a answers
		if err := a.feed(test.wire, &noter{}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

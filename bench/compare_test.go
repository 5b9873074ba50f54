package main

import (
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// A side that does not answer does not decide how much the others are asked for.
func TestHalveLeavesOutWhatFails(t *testing.T) {
	carries := func(rate float64) side {
		return side{measure: func(*rig, *side) (sample, error) { return sample{requestRate: rate}, nil }}
	}
	sides := []side{carries(900), carries(600), {measure: func(*rig, *side) (sample, error) { return nil, io.EOF }}}
	if note := new(rig).halve(sides); note != "at 300 requests/s" || sides[2].problem == nil {
		t.Errorf("%s, %v", note, sides[2].problem)
	}
}

// Who fails since the server has ended says how it has.
func TestProblemOfServerThatHasEnded(t *testing.T) {
	p, err := start(t.TempDir(), exec.Command("sh", "-c", "echo out of luck; exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	<-p.done
	s := side{server: &server{process: p}, measure: func(*rig, *side) (sample, error) { return nil, io.EOF }}
	if s.sample(nil); !errors.Is(s.problem, io.EOF) || !strings.Contains(s.problem.Error(), "(exit status 3): out of luck") {
		t.Error(s.problem)
	}
}

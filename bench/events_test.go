package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The times of a stream are that of the first byte, and the longest one without any.
func TestArrivalTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &arrivalTimes{began: time.Now()}
		for _, pause := range []time.Duration{70, 50, 0, 60, 55} {
			time.Sleep(pause * time.Millisecond)
			a.stdout(1, []byte("x"))
		}
		if a.first != 70*time.Millisecond || a.gap != 60*time.Millisecond || a.total != 5 {
			t.Errorf("%+v", a)
		}
	})
}

// Each client has whole streams, or says what is wrong with one.
func TestEvents(t *testing.T) {
	socket := fcgiServer(t, func(w http.ResponseWriter, _ *http.Request) {
		for i := range eventCount {
			fmt.Fprintf(w, "data: event %012d\n\n", i)
			w.(http.Flusher).Flush()
		}
	})
	request := eventRequest("/events")
	s := &side{server: &server{network: "unix", address: socket}, load: load{request: request, conns: 2}}
	var err error
	if s.load.answer, err = verify("unix", socket, request); err != nil {
		t.Fatal(err)
	}
	m, err := measureEvents(&rig{ctx: t.Context()}, s)
	if err != nil || m[firstByte] <= 0 || m[longestGap] <= 0 {
		t.Errorf("%v %v", m, err)
	}
	s.load.answer++
	if _, err := measureEvents(&rig{ctx: t.Context()}, s); err == nil || !strings.Contains(err.Error(), "not") {
		t.Errorf("of a stream that is too short: %v", err)
	}
}

// The programs that write events write as many and as large ones as are waited for.
func TestEventPrograms(t *testing.T) {
	if n := len(fmt.Sprintf("data: event %012d\n\n", 0)); n != eventBytes {
		t.Errorf("an event has %d bytes", n)
	}
	for name, loop := range map[string]string{"events.c": "i < 20;", "events.php": "$i < 20;"} {
		text, err := programs.ReadFile("programs/" + name)
		if err != nil || !strings.Contains(string(text), loop) || !strings.Contains(string(text), `data: event %012d\n\n`) {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}

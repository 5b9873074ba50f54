package main

import (
	"fmt"
	"net/http"
	"os"
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

func TestProportionalSize(t *testing.T) {
	if n, err := proportionalSize(os.Getpid()); err != nil || n < 1 || n > 10_000 {
		t.Errorf("%v MiB, %v", n, err)
	}
	if n, err := sizeIn("Rss:  1 kB\nPss:     2048 kB\nPss_Anon:  3 kB\n", "Pss:"); n != 2048 || err != nil {
		t.Errorf("%v, %v", n, err)
	}
	if _, err := sizeIn("Rss: 1 kB\n", "Pss:"); err == nil {
		t.Error("no error")
	}
}

// A pool's part of the configuration names programs by their path.
func TestPoolText(t *testing.T) {
	for _, p := range pools {
		text := poolText(p.name)
		if !strings.HasPrefix(text, "  - name: "+p.name+"\n") || strings.Contains(text, "PHP-CGI") || strings.Contains(text, "GIT-") {
			t.Errorf("%s", text)
		}
	}
	if text := poolText("git"); !strings.Contains(text, "/git-http-backend]") {
		t.Errorf("%s", text)
	}
}

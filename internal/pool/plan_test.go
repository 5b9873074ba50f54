package pool

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/wiretest"
)

func inode(t *testing.T, file string) os.FileInfo {
	t.Helper()
	info, err := os.Lstat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

const (
	poolA = "{name: a, listen: unix:%D/a, function: {names: [one]}}"
	poolB = "{name: b, listen: unix:%D/b, function: {names: [two]}}"
)

// A pool whose configuration is as before keeps all that it has.
func TestUnchangedPoolIsUntouched(t *testing.T) {
	s := newTestSet(t)
	w := workerText("w", "w", "old")
	s.configure(w, poolA)
	before, socket := s.running()["w"], inode(t, filepath.Join(s.dir, "w"))
	settings, workers, at := before.settings, before.workers, before.endpoints["unix:"+s.dir+"/w"]
	s.configure(w, poolA, poolB)
	s.configure(poolB, w)
	after := s.running()["w"]
	if after != before || after.workers != workers || after.settings.Runner != settings.Runner || after.endpoints["unix:"+s.dir+"/w"] != at {
		t.Error("it is not what it was")
	}
	if !os.SameFile(inode(t, filepath.Join(s.dir, "w")), socket) {
		t.Error("its socket was made anew")
	}
	if got := s.ask("w", "x"); got != "old" {
		t.Errorf("it answers %q", got)
	}
	if got := s.ask("b", "two"); got != "two" {
		t.Errorf("the new pool answers %q", got)
	}
	if _, err := os.Lstat(filepath.Join(s.dir, "a")); err == nil {
		t.Error("the socket of a pool that is gone stays")
	}
}

// A socket that one pool gives up and another one wants goes over, with all that
// waits in it.
func TestAddressMoves(t *testing.T) {
	s := newTestSet(t)
	s.configure(poolA, poolB)
	socket := inode(t, filepath.Join(s.dir, "a"))
	s.configure("{name: a, listen: unix:%D/c, function: {names: [one]}}", "{name: b, listen: [unix:%D/a, unix:%D/b], function: {names: [two]}}")
	if !os.SameFile(inode(t, filepath.Join(s.dir, "a")), socket) {
		t.Error("the socket was made anew")
	}
	for socket, want := range map[string]string{"a": "two", "b": "two", "c": "one"} {
		s.answers(socket, want, want)
	}
	s.configure(poolB, poolA) // and back, by other names
	for socket, want := range map[string]string{"a": "one", "b": "two"} {
		s.answers(socket, want, want)
	}
	polltest.Until(t, "the end of the socket that nobody wants any more", func() bool {
		_, err := os.Lstat(filepath.Join(s.dir, "c"))
		return err != nil
	})
}

// So do the connections that are open: each request on them begins under the pool that
// has the address, and what had begun with the old one ends there.
func TestConnectionsMoveWithTheirAddress(t *testing.T) {
	s := newTestSet(t)
	runs, end := filepath.Join(s.dir, "runs"), filepath.Join(s.dir, "end")
	s.script("p", "touch "+runs+"; while ! [ -e "+end+" ]; do sleep 0.01; done; printf 'Content-Type: text/plain\\r\\n\\r\\nold'\n")
	s.configure("{name: old, listen: unix:%D/a, process: {root: [%D]}}")
	nc, err := net.Dial("unix", filepath.Join(s.dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	send := func(id uint16, script string) {
		if _, err := nc.Write(wiretest.Get(id, true, "REQUEST_METHOD", "GET", "SCRIPT_FILENAME", s.expand(script))); err != nil {
			t.Fatal(err)
		}
	}
	want := func(id uint16, body string) {
		t.Helper()
		answer := ""
		for {
			r, err := wiretest.ReadRecord(nc)
			if err != nil {
				t.Fatalf("request %d: %v", id, err)
			}
			if r.ID == id && r.Type == protocol.TypeStdout {
				answer += r.Content
			}
			if r.ID == id && r.Type == protocol.TypeEndRequest {
				break
			}
		}
		if !strings.HasSuffix(answer, "\r\n\r\n"+body) {
			t.Errorf("request %d is answered %q, want %q", id, answer, body)
		}
	}
	send(1, "%D/p")
	polltest.Until(t, "the program runs", func() bool { _, err := os.Stat(runs); return err == nil })

	s.configure("{name: new, listen: unix:%D/a, function: {names: [one]}}")
	send(2, "one")
	want(2, "one")
	pools := s.Status()
	if len(pools) != 2 || pools[0].Name != "new" || pools[0].Connections != 1 || pools[1].State != "draining" || pools[1].Connections != 0 || len(pools[1].Requests) != 1 {
		t.Errorf("the pools are %+v", pools)
	}
	s.configure(workerText("newer", "a", "worker"), poolB) // and on
	send(3, "x")
	want(3, "worker")
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want(1, "old")
	polltest.Until(t, "the old pools are gone", func() bool { return len(s.Status()) == 2 })
	s.configure(poolA, workerText("newer", "c", "worker")) // the pool that gives it up goes on
	send(4, "one")
	want(4, "one")
	if got := s.ask("c", "x"); got != "worker" {
		t.Errorf("the pool at its new address answers %q", got)
	}
}

// So do those of a socket that another one replaces: since its file was gone, or since the
// address becomes wider or narrower. Each request on them begins under the pool that has
// the name by which the client had reached it; where nobody has it, they end.
func TestConnectionsMoveToAnotherSocket(t *testing.T) {
	one := func(name, address string) string {
		return "{name: " + name + ", function: {names: [one]}, " + address + "}"
	}
	two := func(name, address string) string {
		return "{name: " + name + ", function: {names: [two]}, " + address + "}"
	}
	unix := "listen: 'unix:%D/a'"
	local := "listen: 'tcp:127.0.0.1:%P'"
	all := "listen: {address: 'tcp:0.0.0.0:%P', allow: [127.0.0.0/8]}"
	other := "listen: 'tcp:127.0.0.2:%P'"
	for name, c := range map[string]struct {
		before, after, network string
		ends                   bool
	}{
		"file gone":                {one("a", unix), two("a", unix), "unix", false},
		"file gone, another pool":  {one("a", unix), two("b", unix), "unix", false},
		"wider":                    {one("a", local), two("a", all), "tcp", false},
		"wider, another pool":      {one("a", local), two("b", all), "tcp", false},
		"narrower":                 {one("a", all), two("a", local), "tcp", false},
		"narrower, another pool":   {one("a", all), two("b", local), "tcp", false},
		"narrower, not this name":  {one("a", all), two("a", other), "tcp", true},
		"another name of the host": {one("a", local), two("a", other), "tcp", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestSet(t)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
			_, port, _ := net.SplitHostPort(l.Addr().String())
			at := func(text string) string { return strings.ReplaceAll(text, "%P", port) }
			s.configure(at(c.before))
			address := map[string]string{"unix": filepath.Join(s.dir, "a"), "tcp": "127.0.0.1:" + port}[c.network]
			nc, err := net.Dial(c.network, address)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			ask := func(function string) (answer string, err error) {
				if _, err := nc.Write(wiretest.Get(1, true, "REQUEST_METHOD", "GET", "SCRIPT_FILENAME", function)); err != nil {
					return "", err
				}
				for {
					r, err := wiretest.ReadRecord(nc)
					if err != nil || r.Type == protocol.TypeEndRequest {
						return answer, err
					}
					answer += r.Content
				}
			}
			if got, err := ask("one"); err != nil || !strings.HasSuffix(got, "one") {
				t.Fatalf("before: %q, %v", got, err)
			}
			if c.network == "unix" {
				if err := os.Remove(address); err != nil {
					t.Fatal(err)
				}
			}
			s.configure(at(c.after))
			if c.ends {
				if _, err := wiretest.ReadRecord(nc); err == nil {
					t.Error("something comes instead of the end")
				}
				return
			}
			for range 3 { // the old socket has come to its end in between, or not
				if got, err := ask("two"); err != nil || !strings.HasSuffix(got, "two") {
					t.Errorf("after: %q, %v", got, err)
				}
				polltest.Until(t, "one pool has one connection", func() bool {
					pools := s.Status()
					return len(pools) == 1 && pools[0].Connections == 1
				})
			}
		})
	}
}

// Two pools may exchange their addresses.
func TestAddressesAreExchanged(t *testing.T) {
	s := newTestSet(t)
	s.configure(poolA, poolB)
	s.configure("{name: a, listen: unix:%D/b, function: {names: [one]}}", "{name: b, listen: unix:%D/a, function: {names: [two]}}")
	for socket, want := range map[string]string{"a": "two", "b": "one"} {
		s.answers(socket, want, want)
	}
}

// A configuration that cannot be taken over as a whole leaves no trace: sockets
// that were opened or taken, modes, and what the pools do.
func TestRefusalUndoesEverything(t *testing.T) {
	s := newTestSet(t)
	s.configure("{name: a, listen: [{address: unix:%D/a, mode: \"0600\"}], function: {names: [one]}}", poolB)
	busy, err := net.Listen("unix", filepath.Join(s.dir, "busy"))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for name, last := range map[string]string{
		"address in use":    "{name: z, listen: unix:%D/busy, function: {}}",
		"no such folder":    "{name: z, listen: unix:%D/none/z, function: {}}",
		"a file in its way": "{name: z, listen: unix:%D/fcgid.yaml, function: {}}",
	} {
		files, _ := filepath.Glob(filepath.Join(s.dir, "*"))
		before := s.Status()
		err := s.refused(
			"{name: a, listen: [{address: unix:%D/a, mode: \"0666\"}, unix:%D/new], process: {root: [%D]}}",
			"{name: c, listen: unix:%D/b, function: {names: [one]}}", // takes b's
			last)
		if !strings.Contains(err.Error(), s.dir) {
			t.Errorf("%s: the error %q does not say which address", name, err)
		}
		now, _ := filepath.Glob(filepath.Join(s.dir, "*"))
		if len(now) != len(files) {
			t.Errorf("%s: there are %q, before there were %q", name, now, files)
		}
		if mode := inode(t, filepath.Join(s.dir, "a")).Mode().Perm(); mode != 0o600 {
			t.Errorf("%s: the mode of a's socket is %o", name, mode)
		}
		for socket, want := range map[string]string{"a": "one", "b": "two"} {
			if got := s.ask(socket, want); got != want {
				t.Errorf("%s: %s answers %q, want %q", name, socket, got, want)
			}
		}
		if after := s.Status(); len(after) != len(before) || after[0].Runner != "function" {
			t.Errorf("%s: the pools are %v", name, after)
		}
	}
	s.configure(poolA, "{name: c, listen: unix:%D/b, function: {names: [one]}}")
	s.answers("b", "one", "one")
}

// A plan that is dropped though nothing was wrong with it leaves no trace either:
// another part of the daemon may have refused.
func TestUndoneMoveKeepsTheSocket(t *testing.T) {
	s := newTestSet(t)
	s.configure(poolA)
	p, err := s.plan("{name: other, listen: [{address: unix:%D/a, mode: \"0600\"}, unix:%D/new], function: {names: [two]}}")
	if err != nil {
		t.Fatal(err)
	}
	p.Undo()
	if got := s.ask("a", "one"); got != "one" {
		t.Errorf("the old pool answers %q", got)
	}
	if mode := inode(t, filepath.Join(s.dir, "a")).Mode().Perm(); mode != 0o660 {
		t.Errorf("the mode is %o, want the old one", mode)
	}
	if _, err := os.Lstat(filepath.Join(s.dir, "new")); err == nil {
		t.Error("the socket that was opened stays")
	}
}

// A pool may become any other kind, and a process pool's programs those of another.
func TestKindChanges(t *testing.T) {
	s := newTestSet(t)
	s.script("p", "printf 'Content-Type: text/plain\\r\\n\\r\\nprogram'\n")
	texts := map[string]string{
		"one":     poolA,
		"program": "{name: a, listen: unix:%D/a, process: {root: [%D]}}",
		"worker":  workerText("a", "a", "worker"),
		"another": workerText("a", "a", "another"),
	}
	for _, kind := range []string{"one", "program", "worker", "another", "program", "one", "worker", "one"} {
		s.configure(texts[kind])
		script := "%D/p"
		if kind == "one" {
			script = "one"
		}
		// Until a worker of a changed command has started, the old one answers.
		polltest.Until(t, "a is "+kind, func() bool { return s.ask("a", script) == kind })
	}
	if n := len(s.Status()); n != 1 {
		t.Errorf("there are %d pools", n)
	}
}

// A socket whose file somebody has removed comes back by the next reload, also of
// the same configuration, and nothing else changes.
func TestLostSocketComesBack(t *testing.T) {
	s := newTestSet(t)
	s.configure(poolA, poolB)
	other := inode(t, filepath.Join(s.dir, "b"))
	for range 2 {
		if err := os.Remove(filepath.Join(s.dir, "a")); err != nil {
			t.Fatal(err)
		}
		s.configure(poolA, poolB)
		s.answers("a", "one", "one")
		if mode := inode(t, filepath.Join(s.dir, "a")).Mode().Perm(); mode != 0o660 {
			t.Errorf("its mode is %o", mode)
		}
	}
	if !os.SameFile(inode(t, filepath.Join(s.dir, "b")), other) {
		t.Error("a socket that was not lost was made anew")
	}
	if n := len(s.running()["a"].endpoints); n != 1 {
		t.Errorf("the pool has %d endpoints", n)
	}
	if err := os.Remove(filepath.Join(s.dir, "a")); err != nil {
		t.Fatal(err)
	}
	s.configure("{name: c, listen: unix:%D/a, function: {names: [one]}}", poolB) // by another pool
	s.answers("a", "one", "one")
}

// What has taken the place of a socket is not ours to remove: the reload is refused
// and says so.
func TestOccupiedPlaceOfALostSocket(t *testing.T) {
	s := newTestSet(t)
	s.configure(poolA)
	path := filepath.Join(s.dir, "a")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.refused(poolA); !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "address in use") {
		t.Errorf("the error is %q", err)
	}
	other.Close()
	s.configure(poolA)
	s.answers("a", "one", "one")
}

// An address of TCP may become wider or narrower, in the same pool or another; only a
// socket that is to stay is in the way, and is named.
func TestTCPAddressChangesItsWidth(t *testing.T) {
	s := newTestSet(t)
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(probe.Addr().String())
	probe.Close()
	at := func(pool, function, host string) string {
		return "{name: " + pool + ", listen: {address: \"tcp:" + host + ":" + port + "\", allow: [127.0.0.0/8]}, function: {names: [" + function + "]}}"
	}
	for _, pools := range []string{
		at("a", "one", "127.0.0.1"), at("a", "one", "0.0.0.0"), at("a", "one", "localhost"), at("a", "one", "127.0.0.1"),
		at("b", "one", "0.0.0.0"), at("c", "one", "127.0.0.1"),
	} {
		s.configure(pools)
		polltest.Until(t, "it answers", func() bool { return s.ask("tcp:127.0.0.1:"+port, "one") == "one" }) // the old socket may be about to close
	}
	err = s.refused(at("c", "one", "127.0.0.1"), at("d", "two", "0.0.0.0"))
	if want := "pool c listens on tcp:127.0.0.1:" + port; !strings.Contains(err.Error(), want) {
		t.Errorf("the error is %q, want %q in it", err, want)
	}
	s.answers("tcp:127.0.0.1:"+port, "one", "one")
}

// A folder of two names does not make two sockets of one.
func TestSocketByAnotherName(t *testing.T) {
	s := newTestSet(t)
	if err := os.Symlink(s.dir, filepath.Join(s.dir, "link")); err != nil {
		t.Fatal(err)
	}
	s.configure(poolA)
	socket := inode(t, filepath.Join(s.dir, "a"))
	s.configure("{name: a, listen: [{address: unix:%D/link/a, mode: \"0600\"}], function: {names: [one]}}")
	s.answers("a", "one", "one")
	if now := inode(t, filepath.Join(s.dir, "a")); !os.SameFile(now, socket) || now.Mode().Perm() != 0o600 {
		t.Error("the socket was made anew, or has its old mode")
	}
	err := s.refused("{name: a, listen: [unix:%D/link/a, unix:%D/a], function: {names: [one]}}")
	if want := "pool a listens on unix:" + s.dir + "/link/a"; !strings.Contains(err.Error(), want) {
		t.Errorf("the error is %q, want %q in it", err, want)
	}
	s.answers("a", "one", "one")
}

func TestStopTime(t *testing.T) {
	s := newTestSet(t)
	for _, test := range []struct {
		pools []string
		want  time.Duration // shutdown_timeout is 5s
	}{
		{[]string{"{name: p, listen: unix:%D/p, process: {root: [%D], kill_grace: 7s}}"}, 12 * time.Second},
		{[]string{workerText("p", "p", "one", "stop_grace: 3s")}, 11 * time.Second},
		{[]string{"{name: p, listen: unix:%D/p, function: {names: [one]}}"}, 6 * time.Second},
		{[]string{"{name: p, listen: unix:%D/p, function: {names: [one]}}", workerText("w", "w", "one", "stop_grace: 1m")}, 125 * time.Second},
	} {
		s.configure(test.pools...)
		if got := s.StopTime(); got != test.want {
			t.Errorf("%s: %v, want %v", test.pools, got, test.want)
		}
	}

	// One that drains has the time that it had.
	runs, end := filepath.Join(s.dir, "runs"), filepath.Join(s.dir, "end")
	s.script("waits", "touch "+runs+"; while ! [ -e "+end+" ]; do sleep 0.01; done; printf 'Content-Type: text/plain\\n\\n'\n")
	s.configure("{name: old, listen: unix:%D/old, process: {root: [%D], kill_grace: 1m}}")
	answer := make(chan string)
	go func() { answer <- s.ask("old", "%D/waits") }()
	polltest.Until(t, "the program runs", func() bool { _, err := os.Stat(runs); return err == nil })
	s.configure(poolA)
	polltest.Until(t, "the pool that drains counts, and it alone", func() bool { return s.StopTime() == 65*time.Second })
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	<-answer
	polltest.Until(t, "the pool is gone", func() bool { return s.StopTime() == 6*time.Second })
}

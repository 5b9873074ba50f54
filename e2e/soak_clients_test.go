//go:build e2e && soak

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/protocol"
)

// soakGood are the requests that must be answered, by pool: the script, and whether it has a
// body.
var soakGood = []struct {
	pool, script string
	body         int
}{
	{"cgi", "cgi/hello", 0}, {"cgi", "cgi/count", 100}, {"cgi", "cgi/count", 100_000},
	{"boxed", "cgi/hello", 0}, {"owned", "owned/hello", 0}, {"owned", "owned/count", 50_000},
	{"php", "cgi/hello.php", 0}, {"php", "cgi/hello.php", 70_000},
}

// good has clients ask what must be answered, on connections that they keep, and on others.
func (s *soak) good() {
	for client := range 6 {
		var kept = make(map[string]*fcgi.Conn)
		n := client
		s.repeat(60*time.Millisecond, func() {
			n++
			g := soakGood[n%len(soakGood)]
			query := fmt.Sprint(client, "-", n)
			want := "hello " + query + " "
			if strings.HasSuffix(g.script, "count") {
				want = fmt.Sprint(g.body)
			}
			if err := s.ask(kept, g.pool, g.script, query, g.body, want, client%2 == 0); err != nil {
				s.fault("%s %s: %v", g.pool, g.script, err)
			}
			s.answered.Add(1)
		})
	}
	s.repeat(200*time.Millisecond, func() {
		c, err := net.Dial("tcp", s.address)
		if err != nil {
			s.fault("ping: %v", err)
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		c.Write(request(1, params("fcgid.ping"), ""))
		if !s.ends(c) {
			s.fault("ping: no answer")
		}
		s.answered.Add(1)
	})
}

// ends reads until the end of request 1.
func (s *soak) ends(c net.Conn) bool {
	reader := protocol.NewReader(c)
	for {
		rec, err := reader.Next()
		if err != nil {
			return false
		}
		if rec.Type == protocol.TypeEndRequest {
			return true
		}
	}
}

func (s *soak) ask(kept map[string]*fcgi.Conn, pool, script, query string, body int, want string, keep bool) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := kept[pool]
	if c == nil {
		if c, err = fcgi.Dial(ctx, "unix:@"+s.address+"-"+pool); err != nil {
			return err
		}
	}
	req := &fcgi.Request{Params: params(s.dir+"/"+script, "QUERY_STRING", query), Close: !keep}
	if body > 0 {
		req.Stdin = bytes.NewReader(bytes.Repeat([]byte("x"), body))
		req.Params.Set("REQUEST_METHOD", "POST")
		req.Params.Set("CONTENT_LENGTH", fmt.Sprint(body))
	}
	var out bytes.Buffer
	req.Stdout = &out
	res, err := c.Do(ctx, req)
	if keep && err == nil {
		kept[pool] = c
	} else {
		c.Close()
		delete(kept, pool)
	}
	_, answer, _ := strings.Cut(out.String(), "\r\n\r\n")
	switch {
	case err != nil:
		return err
	case res != (fcgi.Result{}) || !strings.HasPrefix(answer, want) || strings.HasPrefix(out.String(), "Status:"):
		return fmt.Errorf("%+v %.200q, want %q", res, out.String(), want)
	}
	return nil
}

// hostiles begins what other clients do.
func (s *soak) hostiles() {
	for name, attack := range map[string]func(pool string, c net.Conn){
		"cut": s.cut, "slow sender": s.slowSender, "slow reader": s.slowReader, "garbage": s.garbage,
		"abort": s.abort, "leaves": s.leaves, "flood": s.flood, "names": s.names,
	} {
		for range 2 {
			s.repeat(150*time.Millisecond, func() { s.attack(name, attack) })
		}
	}
	s.repeat(2*time.Second, s.crowd)
	for range 4 {
		s.repeat(120*time.Millisecond, s.badProgram)
	}
}

// soakAttacked are the pools that hostile clients speak to: all of them.
var soakAttacked = []string{"cgi", "boxed", "owned", "php", "bad"}

func (s *soak) attack(_ string, attack func(pool string, c net.Conn)) {
	pool := soakAttacked[rand.N(len(soakAttacked))]
	c, err := net.Dial("unix", "@"+s.address+"-"+pool)
	if err != nil {
		s.fault("connect to %s: %v", pool, err)
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	attack(pool, c)
	s.hostile.Add(1)
}

// scriptOf is one of a pool that answers.
func (s *soak) scriptOf(pool, name string) string {
	switch pool {
	case "owned":
		return s.dir + "/owned/" + name
	case "php":
		return s.dir + "/cgi/hello.php"
	}
	return s.dir + "/cgi/" + name
}

func (s *soak) cut(pool string, c net.Conn) {
	whole := request(1, params(s.scriptOf(pool, "hello")), "body")
	c.Write(whole[:rand.N(len(whole))])
}

func (s *soak) slowSender(pool string, c net.Conn) {
	for _, b := range request(1, params(s.scriptOf(pool, "hello")), "body")[:40] {
		if _, err := c.Write([]byte{b}); err != nil || !s.pause(30*time.Millisecond) {
			return
		}
	}
}

func (s *soak) slowReader(_ string, c net.Conn) {
	c.Write(request(1, params(s.dir+"/bad/floods"), ""))
	for range 10 {
		if _, err := io.CopyN(io.Discard, c, 20_000); err != nil || !s.pause(100*time.Millisecond) {
			return
		}
	}
}

func (s *soak) garbage(_ string, c net.Conn) {
	b := make([]byte, rand.N(3000))
	for i := range b {
		b[i] = byte(rand.N(256))
	}
	if rand.N(2) == 0 {
		b = append([]byte{1}, b...) // a version that there is
	}
	c.Write(b)
}

// abort has a program be started, and says that nobody wants it.
func (s *soak) abort(pool string, c net.Conn) {
	c.Write(request(1, params(s.scriptOf(pool, "waits")), ""))
	s.pause(rand.N(200 * time.Millisecond))
	c.Write(protocol.AppendRecord(nil, protocol.TypeAbortRequest, 1, nil))
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	s.ends(c)
}

// leaves has one be started, and goes.
func (s *soak) leaves(pool string, c net.Conn) {
	c.Write(request(1, params(s.scriptOf(pool, "waits")), strings.Repeat("x", rand.N(100_000))))
	s.pause(rand.N(200 * time.Millisecond))
}

// flood sends much that means nothing, and reads nothing.
func (s *soak) flood(pool string, c net.Conn) {
	var flood []byte
	switch rand.N(4) {
	case 0:
		for id := range 2000 {
			flood = append(flood, begin(uint16(id+1), protocol.RoleResponder, true)...)
		}
	case 1:
		flood = bytes.Repeat(protocol.AppendGetValues(nil, fcgi.MaxConns, fcgi.MaxReqs), 3000)
	case 2:
		for id := range uint16(50) {
			flood = append(flood, begin(id+1, protocol.RoleResponder, true)...)
			flood = protocol.AppendRecord(flood, protocol.TypeParams, id+1, make([]byte, 30000))
		}
	default:
		for id := range uint16(20) { // more than may run, on one connection
			flood = append(flood, request(id+1, params(s.scriptOf(pool, "hello")), "")...)
		}
	}
	c.SetDeadline(time.Now().Add(time.Second))
	c.Write(flood)
}

// names asks for what is no script.
func (s *soak) names(pool string, c net.Conn) {
	names := []string{"/etc/passwd", s.dir + "/cgi/../../etc/passwd", "/proc/self/root" + s.dir + "/cgi/hello", s.dir + "/cgi/none", "/dev/zero", s.dir + "/cgi", "hello", "", s.dir + "/cgi/hello\x00"}
	c.Write(request(1, params(names[rand.N(len(names))], "LD_PRELOAD", "/x.so", "HTTP_PROXY", "x", "X-"+strings.Repeat("y", rand.N(5000)), "z"), ""))
	s.ends(c)
}

// crowd opens many connections at once, and lets go of them.
func (s *soak) crowd() {
	for range 150 {
		c, err := net.DialTimeout("unix", "@"+s.address+"-cgi", time.Second)
		if err != nil {
			return
		}
		defer c.Close()
		c.Write(begin(1, protocol.RoleResponder, true))
	}
	s.hostile.Add(1)
	s.pause(500 * time.Millisecond)
}

// badProgram has one of the bad ones run, to its end or until its client has had enough.
func (s *soak) badProgram() {
	names := slices.Sorted(maps.Keys(badPrograms))
	pool := "bad"
	if rand.N(10) == 0 {
		pool = "badworker" // which may not be there
	}
	c, err := net.Dial("unix", "@"+s.address+"-"+pool)
	if err != nil {
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(rand.N(8 * time.Second)))
	c.Write(request(1, params(s.dir+"/bad/"+names[rand.N(len(names))]), strings.Repeat("x", rand.N(50_000))))
	s.ends(c)
	s.hostile.Add(1)
}

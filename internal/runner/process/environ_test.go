package process_test

import (
	"fmt"
	"os/user"
	"slices"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/process"
)

// A program gets the environment that package cgi makes of its params, and the
// script is its one argument, whatever the query says (CVE-2012-1823).
func TestEnvironmentOfProgram(t *testing.T) {
	t.Setenv("FCGID_TEST_SECRET", "of the daemon")
	p := &program{process.New(options{Software: "fcgid/test", Env: []string{"A=env"}}), "/usr/bin/env"}
	c := p.call("HTTP_X", "1", "LD_PRELOAD", "/evil", "QUERY_STRING", "-i").run(t, p)
	got := slices.Sorted(strings.Lines(c.out.String()))
	want := []string{"A=env\n", "GATEWAY_INTERFACE=CGI/1.1\n", "HTTP_X=1\n",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
		"QUERY_STRING=-i\n", "SCRIPT_FILENAME=/usr/bin/env\n", "SERVER_SOFTWARE=fcgid/test\n"}
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, "HOME="+u.HomeDir+"\n", "USER="+u.Username+"\n", "LOGNAME="+u.Username+"\n")
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("environment is %q, want %q", got, want)
	}

	// Nothing of that request is in the next one's (CVE-2011-2766).
	c = p.call("HTTP_Y", "2").run(t, p)
	if out := c.out.String(); strings.Contains(out, "HTTP_X") || strings.Contains(out, "QUERY_STRING=-i") || !strings.Contains(out, "HTTP_Y=2\n") {
		t.Errorf("after that the environment is %q", out)
	}

	p = shell(t, `printf '%s,' "$0" "$@"; printf '%s' "$REDIRECT_STATUS"`)
	p.call("QUERY_STRING", "-s+-d+x").run(t, p).want(t, 0, p.path+",200")
	p.call("REDIRECT_STATUS", "404").run(t, p).want(t, 0, p.path+",404")
}

// All strings together are more than the kernel takes.
func TestTooManyStrings(t *testing.T) {
	var pairs []string
	for i := range 64 {
		pairs = append(pairs, fmt.Sprintf("X%d", i), strings.Repeat("v", 120<<10))
	}
	p := shell(t, "")
	p.call(pairs...).run(t, p).wantRefusal(t, 431, 431, "the environment is larger than the kernel takes")
}

// The program is told the id of its request; what the pool sets wins.
func TestRequestIDOfProgram(t *testing.T) {
	p := shell(t, "printf %s $REQUEST_ID")
	c := p.call()
	c.ID = protocol.Identify(&c.Params)
	c.run(t, p).want(t, 0, c.ID.String())
	p = shell(t, "printf %s $REQUEST_ID", func(o *options) { o.Env = []string{"REQUEST_ID=mine"} })
	c = p.call()
	c.ID = protocol.Identify(&c.Params)
	c.run(t, p).want(t, 0, "mine")
}

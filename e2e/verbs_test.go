//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/internal/cli"
)

// A verb is a command that asks a running daemon, or tells it to do something.
type verb struct {
	args []string // NUMBER is that of a request that runs, FILE the configuration
	says string   // when it has done it, to a pool of workers named cgi
}

// verbs are all, in an order in which one daemon can be told them.
var verbs = []verb{
	{[]string{"status"}, "POOL"},
	{[]string{"top", "--once"}, "1 running"},
	{[]string{"requests"}, "running"},
	{[]string{"check", "--diff", "-c", "FILE"}, "unchanged"},
	{[]string{"kill", "NUMBER"}, "of pool cgi ended"},
	{[]string{"pause", "cgi"}, "wait in its queue"},
	{[]string{"resume", "cgi"}, "takes requests"},
	{[]string{"drain", "cgi"}, "takes no requests"},
	{[]string{"resume", "cgi"}, "takes requests"},
	{[]string{"scale", "cgi", "2"}, "worker.max is 2"},
	{[]string{"recycle", "cgi"}, "workers replaced"},
	{[]string{"reload"}, "reloaded "},
	{[]string{"upgrade"}, "upgraded: "},
}

// of are the arguments for a daemon with that control socket and file, and a request that
// runs there.
func (v *verb) of(control, file string, request uint64) []string {
	var args []string
	for _, arg := range append(slices.Clone(v.args), "--control", control) {
		args = append(args, strings.NewReplacer("NUMBER", fmt.Sprint(request), "FILE", file).Replace(arg))
	}
	return args
}

// Each command that talks to a daemon is one of verbs. So TestEveryVerb tells it to a
// daemon, and TestOrdersOfOthers has somebody try who may not.
func TestVerbsAreAll(t *testing.T) {
	t.Parallel()
	var talk, tested []string
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Flags().Lookup("control") != nil {
			talk = append(talk, strings.TrimPrefix(cmd.CommandPath(), "fcgid "))
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(cli.Commands("fcgid"))
	for _, v := range verbs {
		if !slices.Contains(tested, v.args[0]) {
			tested = append(tested, v.args[0])
		}
	}
	slices.Sort(talk)
	slices.Sort(tested)
	if !slices.Equal(talk, tested) {
		t.Errorf("with --control there are %q, tested are %q", talk, tested)
	}
}

// Each verb does what it says.
func TestEveryVerb(t *testing.T) {
	t.Parallel()
	u := newUpgradable(t, false, "- {name: cgi, listen: 'unix:DIR/s', "+cPool(t, "scale: static, max: 1")+"}\n")
	s := &site{t: t, daemon: u.daemon, dir: u.dir, network: "unix", address: u.dir + "/s"}
	g := newGate(t, u.dir)
	running := s.later("gate")
	g.arrive(1)
	request := s.status(t).Pools[0].Requests[0].ID
	for _, v := range verbs {
		code, stdout, stderr := fcgid(t, "/", nil, v.of(u.dir+"/control", u.file, request)...)
		output{code, stdout, stderr}.is(t, v.args[0], 0, v.says)
		if v.args[0] == "kill" {
			if a := wait(t, "the killed request", running.c); a.AppStatus != 503 {
				t.Errorf("the killed request: %+v", a)
			}
		}
	}
	if now := u.running(); now == u.Process.Pid || now == 0 {
		t.Errorf("after the upgrade process %d answers", now)
	}
}

//go:build e2e

package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// A host is a network namespace, which a process keeps: it ends with that, and so do its
// addresses and cables. Nothing of it is seen outside of it.
type host struct {
	t    testing.TB
	pid  int
	name string
}

// newHost makes one with its loopback alone. Where the kernel does not let us, the test is
// skipped.
func newHost(t testing.TB, name string) *host {
	t.Helper()
	if out, err := exec.Command(need(t, "unshare"), "--net", "true").CombinedOutput(); err != nil {
		t.Skipf("this machine lets us make no network namespaces: %v: %s", err, out)
	}
	keeper := harness.Start(t, exec.Command(need(t, "unshare"), "--net", "sh", "-euc", "ip link set lo up; echo up; exec sleep infinity"))
	await(t, "the host "+name, func() bool {
		if keeper.Exited() {
			t.Fatalf("host %s: %v: %s", name, keeper.Err, keeper.Out)
		}
		return strings.Contains(keeper.Out.String(), "up")
	})
	return &host{t, keeper.Process.Pid, name}
}

// command is what runs a program on the host.
func (h *host) command(program string, args ...string) *exec.Cmd {
	return exec.Command(need(h.t, "nsenter"), append([]string{fmt.Sprintf("--net=/proc/%d/ns/net", h.pid), program}, args...)...)
}

// makeSwitch makes the host the one that all others are plugged into, with an address of
// that network.
func (h *host) makeSwitch(address string) {
	h.t.Helper()
	cmd := h.command("sh", "-euc", "ip link add switch type bridge; ip address add "+address+" dev switch; ip link set switch up")
	if out, err := cmd.CombinedOutput(); err != nil {
		if strings.Contains(string(out), "Unknown device type") || strings.Contains(string(out), "not supported") {
			h.t.Skipf("this machine's kernel has no bridges: %s", out)
		}
		h.t.Fatalf("%v: %s", err, out)
	}
}

// plugInto lays a cable to a switch.
func (h *host) plugInto(to *host, address string) {
	h.t.Helper()
	port := "to-" + h.name
	run(h.t, to.command("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(h.pid)))
	run(h.t, to.command("ip", "link", "set", port, "master", "switch", "up"))
	run(h.t, h.command("sh", "-euc", "ip address add "+address+" dev eth0; ip link set eth0 up"))
}

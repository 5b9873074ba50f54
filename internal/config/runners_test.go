package config

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func mustLoadWorker(t *testing.T, block string) *Worker {
	t.Helper()
	return mustLoad(t, worker(block)).Pools[0].Worker
}

func TestWorkerValues(t *testing.T) {
	got := mustLoadWorker(t, `
    command: [/usr/bin/php-cgi, -d, x=1]
    root: [/srv]
    extensions: [.php, .phar]
    scale: dynamic
    max: 32768
    min: 0
    min_spare: 0
    max_spare: 32768
    concurrency: 32768
    spawn_rate: 1000
    idle_timeout: 0
    max_requests: 2147483647
    max_lifetime: 1s
    max_memory: 1MiB
    start_timeout: 100ms
    stop_signal: sigUsr1
    stop_grace: 0
    warm_up: [SCRIPT_FILENAME=/srv/ping.php, QUERY_STRING=]
    reload: always
    dispatch: fifo
    dir: /srv
    stderr: client`)
	want := &Worker{
		Command: []string{"/usr/bin/php-cgi", "-d", "x=1"}, Root: []string{"/srv"}, Extensions: []string{".php", ".phar"}, Connections: "managed", Scale: "dynamic", Max: 32768, MaxSpare: 32768,
		Concurrency: 32768, SpawnRate: 1000, MaxRequests: 1<<31 - 1, MaxLifetime: time.Second, MaxMemory: 1 << 20,
		StartTimeout: 100 * time.Millisecond, StopSignal: syscall.SIGUSR1,
		WarmUp: []string{"SCRIPT_FILENAME=/srv/ping.php", "QUERY_STRING="}, Reload: "always", Dispatch: "fifo", Dir: "/srv", Stderr: "client",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// No key alone is at odds with a default.
func TestWorkerBends(t *testing.T) {
	type numbers struct{ Max, Min, MinSpare, MaxSpare int }
	tests := []struct {
		keys string
		want numbers
	}{
		{"", numbers{8, 1, 1, 4}},
		{"max: 2", numbers{2, 1, 1, 2}},
		{"max: 1", numbers{1, 1, 1, 1}},
		{"max: 100", numbers{100, 1, 1, 4}},
		{"min: 0", numbers{8, 0, 1, 4}},
		{"min: 20", numbers{20, 20, 1, 4}},
		{"min_spare: 0", numbers{8, 1, 0, 4}},
		{"min_spare: 6", numbers{8, 1, 6, 6}},
		{"min_spare: 20", numbers{20, 1, 20, 20}},
		{"max_spare: 0", numbers{8, 1, 0, 0}},
		{"max_spare: 20", numbers{20, 1, 1, 20}},
		{"min: 30, max_spare: 20", numbers{30, 30, 1, 20}},
		{"max: 3, min_spare: 2", numbers{3, 1, 2, 3}},
		{"max: 30, min_spare: 20", numbers{30, 1, 20, 20}},
		{"scale: static, max: 2", numbers{2, 1, 1, 4}},
		{"scale: static, min: 20", numbers{8, 20, 1, 4}},
		{"scale: ondemand, max: 2", numbers{2, 1, 1, 4}},
	}
	for _, tt := range tests {
		w := mustLoadWorker(t, "{command: [/x], "+tt.keys+"}")
		if got := (numbers{w.Max, w.Min, w.MinSpare, w.MaxSpare}); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.keys, got, tt.want)
		}
	}
}

// A key that a pool takes from another by an alias or a merge counts as given.
func TestWorkerBendsMerged(t *testing.T) {
	c := mustLoad(t, `
pools:
- name: a
  listen: unix:/a
  worker: &w {command: [/x], max_spare: 6}
- name: b
  listen: unix:/b
  worker: {<<: *w, min: 20}
`)
	if w := c.Pools[1].Worker; w.MaxSpare != 6 || w.Max != 20 {
		t.Errorf("max_spare is %d and max %d, want 6 and 20", w.MaxSpare, w.Max)
	}
}

func TestStopSignals(t *testing.T) {
	for text, want := range map[string]syscall.Signal{
		"SIGTERM": syscall.SIGTERM, "TERM": syscall.SIGTERM, "term": syscall.SIGTERM, "sigquit": syscall.SIGQUIT,
		"Usr2": syscall.SIGUSR2, "KILL": syscall.SIGKILL, "'WINCH'": syscall.SIGWINCH,
	} {
		c := mustLoad(t, worker("{command: [/x], stop_signal: "+text+"}"))
		if got := c.Pools[0].Worker.StopSignal; got != want {
			t.Errorf("stop_signal: %s is %v, want %v", text, got, want)
		}
		if got := reload(t, c).Pools[0].Worker.StopSignal; got != want {
			t.Errorf("stop_signal: %s is %v after a dump, want %v", text, got, want)
		}
	}
	for _, name := range stopSignals {
		if s, err := parseSignal(name); err != nil || s == 0 {
			t.Errorf("%s is signal %d: %v", name, s, err)
		}
	}
}

// A key of a runner with nothing after it is that runner with its defaults.
func TestFunctionForms(t *testing.T) {
	for text, want := range map[string][]string{
		"":                         {},
		"~":                        {},
		"{}":                       {},
		"{names: []}":              {},
		"{names: [b, fcgid.ping]}": {"b", "fcgid.ping"},
	} {
		c := mustLoad(t, "pools:\n- name: a\n  listen: unix:/run/a\n  function: "+text+"\n")
		p := c.Pools[0]
		if p.Function == nil || p.Process != nil || p.Worker != nil {
			t.Fatalf("function: %s: %+v", text, p)
		}
		if diff := cmp.Diff(want, p.Function.Names); diff != "" {
			t.Errorf("function: %s (-want +got):\n%s", text, diff)
		}
	}
}

// A dump has the block that the pool has, and can be loaded again.
func TestYAMLOfRunners(t *testing.T) {
	c := mustLoad(t, worker("{command: [/usr/bin/php-cgi], max: 2, max_memory: 256MiB, stop_signal: quit}")+
		"- {name: b, listen: unix:/b, function: , slow: {after: 5s}}\n"+
		"- {name: c, listen: unix:/c, worker: {command: [/x], scale: static, max: 2}}\n")
	data, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, want := range []string{
		"      max: 2\n", "      max_spare: 2\n", "      max_memory: 256MiB\n", "      stop_signal: SIGQUIT\n",
		"    function:\n      names: []\n", "      after: 5s\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	for block, want := range map[string]int{"process:": 0, "worker:": 2, "function:": 1, "slow:": 3} {
		if n := strings.Count(text, "    "+block+"\n"); n != want {
			t.Errorf("%s appears %d times, want %d:\n%s", block, n, want, text)
		}
	}
	if diff := cmp.Diff(c, reload(t, c), ignorePlaces); diff != "" {
		t.Errorf("from YAML (-want +got):\n%s", diff)
	}
}

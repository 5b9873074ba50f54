package config

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// Diff says what was and what is, as the file has it, and shows no value that may be secret.
func TestDiff(t *testing.T) {
	const before = `
log: {level: info}
shutdown_timeout: 30s
pools:
  - name: shop
    listen: [{address: "unix:/run/a", mode: "0660"}]
    timeout: 30s
    env: [TOKEN=hunter2, OLD=hunter2, SAME=hunter2, B=1]
    pass_env: [PATH, LANG]
    limits: {body: 1MiB, multiplex: true}
    worker: {command: [/bin/true, -a], max: 10, stop_signal: SIGTERM, warm_up: [SCRIPT_FILENAME=/srv/hunter2]}
`
	tests := map[string]struct{ old, new, want string }{
		"a number":        {"max: 10", "max: 4", "worker.max 10→4"},
		"a duration":      {"timeout: 30s\n    env", "timeout: 1h\n    env", "timeout 30s→1h"},
		"a size":          {"body: 1MiB", "body: 1536KiB", "limits.body 1MiB→1536KiB"},
		"a truth":         {"multiplex: true", "multiplex: false", "limits.multiplex true→false"},
		"a signal":        {"SIGTERM", "SIGUSR1", "worker.stop_signal SIGTERM→SIGUSR1"},
		"a mode":          {`"0660"`, `"0600"`, "listen[0].mode 0660→0600"},
		"an address":      {"unix:/run/a", "unix:/run/b", "listen[0].address unix:/run/a→unix:/run/b"},
		"two addresses":   {"listen: [", "listen: [{address: tcp:127.0.0.1:9000}, ", "listen [unix:/run/a]→[tcp:127.0.0.1:9000, unix:/run/a]"},
		"a list":          {"[PATH, LANG]", "[PATH]", "pass_env [PATH, LANG]→[PATH]"},
		"an empty list":   {"[PATH, LANG]", "[]", "pass_env [PATH, LANG]→[]"},
		"a command":       {"[/bin/true, -a]", "[/bin/true, 'two words']", `worker.command [/bin/true, -a]→[/bin/true, "two words"]`},
		"empty":           {"pass_env:", "user: root\n    pass_env:", `user ""→root`},
		"secret":          {"TOKEN=hunter2", "TOKEN=hunter3", "env TOKEN changed"},
		"many secrets":    {"TOKEN=hunter2, OLD=hunter2", "TOKEN=x, A=hunter2, NEW=hunter2", "env TOKEN changed, A and NEW added, OLD removed"},
		"order":           {"SAME=hunter2, B=1", "B=1, SAME=hunter2", "env in another order"},
		"a secret script": {"SCRIPT_FILENAME=/srv/hunter2", "SCRIPT_FILENAME=/srv/x", "worker.warm_up SCRIPT_FILENAME changed"},
		"another kind":    {"worker: {command: [/bin/true, -a], max: 10, stop_signal: SIGTERM, warm_up: [SCRIPT_FILENAME=/srv/hunter2]}", "process: {root: [/srv]}", "process added, worker removed"},
		"two keys":        {"timeout: 30s\n    env", "timeout: 1m\n    silence: 5s\n    env", "timeout 30s→1m, silence 0s→5s"},
		"what 0 was":      {"multiplex: true", "multiplex: true, max_reqs: 3", "limits.max_reqs 0 (10)→3"},
		"nothing":         {"a", "a", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(before, tt.old) {
				t.Fatalf("%q is not there", tt.old)
			}
			a, b := mustLoad(t, before), mustLoad(t, strings.Replace(before, tt.old, tt.new, 1))
			got := strings.Join(a.Pools[0].Diff(&b.Pools[0]), ", ")
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if strings.Contains(got, "hunter") {
				t.Errorf("a secret: %q", got)
			}
		})
	}
	a, b := mustLoad(t, before), mustLoad(t, strings.NewReplacer("level: info", "level: debug", "shutdown_timeout: 30s", "access_log: {output: /x y}").Replace(before))
	if got, want := strings.Join(a.Diff(b), ", "), `log.level info→debug, access_log.output ""→"/x y"`; got != want {
		t.Errorf("global: got %q, want %q", got, want)
	}
	for pool, want := range map[string]string{
		"process: {root: [/srv]}":                                fmt.Sprintf("limits.max_reqs 3→0 (%d)", 4*runtime.GOMAXPROCS(0)),
		"function: {names: [a]}":                                 "limits.max_reqs 3→0 (1024)",
		"worker: {command: [/bin/true], max: 2, concurrency: 3}": "limits.max_reqs 3→0 (6)",
	} {
		text := "pools: [{name: a, listen: unix:/run/a, " + pool + ", limits: {max_reqs: 3}}]\n"
		a, b := mustLoad(t, text), mustLoad(t, strings.Replace(text, "max_reqs: 3", "max_reqs: 0", 1))
		if got := strings.Join(a.Pools[0].Diff(&b.Pools[0]), ", "); got != want {
			t.Errorf("%s: got %q, want %q", pool, got, want)
		}
	}
	long := mustLoad(t, strings.Replace(before, "-a]", strings.Repeat("ä", 100)+"]", 1))
	if got := a.Pools[0].Diff(&long.Pools[0]); len(got) != 1 || len([]rune(got[0])) > 150 || !strings.HasSuffix(got[0], "ä…") {
		t.Errorf("a long value: %q", got)
	}
}

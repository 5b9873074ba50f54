package pool

import (
	"os"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/polltest"
)

// A reload that changes a key replaces the workers if the key's tag says so. Of keys that
// take root or a kernel's help, the tags are those of their like: a user is one, and what a
// sandbox has is compared as a whole.
func TestKeysThatReplaceWorkers(t *testing.T) {
	values := map[string]string{
		"env": "[POOL_TEST_WORKER=other]", "pass_env": "[PATH, POOL_TEST_OTHER]",
		"timeout": "7s", "silence": "7s", "on_client_abort": "kill", "pass_params": "[HOME]", "status_path": "/status", "ping_path": "/ping",
		"limits.max_reqs": "7", "limits.body": "7MiB", "limits.request_buffering": "false", "limits.queue_timeout": "7s",
		"slow.after": "7s", "sandbox.required": "true",
		"sandbox.umask": `"0077"`, "sandbox.nice": "7", "sandbox.oom_score_adj": "7", "sandbox.no_new_privs": "true", "sandbox.rlimits": "[nofile=77]",
		"worker.command": "[%P, more]", "worker.dir": "%D", "worker.warm_up": "[SCRIPT_FILENAME=/x]", "worker.root": "[/]", "worker.extensions": "[.x]",
		"worker.max": "7", "worker.max_requests": "7000", "worker.max_lifetime": "7h", "worker.idle_timeout": "7s", "worker.concurrency": "7",
		"worker.start_timeout": "7s", "worker.stop_signal": "SIGUSR1", "worker.stop_grace": "7s", "worker.dispatch": "fifo", "worker.long_params": "true",
	}
	t.Setenv("POOL_TEST_OTHER", "it is there")
	tags := make(map[string]string)
	for _, k := range config.Keys() {
		if path, ok := strings.CutPrefix(k.Path, "pools[]."); ok {
			tags[path] = k.Reload
		}
	}
	s := newTestSet(t)
	var names, before, after []string
	for path, value := range values {
		if _, ok := tags[path]; !ok {
			t.Errorf("there is no key %s", path)
		}
		names = append(names, path)
		before, after = append(before, poolWith(path, "", "")), append(after, poolWith(path, path, value))
	}
	s.configure(before...)
	for _, path := range names {
		polltest.Until(t, "a worker is idle", func() bool {
			list := s.running()[path].workers.status(true).List
			return len(list) == 1 && list[0].State == "idle"
		})
	}
	s.configure(after...)
	for _, path := range names {
		if got, want := s.Replaces(path), tags[path] == config.ReloadsWorkers; got > 0 != want {
			t.Errorf("%s: a reload replaces %d workers; its tag is %q", path, got, tags[path])
		}
	}
}

// poolWith is the text of a pool of one worker with that key, if it is one.
func poolWith(name, path, value string) string {
	program, err := os.Executable()
	if err != nil {
		panic(err)
	}
	pool := map[string]string{"name": name, "listen": "unix:%D/" + name, "env": "[POOL_TEST_WORKER=a]"}
	worker := map[string]string{"command": "[%P]", "scale": "static", "max": "1"}
	switch holder, key, nested := strings.Cut(path, "."); {
	case holder == "worker":
		worker[key] = value
	case nested:
		pool[holder] = "{" + key + ": " + value + "}"
	case path != "":
		pool[path] = value
	}
	pool["worker"] = flow(worker)
	return strings.ReplaceAll(flow(pool), "%P", program)
}

// flow is a mapping of YAML on one line.
func flow(m map[string]string) string {
	var items []string
	for key, value := range m {
		items = append(items, key+": "+value)
	}
	return "{" + strings.Join(items, ", ") + "}"
}

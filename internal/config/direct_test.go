package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Each key that only the daemon between web server and worker could obey is refused where it
// is given, also with the value that is its default.
func TestDirectRefuses(t *testing.T) {
	values := map[string]string{
		"limits.max_conns": "1024", "limits.max_reqs": "7", "limits.multiplex": "true", "limits.queue": "1", "limits.queue_timeout": "1s",
		"limits.params": "64KiB", "limits.body": "1MiB", "limits.body_memory": "64KiB", "limits.request_buffering": "true",
		"limits.answer_spool": "1MiB", "limits.spool": "1MiB", "limits.single_fields": "[X]",
		"limits.read_timeout": "1s", "limits.write_timeout": "1s", "limits.idle_timeout": "1s",
		"timeout": "0", "silence": "0", "on_client_abort": "kill", "pass_params": "[X]",
		"status_path": "/s", "ping_path": "/p", "ping_response": "pong", "slow": "{after: 1s}",
		"worker.root": "[/srv]", "worker.extensions": "[.php]", "worker.concurrency": "1", "worker.dispatch": "lifo",
		"worker.stderr": "log", "worker.long_params": "false", "worker.min": "1", "worker.min_spare": "1", "worker.max_spare": "1",
		"worker.idle_timeout": "1s", "worker.max_requests": "1", "worker.max_memory": "2MiB", "worker.warm_up": "[A=b]", "worker.start_timeout": "1s",
	}
	for _, k := range undirectKeys {
		value, ok := values[k.key]
		if !ok {
			t.Errorf("no value for %s", k.key)
		}
		pool, worker := k.key+": "+value, ""
		if holder, key, nested := strings.Cut(k.key, "."); nested {
			if pool = holder + ": {" + key + ": " + value + "}"; holder == "worker" {
				pool, worker = "", ", "+key+": "+value
			}
		}
		_, err := load(t, directPool("unix:/run/a", pool, worker))
		if err == nil || !strings.Contains(err.Error(), "."+k.key+": "+k.why) || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("%s: %v", k.key, err)
		}
		if _, err = load(t, strings.Replace(directPool("unix:/run/a", pool, worker), "direct", "managed", 1)); err != nil {
			t.Errorf("%s of managed workers: %v", k.key, err)
		}
	}
}

// What is left is for direct workers too.
func TestDirectTakes(t *testing.T) {
	for _, text := range []string{
		directPool("unix:/run/a", "env: [A=b], pass_env: [PATH], limits: {stderr_rate: 1MiB}, sandbox: {nice: 3}",
			", max: 3, spawn_rate: 1, max_lifetime: 1h, stop_signal: SIGUSR1, stop_grace: 1m, reload: always, dir: /"),
		directPool("unix:@a", "", ""), directPool("tcp:127.0.0.1:9000", "", ""), directPool("'tcp:[::1]:9000'", "", ""),
	} {
		if _, err := load(t, text); err != nil {
			t.Errorf("%s%v", text, err)
		}
	}
}

func TestDirectAddresses(t *testing.T) {
	for listen, want := range map[string]string{
		"[unix:/run/a, unix:/run/b]": "listen[1]: connections: direct needs one address",
		"systemd:a":                  "connections: direct is for sockets that the daemon makes",
		"{address: 'tcp:0.0.0.0:1', allow: 10.0.0.0/8}":   "is open to other machines",
		"{address: 'tcp:127.0.0.1:1', allow: 10.0.0.0/8}": "allow: " + noConnections,
		"{address: 'unix:/a', allow_uids: [7]}":           "allow_uids: " + noConnections,
	} {
		if _, err := load(t, directPool(listen, "", "")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", listen, err, want)
		}
	}
	_, err := load(t, strings.Replace(directPool("unix:/a", "", ""), "static", "dynamic", 1))
	if err == nil || !strings.Contains(err.Error(), "connections: direct needs static") {
		t.Errorf("dynamic: %v", err)
	}
}

// Each program is warned of once, with all its pools, and PHP of what is PHP's.
func TestDirectWarns(t *testing.T) {
	text := "access_log: {output: stdout}\npools:\n"
	pools := ""
	for _, p := range [][2]string{{"a", "/x"}, {"b", "/usr/bin/php-cgi"}, {"c", "/usr/bin/php-cgi8.3"}, {"d", "/usr/bin/php-cgi"}} {
		pools += "- {name: " + p[0] + ", listen: unix:/" + p[0] + ", worker: {command: " + p[1] + ", connections: direct, scale: static}}\n"
	}
	c, err := load(t, text+pools)
	if err != nil {
		t.Fatal(err)
	}
	var about []string
	for _, line := range warningLines(c) {
		at, _, _ := strings.Cut(line, ": ")
		_, named, _ := strings.Cut(line, "in all pools of ")
		if strings.Contains(line, "access_log.output") {
			named = line[strings.LastIndex(line, ": "):]
		}
		about = append(about, fmt.Sprint(at, " ", strings.Contains(line, "fastcgi_keep_conn"), strings.Contains(line, "CVE-2026-129289"), " ", named))
	}
	want := []string{
		"f:3:65 true false /x: a", "f:3:65 false false : a, b, c, d",
		"f:4:79 true true /usr/bin/php-cgi: b, d", "f:5:82 true true /usr/bin/php-cgi8.3: c",
	}
	if diff := cmp.Diff(want, about); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func directPool(listen, pool, worker string) string {
	if pool != "" {
		pool = ", " + pool
	}
	return "pools:\n- {name: a, listen: " + listen + pool + ", worker: {command: [/x], connections: direct, scale: static" + worker + "}}\n"
}

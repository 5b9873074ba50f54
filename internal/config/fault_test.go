package config

import (
	"strings"
	"testing"
)

// pool is a pool of which the given line replaces the one with the same key.
func pool(line string) string {
	key, _, _ := strings.Cut(line, ":")
	lines := strings.SplitAfter(one, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "  "+key+":") {
			lines[i] = "  " + line + "\n"
			return strings.Join(lines, "")
		}
	}
	return one + "  " + line + "\n"
}

// worker is a pool with the given worker block.
func worker(block string) string {
	return "pools:\n- name: a\n  listen: unix:/run/a\n  worker: " + block + "\n"
}

const signalNames = "SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH, SIGALRM, SIGABRT, SIGKILL"

var faultTests = []struct {
	name, text string
	want       []string
}{
	{"empty", "", []string{"f:1:1: pools: no pools"}},
	{"comment", "# nothing\n", []string{"f:1:1: pools: no pools"}},
	{"null document", "---\n", []string{"f:1:1: pools: no pools"}},
	{"no pools", "log: {level: info}\n", []string{"f:1:1: pools: no pools"}},
	{"empty pools", "pools: []\n", []string{"f:1:8: pools: no pools"}},
	{"root is a list", "[]\n", []string{"f:1:1: must be a mapping, not a list"}},
	{"root is a word", "x\n", []string{"f:1:1: must be a mapping, not a string"}},
	{"two documents", one + "---\n" + one, []string{"f:5:1: a second YAML document: one file holds one"}},

	{"syntax, line 1", "a: b: c\n", []string{"f:1: mapping values are not allowed in this context"}},
	{"syntax, line 2", "a: 1\n b: 2\n", []string{"f:2:2: wrong indentation: this line begins in column 2, and what is above it in column 1"}},
	{"tab", "a:\n\tb: 1\n", []string{"f:2:1: a tab: YAML is indented with spaces only"}},
	{"control character", "a: 1\nb: \x01\n", []string{"f:2: control characters are not allowed"}},
	{"not UTF-8", "a: 1\nb: 2\nc: \xff\n", []string{"f:3: invalid leading UTF-8 octet"}},
	{"unknown anchor", "a: 1\nb: *x\nc: 1\n", []string{"f:2: unknown anchor 'x' referenced"}},

	{"pools is a number", "pools: 3\n", []string{"f:1:8: pools: must be a list, not a number"}},
	{"pool is a list", "pools: [[]]\n", []string{"f:1:9: pools[0]: must be a mapping, not a list"}},
	{"null", "log:\npools:\n-\n", []string{"f:1:5: log: needs a value", "f:3:2: pools[0]: needs a value"}},
	{"string wanted, list", "log: {level: [info]}\n" + one, []string{"f:1:14: log.level: must be a string, not a list"}},
	{"string wanted, number", pool("env: [A=1, 2]"), []string{"f:5:14: pools[0].env[1]: must be a string, not a number: put it in quotes"}},
	{"string wanted, true", "log: {level: true}\n" + one, []string{"f:1:14: log.level: must be a string, not true or false: put it in quotes"}},
	{"string wanted, date", pool("on_client_abort: 2020-01-01"), []string{"f:5:20: pools[0].on_client_abort: must be a string, not a date: put it in quotes"}},
	{"list wanted, string", "pools: x\n", []string{"f:1:8: pools: must be a list, not a string"}},
	{"list wanted, mapping", pool("pass_env: {A: 1}"), []string{"f:5:13: pools[0].pass_env: must be a list, not a mapping"}},
	{"pairs", pool("env: {A: [1], B: , 1C: x, D: 1, D: 2}"), []string{
		"f:5:12: pools[0].env.A: needs a value, as text",
		"f:5:20: pools[0].env.B: needs a value, as text",
		`f:5:26: pools[0].env.1C: "1C=x" is not NAME=value`,
		"f:5:35: pools[0].env.D: given twice, first in line 5",
	}},
	{"mapping wanted, string", pool("limits: none"), []string{"f:5:11: pools[0].limits: must be a mapping, not a string"}},
	{"boolean", pool("limits: {multiplex: yes, request_buffering: 1}"), []string{
		`f:5:23: pools[0].limits.multiplex: must be true or false, not "yes"`,
		`f:5:47: pools[0].limits.request_buffering: must be true or false, not "1"`,
	}},
	{"custom tag", pool("on_client_abort: !x kill"), []string{"f:5:20: pools[0].on_client_abort: must be a string, not a value tagged !x: put it in quotes"}},

	{"unknown keys", "lgo: {level: x}\nzzz: 1\nmax_reqs: 1\n" + one, []string{
		"f:1:1: lgo: unknown key (did you mean log?)",
		"f:2:1: zzz: unknown key",
		"f:3:1: max_reqs: unknown key",
	}},
	{"unknown keys of a pool", pool("limits: {qeue: 1}\n  max_req: 1\n  Timeout: 0\n  timout: 0"), []string{
		"f:5:12: pools[0].limits.qeue: unknown key (did you mean queue?)",
		"f:6:3: pools[0].max_req: unknown key (did you mean limits.max_reqs?)",
		"f:7:3: pools[0].Timeout: unknown key (did you mean timeout?)",
		"f:8:3: pools[0].timout: unknown key (did you mean timeout?)",
	}},
	{"key of the pool in its worker", worker("{command: [/bin/sh], timeout: 5s, env: [A=1]}"), []string{
		"f:4:32: pools[0].worker.timeout: unknown key: it is one of the pool, not of worker",
		"f:4:45: pools[0].worker.env: unknown key: it is one of the pool, not of worker",
	}},
	{"key of the pool in a listen", pool("listen: [{address: unix:/a, timeout: 5s}]"), []string{
		"f:3:31: pools[0].listen[0].timeout: unknown key: it is one of the pool, not of listen",
	}},
	{"ambiguous sizes", pool("limits: {body: 256M, body_memory: 64k, params: 1.5G}"), []string{
		`f:5:18: pools[0].limits.body: "256M" could be either of two sizes: write 256MiB or 256MB`,
		`f:5:37: pools[0].limits.body_memory: "64k" could be either of two sizes: write 64KiB or 64KB`,
		`f:5:50: pools[0].limits.params: "1.5G" could be either of two sizes: write 1.5GiB or 1.5GB`,
	}},
	{"unknown key of a listen", pool("listen: {adress: unix:/a}"), []string{"f:3:12: pools[0].listen.adress: unknown key (did you mean address?)"}},
	{"unknown key that was meant to be required", "pool: []\n", []string{"f:1:1: pool: unknown key (did you mean pools?)"}},
	{"unknown key beside the right one", pool("timeout: 5\n  timout: 5"), []string{
		`f:5:12: pools[0].timeout: "5" needs a unit, for example 30s`,
		"f:6:3: pools[0].timout: unknown key (did you mean timeout?)",
	}},
	{"key with a dot", "log.level: info\n" + one, []string{`f:1:1: "log.level": unknown key`}},
	{"key is a list", "[a]: 1\n" + one, []string{`f:1:1: "?": a key must be a word`}},
	{"duplicate keys", "log: {level: info, level: warn}\n" + one + "log: {}\n", []string{
		"f:1:20: log.level: given twice, first in line 1",
		"f:6:1: log: given twice, first in line 1",
	}},
	{"merge of a word", "log: {<<: x}\n" + one, []string{"f:1:11: log: << needs a mapping or a list of them"}},
	{"merge of itself", "log: &a {<<: *a}\n" + one, []string{"f:1:6: log: << merges a mapping into itself"}},
	{"alias bomb", "log: {<<: &e [&d [&c [&b [&a [{x: 1},{x: 1},{x: 1},{x: 1},{x: 1},{x: 1},{x: 1},{x: 1},{x: 1},{x: 1}]," +
		strings.Repeat("*a,", 19) + "]," + strings.Repeat("*b,", 19) + "]," + strings.Repeat("*c,", 19) + "]," + strings.Repeat("*d,", 19) + "]}\n" + one,
		[]string{"f:1:32: log.x: unknown key", "f:1:59: aliases unfold to too many values"}},

	{"pool without anything", "pools:\n- {}\n", []string{
		"f:2:3: pools[0].name: needs a name",
		"f:2:3: pools[0].listen: needs at least one address",
		"f:2:3: pools[0]: needs process, worker or function: what the pool runs",
	}},
	{"pool names", one + "- {name: a, listen: unix:/b, process: {root: [/]}}\n- {name: a b, listen: unix:/c, process: {root: [/]}}\n", []string{
		"f:5:10: pools[1].name: already used at f:2:9 (pools[0].name)",
		`f:6:10: pools[2].name: "a b" may hold letters, digits, '_', '.' and '-' only`,
	}},
	{"two runners", "pools:\n- {name: a, listen: unix:/a, worker: {command: [x]}, process: {root: [/]}}\n- {name: b, listen: unix:/b, function: {}, process: {root: [x]}, worker: }\n", []string{
		`f:2:49: pools[0].worker.command[0]: "x" is not an absolute path`,
		"f:2:63: pools[0].process: a pool has one of process, worker and function, and this one has worker at f:2:38",
		"f:3:53: pools[1].process: a pool has one of process, worker and function, and this one has function at f:3:40",
		`f:3:61: pools[1].process.root[0]: "x" is not an absolute path`,
		"f:3:74: pools[1].worker: a pool has one of process, worker and function, and this one has function at f:3:40",
		"f:3:74: pools[1].worker.command: needs a program that accepts FastCGI connections on fd 0: its absolute path, then its arguments",
	}},
	{"a runner of the wrong shape", "pools:\n- {name: a, listen: unix:/a, worker: 3}\n- {name: b, listen: unix:/b, function: [x]}\n- {name: c, listen: unix:/c, function: {}, worker: x}\n", []string{
		"f:2:38: pools[0].worker: must be a mapping, not a number",
		"f:3:40: pools[1].function: must be a mapping, not a list",
		"f:4:52: pools[2].worker: must be a mapping, not a string",
	}},
	{"misspelled runners", "pools:\n- {name: a, listen: unix:/a, proces: {}}\n- {name: b, listen: unix:/b, wroker: {}}\n- {name: c, listen: unix:/c, functions: {}}\n", []string{
		"f:2:30: pools[0].proces: unknown key (did you mean process?)",
		"f:3:30: pools[1].wroker: unknown key (did you mean worker?)",
		"f:4:30: pools[2].functions: unknown key (did you mean function?)",
	}},
	{"keys of a runner beside it", worker("{command: [/x]}\n  stder: log\n  kill_grace: 1s\n  max_request: 5\n  comand: [/y]\n  name: [z]"), []string{
		"f:5:3: pools[0].stder: unknown key (did you mean worker.stderr?)",
		"f:6:3: pools[0].kill_grace: unknown key",
		"f:7:3: pools[0].max_request: unknown key (did you mean worker.max_requests?)",
		"f:8:3: pools[0].comand: unknown key (did you mean worker.command?)",
		"f:9:3: pools[0].name: given twice, first in line 2",
	}},
	{"null runners", "pools:\n- {name: a, listen: unix:/a, worker: }\n- {name: b, listen: unix:/b, process: ~}\n", []string{
		"f:2:38: pools[0].worker.command: needs a program that accepts FastCGI connections on fd 0: its absolute path, then its arguments",
		"f:3:39: pools[1].process.root: needs at least one folder, unless scripts is given",
	}},

	{"worker without command", worker("{max: 2, comand: [x]}\n- {name: b, listen: unix:/b, worker: {command: []}}"), []string{
		"f:4:20: pools[0].worker.comand: unknown key (did you mean command?)",
		"f:5:48: pools[1].worker.command: needs a program that accepts FastCGI connections on fd 0: its absolute path, then its arguments",
	}},
	{"worker command", worker(`{command: [php-cgi, "a\0", 3]}`) + `- {name: b, listen: unix:/b, worker: {command: /usr/bin/php-cgi -b}}` + "\n" + `- {name: c, listen: unix:/c, worker: {command: ["", ""]}}` + "\n", []string{
		`f:4:22: pools[0].worker.command[0]: "php-cgi" is not an absolute path`,
		`f:4:31: pools[0].worker.command[1]: "a\x00" contains NUL`,
		`f:4:38: pools[0].worker.command[2]: must be a string, not a number: put it in quotes`,
		`f:5:48: pools[1].worker.command: must be a list of words: write [/usr/bin/php-cgi, -b]`,
		`f:6:49: pools[2].worker.command[0]: "" is not an absolute path`,
	}},
	{"worker reload", worker("{command: [/x], reload: allways}"), []string{
		`f:4:35: pools[0].worker.reload: "allways" is not one of changed, always (did you mean always?)`,
	}},
	{"worker words", worker("{command: [/x], scale: dynamc, dispatch: filo, stderr: both , dir: app, warm_up: [A=1, =, x]}"), []string{
		`f:4:34: pools[0].worker.scale: "dynamc" is not one of static, dynamic, ondemand (did you mean dynamic?)`,
		`f:4:52: pools[0].worker.dispatch: "filo" is not one of lifo, fifo (did you mean fifo?)`,
		`f:4:78: pools[0].worker.dir: "app" is not an absolute path`,
		`f:4:98: pools[0].worker.warm_up[1]: "=" is not NAME=value`,
		`f:4:101: pools[0].worker.warm_up[2]: "x" is not NAME=value`,
	}},
	{"worker scripts", worker("{command: [/x], root: [srv], extensions: [php]}"), []string{
		`f:4:34: pools[0].worker.root[0]: "srv" is not an absolute path`,
		`f:4:53: pools[0].worker.extensions[0]: "php" is not an extension, for example .cgi (did you mean .php?)`,
	}},
	{"worker stderr", worker("{command: [/x], stderr: bth}"), []string{
		`f:4:35: pools[0].worker.stderr: "bth" is not one of log, client, both (did you mean both?)`,
	}},
	{"worker counts", worker("{command: [/x], max: 0, min: -1, min_spare: 1.5, max_spare: x, concurrency: 0, spawn_rate: 0, max_requests: 1e9}"), []string{
		`f:4:32: pools[0].worker.max: must be from 1 to 32768, not 0`,
		`f:4:40: pools[0].worker.min: must be from 0 to 32768, not -1`,
		`f:4:55: pools[0].worker.min_spare: must be an integer, not "1.5"`,
		`f:4:71: pools[0].worker.max_spare: must be an integer, not "x"`,
		`f:4:87: pools[0].worker.concurrency: must be from 1 to 32768, not 0`,
		`f:4:102: pools[0].worker.spawn_rate: must be from 1 to 1000, not 0`,
		`f:4:119: pools[0].worker.max_requests: must be an integer, not "1e9"`,
	}},
	{"absurd worker counts", worker("{command: [/x], max: 1000000000, concurrency: 1000000000, spawn_rate: 1001, max_requests: 9999999999}"), []string{
		`f:4:32: pools[0].worker.max: must be from 1 to 32768, not 1000000000`,
		`f:4:57: pools[0].worker.concurrency: must be from 1 to 32768, not 1000000000`,
		`f:4:81: pools[0].worker.spawn_rate: must be from 1 to 1000, not 1001`,
		`f:4:101: pools[0].worker.max_requests: must be from 0 to 2147483647, not 9999999999`,
	}},
	{"an absurd number to which max would bend", worker("{command: [/x], min_spare: 1000000000}"), []string{
		`f:4:38: pools[0].worker.min_spare: must be from 0 to 32768, not 1000000000`,
	}},
	{"worker durations and sizes", worker("{command: [/x], idle_timeout: -1s, max_lifetime: 1ms, max_memory: 256, start_timeout: 0, stop_grace: 61m}\n- {name: b, listen: unix:/b, worker: {command: [/x], idle_timeout: 60, max_memory: -1, start_timeout: 2h}}"), []string{
		`f:4:41: pools[0].worker.idle_timeout: "-1s" is negative`,
		`f:4:60: pools[0].worker.max_lifetime: must be at least 1s, or 0 for no limit, not 1ms`,
		`f:4:77: pools[0].worker.max_memory: must be at least 1MiB, or 0 for no limit, not 256 bytes`,
		`f:4:97: pools[0].worker.start_timeout: must be from 100ms to 1h, not 0s`,
		`f:4:112: pools[0].worker.stop_grace: must be from 0s to 1h, not 1h1m`,
		`f:5:68: pools[1].worker.idle_timeout: "60" needs a unit, for example 30s`,
		`f:5:84: pools[1].worker.max_memory: "-1" is negative`,
		`f:5:103: pools[1].worker.start_timeout: must be from 100ms to 1h, not 2h`,
	}},
	{"stop signals", worker("{command: [/x], stop_signal: SIGTREM}") + `- {name: b, listen: unix:/b, worker: {command: [/x], stop_signal: 15}}
- {name: c, listen: unix:/c, worker: {command: [/x], stop_signal: stop}}
- {name: d, listen: unix:/d, worker: {command: [/x], stop_signal: [TERM]}}
`, []string{
		`f:4:40: pools[0].worker.stop_signal: "SIGTREM" is not one of ` + signalNames + ` (did you mean SIGTERM?)`,
		`f:5:67: pools[1].worker.stop_signal: "15" is not one of ` + signalNames,
		`f:6:67: pools[2].worker.stop_signal: "stop" is not one of ` + signalNames,
		`f:7:67: pools[3].worker.stop_signal: must be the name of a signal, not a list`,
	}},
	{"spares", worker("{command: [/x], max: 4, min: 5, min_spare: 7, max_spare: 6}\n- {name: b, listen: unix:/b, worker: {command: [/x], min_spare: 3, max_spare: 2}}"), []string{
		"f:4:40: pools[0].worker.min: 5 is more than max, which is 4 at f:4:32",
		"f:4:54: pools[0].worker.min_spare: 7 is more than max, which is 4 at f:4:32",
		"f:4:68: pools[0].worker.max_spare: 6 is more than max, which is 4 at f:4:32",
		"f:5:65: pools[1].worker.min_spare: 3 is more than max_spare, which is 2 at f:5:79",
	}},
	{"spares beside a bad max", worker("{command: [/x], max: lots, min: 5, min_spare: 3}"), []string{
		`f:4:32: pools[0].worker.max: must be an integer, not "lots"`,
	}},
	{"spares of other scales", worker("{command: [/x], scale: static, max: 4, min: 5, min_spare: 7, max_spare: 6}\n- {name: b, listen: unix:/b, worker: {command: [/x], scale: ondemand, max: 2, min: 5}}"), nil},

	{"function", "pools:\n- {name: a, listen: unix:/a, function: {names: ['', a, b, a], name: b}}\n- {name: b, listen: unix:/b, function: {names: a}}\n", []string{
		"f:2:49: pools[0].function.names[0]: is empty: write the name of a function",
		"f:2:59: pools[0].function.names[3]: already used at f:2:53 (pools[0].function.names[1])",
		"f:2:63: pools[0].function.name: unknown key (did you mean names?)",
	}},

	{"programs' keys in a pool of functions", "pools:\n- name: a\n  listen: unix:/run/a\n  function: {}\n  env: [A=b]\n  slow: {after: 1s, command: [/bin/ps]}\n", []string{
		`f:5:8: pools[0].env: is for programs, and a pool of functions starts none`,
		`f:6:30: pools[0].slow.command: is for programs, and a pool of functions starts none`,
	}},
	{"slow", pool("slow: {after: -1s, log: [x], command: [py-spy], aftr: 1}"), []string{
		`f:5:17: pools[0].slow.after: "-1s" is negative`,
		`f:5:27: pools[0].slow.log: must be a string, not a list`,
		`f:5:42: pools[0].slow.command[0]: "py-spy" is not an absolute path`,
		`f:5:51: pools[0].slow.aftr: unknown key (did you mean after?)`,
	}},
	{"logs that depend on the folder", "log: {output: fcgid.log}\naccess_log: {output: ./access}\n" + pool("slow: {after: 1s, log: slow.log}"), []string{
		`f:1:15: log.output: "fcgid.log" is not an absolute path, stderr or stdout`,
		`f:2:22: access_log.output: "./access" is not an absolute path, stderr or stdout`,
		`f:7:26: pools[0].slow.log: "slow.log" is not an absolute path, stderr or stdout`,
	}},
	{"logs that do not", "log: {output: stdout}\naccess_log: {output: stderr}\n" + pool("slow: {after: 1s, log: stderr, x: 1}"), []string{
		`f:7:34: pools[0].slow.x: unknown key`,
	}},
	{"no file, and no pools", "include: [a.d/*.yaml, b.d/*.yaml]\npools: []\n", []string{
		`f:1:11: include[0]: "a.d/*.yaml" matches no file, and there are no pools`,
		`f:1:23: include[1]: "b.d/*.yaml" matches no file, and there are no pools`,
	}},
	{"INI", "; php-fpm's\n# pool\n\n[www]\nuser = www-data\n", []string{`f:4: this is no YAML: php-fpm's file? fcgid import php-fpm f`}},
	{"INI of one section", "[global]\n", []string{`f:1: this is no YAML: php-fpm's file? fcgid import php-fpm f`}},
	{"a list", "[]\n", []string{"f:1:1: must be a mapping, not a list"}},
	{"slow without after", pool("slow: {log: /x}") + "- {name: b, listen: unix:/b, function: {}, slow: {log: /y}}\n- {name: c, listen: unix:/c, function: {}, slow: {after: 0, log: /x}}\n", []string{
		"f:5:9: pools[0].slow.after: needs a duration, since log or command is given: what runs for longer is slow; 0 is off",
		"f:6:50: pools[1].slow.after: needs a duration, since log or command is given: what runs for longer is slow; 0 is off",
	}},
	{"slow after the end", pool("slow: {after: 90s}\n  timeout: 1m"), []string{
		"f:5:17: pools[0].slow.after: 1m30s is never reached: timeout, which is 1m at f:6:12, ends the request",
	}},
	{"sandbox", pool("sandbox: {cgroup: of, memory: 1KiB, memory_request: x, pids: -1, cpu: 0.001}") + "" +
		"- {name: b, listen: unix:/b, process: {root: [/]}, sandbox: {cgroup: off, pids: 1, memory: 2MiB, memory_request: 3MiB, cpu: a}}\n" +
		"- {name: c, listen: unix:/c, function: {}, sandbox: {cpu: 1}}\n", []string{
		`f:5:21: pools[0].sandbox.cgroup: "of" is not one of auto, off, required (did you mean off?)`,
		"f:5:33: pools[0].sandbox.memory: must be at least 1MiB, or 0 for no limit",
		`f:5:55: pools[0].sandbox.memory_request: "x" is not a size, for example 65536, 64KiB or 1MiB`,
		`f:5:64: pools[0].sandbox.pids: must be from 0 to 4194304, not -1`,
		"f:5:73: pools[0].sandbox.cpu: must be from 0.01 to 8192 processors, or 0 for no limit",
		"f:6:70: pools[1].sandbox.cgroup: memory, memory_request, pids and cpu are limits of a cgroup: write auto or required",
		"f:6:114: pools[1].sandbox.memory_request: 3MiB is never reached: memory, which is 2MiB at f:6:92, is less",
		`f:6:125: pools[1].sandbox.cpu: must be a number from 0, for example 0.5, not "a"`,
		"f:7:53: pools[2].sandbox: is for programs, and a pool of functions starts none",
	}},
	{"silence", pool("silence: 90s\n  timeout: 90s") + "- {name: b, listen: unix:/b, function: {}, silence: 1ms}\n- {name: c, listen: unix:/c, function: {}, silence: -1s}\n", []string{
		"f:5:12: pools[0].silence: 1m30s is never reached: timeout, which is 1m30s at f:6:12, ends the request",
		"f:7:53: pools[1].silence: must be at least 100ms, or 0 for none, not 1ms",
		`f:8:53: pools[2].silence: "-1s" is negative`,
	}},
	{"slow null", pool("slow:"), []string{"f:5:8: pools[0].slow: needs a value"}},

	{"listen is a number", pool("listen: 3"), []string{"f:3:11: pools[0].listen: \"3\" is not unix:/path, unix:@name, tcp:host:port or systemd:NAME (did you mean tcp:127.0.0.1:3?)"}},
	{"listen is empty", pool("listen: []"), []string{"f:3:11: pools[0].listen: needs at least one address"}},
	{"listen without address", pool("listen: [{mode: '0600'}]"), []string{"f:3:12: pools[0].listen[0].address: needs an address"}},
	{"listen of null", pool("listen: [~]"), []string{"f:3:12: pools[0].listen[0]: needs a value"}},
	{"addresses", pool("listen: [/run/x, 'unix:x', 'unix:/run/', 'unix:@', 'tcp:1', 'tcp:a:b', 'tcp:a:65536', 'tcp:a b:1', 'systemd:', 'systemd:a:b', \"unix:/a\\0b\", 'tcp:::1:80']"), []string{
		`f:3:12: pools[0].listen[0]: "/run/x" is not unix:/path, unix:@name, tcp:host:port or systemd:NAME (did you mean unix:/run/x?)`,
		`f:3:20: pools[0].listen[1]: "unix:x" needs an absolute path of a socket, or @name`,
		`f:3:30: pools[0].listen[2]: "unix:/run/" needs an absolute path of a socket, or @name`,
		`f:3:44: pools[0].listen[3]: "unix:@" needs an absolute path of a socket, or @name`,
		`f:3:54: pools[0].listen[4]: "tcp:1" needs a host and a port, as tcp:127.0.0.1:9000 or tcp:[::1]:9000`,
		`f:3:63: pools[0].listen[5]: "tcp:a:b" needs a port from 0 to 65535, not "b"`,
		`f:3:74: pools[0].listen[6]: "tcp:a:65536" needs a port from 0 to 65535, not "65536"`,
		`f:3:89: pools[0].listen[7]: "tcp:a b:1" has the host "a b", which is neither a name nor an IP address`,
		`f:3:102: pools[0].listen[8]: "systemd:" needs a name without a colon`,
		`f:3:114: pools[0].listen[9]: "systemd:a:b" needs a name without a colon`,
		`f:3:129: pools[0].listen[10]: "unix:/a\x00b" contains NUL`,
		`f:3:143: pools[0].listen[11]: "tcp:::1:80" needs a host and a port, as tcp:127.0.0.1:9000 or tcp:[::1]:9000`,
	}},
	{"long path", pool("listen: unix:/" + strings.Repeat("x", 107)), []string{
		`f:3:11: pools[0].listen: "unix:/` + strings.Repeat("x", 107) + `" has a path of 108 bytes, 107 is the most`,
	}},
	{"same address", pool("listen: [unix:/a, 'unix://a', 'tcp:[::1]:80', 'tcp:[0::1]:080', 'tcp:127.0.0.1:9253']"), []string{
		"f:3:21: pools[0].listen[1]: already used at f:3:12 (pools[0].listen[0])",
		"f:3:49: pools[0].listen[3]: already used at f:3:33 (pools[0].listen[2])",
		"f:3:67: pools[0].listen[4]: already used at f:1:1 (admin.listen)",
	}},
	{"open to others", pool("listen: ['tcp::1', 'tcp:0.0.0.0:2', 'tcp:[::]:3', 'tcp:example.org:4', {address: 'tcp:10.0.0.1:5', allow: []}]"), []string{
		`f:3:12: pools[0].listen[0].allow: "tcp::1" is open to other machines: name the networks that may connect`,
		`f:3:22: pools[0].listen[1].allow: "tcp:0.0.0.0:2" is open to other machines: name the networks that may connect`,
		`f:3:39: pools[0].listen[2].allow: "tcp:[::]:3" is open to other machines: name the networks that may connect`,
		`f:3:53: pools[0].listen[3].allow: "tcp:example.org:4" is open to other machines: name the networks that may connect`,
		`f:3:109: pools[0].listen[4].allow: "tcp:10.0.0.1:5" is open to other machines: name the networks that may connect`,
	}},
	{"allow", pool("listen: {address: 'tcp:[::]:1', allow: [10.0.0.0/33, 10.0.0.1/8, x, 7, '::ffff:10.0.0.0/104', 'fe80::1%eth0']}"), []string{
		`f:3:43: pools[0].listen.allow[0]: "10.0.0.0/33" is not a network, for example 10.0.0.0/8 or 2001:db8::1`,
		`f:3:56: pools[0].listen.allow[1]: "10.0.0.1/8" has bits set after its prefix (did you mean 10.0.0.0/8?)`,
		`f:3:68: pools[0].listen.allow[2]: "x" is not a network, for example 10.0.0.0/8 or 2001:db8::1`,
		`f:3:71: pools[0].listen.allow[3]: "7" is not a network, for example 10.0.0.0/8 or 2001:db8::1`,
		`f:3:74: pools[0].listen.allow[4]: "::ffff:10.0.0.0/104" is an IPv4 network written as IPv6: write it as IPv4`,
		`f:3:97: pools[0].listen.allow[5]: "fe80::1%eth0" is not a network, for example 10.0.0.0/8 or 2001:db8::1`,
	}},
	{"keys of another address", pool("listen:\n  - {address: 'unix:@a', mode: '0660', owner: a, group: b, allow: ['::1']}\n  - {address: 'tcp:localhost:1', mode: '0660', allow_uids: [1]}\n  - {address: 'systemd:x', owner: a}"), []string{
		"f:4:32: pools[0].listen[0].mode: is for unix:/path only",
		"f:4:47: pools[0].listen[0].owner: is for unix:/path only",
		"f:4:57: pools[0].listen[0].group: is for unix:/path only",
		"f:4:67: pools[0].listen[0].allow: is for tcp and systemd only",
		"f:5:40: pools[0].listen[1].mode: is for unix:/path only",
		"f:5:60: pools[0].listen[1].allow_uids: is for unix and systemd only",
		"f:6:35: pools[0].listen[2].owner: is for unix:/path only",
	}},
	{"modes", pool("listen: [{address: unix:/a, mode: 9999}, {address: unix:/b, mode: rw}, {address: unix:/c, mode: '1777'}, {address: unix:/d, mode: []}]"), []string{
		`f:3:37: pools[0].listen[0].mode: "9999" is not an octal mode from 0000 to 0777, for example "0660"`,
		`f:3:69: pools[0].listen[1].mode: "rw" is not an octal mode from 0000 to 0777, for example "0660"`,
		`f:3:99: pools[0].listen[2].mode: "1777" is not an octal mode from 0000 to 0777, for example "0660"`,
		`f:3:133: pools[0].listen[3].mode: must be an octal mode, not a list`,
	}},
	{"uids", pool("listen: {address: unix:/a, allow_uids: [-1, 4294967296, root]}"), []string{
		`f:3:43: pools[0].listen.allow_uids[0]: must be an integer from 0 to 4294967295, not "-1"`,
		`f:3:47: pools[0].listen.allow_uids[1]: must be an integer from 0 to 4294967295, not "4294967296"`,
		`f:3:59: pools[0].listen.allow_uids[2]: must be an integer, not "root"`,
	}},

	{"counts", pool("limits: {max_conns: -1, max_reqs: 1.5, queue: '5'}\n  listen: unix:/b"), []string{
		`f:5:23: pools[0].limits.max_conns: must be from 0 to 1048576, not -1`,
		`f:5:37: pools[0].limits.max_reqs: must be an integer, not "1.5"`,
		`f:5:49: pools[0].limits.queue: must be an integer, not "5"`,
		"f:6:3: pools[0].listen: given twice, first in line 3",
	}},
	{"backlog", pool("listen: {address: unix:/a, backlog: 2147483648}"), []string{
		`f:3:39: pools[0].listen.backlog: must be from 0 to 2147483647, not 2147483648`,
	}},
	{"durations", "shutdown_timeout: 30\n" + pool("timeout: -1s\n  limits: {queue_timeout: 1.5, read_timeout: 1d, write_timeout: [], idle_timeout: ''}"), []string{
		`f:1:19: shutdown_timeout: "30" needs a unit, for example 30s`,
		`f:6:12: pools[0].timeout: "-1s" is negative`,
		`f:7:27: pools[0].limits.queue_timeout: "1.5" needs a unit, for example 30s`,
		`f:7:46: pools[0].limits.read_timeout: "1d" is not a duration, for example 250ms or 30s`,
		`f:7:65: pools[0].limits.write_timeout: must be a duration, not a list`,
		`f:7:83: pools[0].limits.idle_timeout: "" is not a duration, for example 250ms or 30s`,
	}},
	{"sizes", pool("limits: {params: -1, body: 8EiB, body_memory: lots}"), []string{
		`f:5:20: pools[0].limits.params: "-1" is negative`,
		`f:5:30: pools[0].limits.body: "8EiB" is too large: 1PiB at most`,
		`f:5:49: pools[0].limits.body_memory: "lots" is not a size, for example 65536, 64KiB or 1MiB`,
	}},
	{"more sizes", pool("limits: {params: 99999999999999999999, body: 1.5, body_memory: 99999999999EiB}"), []string{
		`f:5:20: pools[0].limits.params: "99999999999999999999" is too large: 1PiB at most`,
		`f:5:48: pools[0].limits.body: "1.5" is not a size, for example 65536, 64KiB or 1MiB`,
		`f:5:66: pools[0].limits.body_memory: "99999999999EiB" is too large: 1PiB at most`,
	}},
	{"limits that bound nothing", pool("limits: {params: 2GiB, body_memory: 2GiB, max_conns: 2000000, max_reqs: 2000000, queue: 2000000}"), []string{
		"f:5:20: pools[0].limits.params: must be from 1KiB to 1GiB, or 0 for no limit: they are held in memory",
		"f:5:39: pools[0].limits.body_memory: must be at most 1GiB: it is held in memory",
		"f:5:56: pools[0].limits.max_conns: must be from 0 to 1048576, not 2000000",
		"f:5:75: pools[0].limits.max_reqs: must be from 0 to 1048576, not 2000000",
		"f:5:91: pools[0].limits.queue: must be from 0 to 1048576, not 2000000",
	}},
	{"counts beyond any", pool("limits: {max_conns: -2, max_reqs: 9223372036854775808, queue: -1}"), []string{
		"f:5:23: pools[0].limits.max_conns: must be from 0 to 1048576, not -2",
		`f:5:37: pools[0].limits.max_reqs: "9223372036854775808" is out of range`,
		"f:5:65: pools[0].limits.queue: must be from 0 to 1048576, not -1",
	}},
	{"limits that nothing stays within", pool("limits: {params: 100, queue_timeout: 1us}"), []string{
		"f:5:20: pools[0].limits.params: must be from 1KiB to 1GiB, or 0 for no limit: they are held in memory",
		`f:5:40: pools[0].limits.queue_timeout: "1us" is too short: 1ms at least, or 0`,
	}},
	{"memory", "memory: 1MiB\n" + pool(""), []string{
		"f:1:9: memory: must be at least 16MiB, or 0 for a quarter of what there is",
	}},
	{"body_memory", pool("limits: {body_memory: 0}"), []string{
		"f:5:25: pools[0].limits.body_memory: must be at least 4KiB: a body passes through this buffer",
	}},

	{"words", "log: {level: x, format: jsn, output: ''}\n" + pool("on_client_abort: klil"), []string{
		`f:1:14: log.level: "x" is not one of debug, info, warn, error`,
		`f:1:25: log.format: "jsn" is not one of auto, console, json (did you mean json?)`,
		`f:1:38: log.output: is empty: write stderr, stdout or a file`,
		`f:6:20: pools[0].on_client_abort: "klil" is not one of kill, close, ignore (did you mean kill?)`,
	}},
	{"admin", "admin: {listen: 'unix:@x'}\n" + one, []string{`f:1:17: admin.listen: "unix:@x" is not tcp:host:port or unix:/path`}},
	{"admin open to all", "admin: {listen: 'tcp:0.0.0.0:9253'}\n" + one, []string{
		`f:1:8: admin.allow: "tcp:0.0.0.0:9253" is open to other machines: name the networks that may connect`,
	}},
	{"admin by name", "admin: {listen: 'tcp:example.com:9253'}\n" + one, []string{
		`f:1:8: admin.allow: "tcp:example.com:9253" is open to other machines: name the networks that may connect`,
	}},
	{"admin keys", "admin: {listen: unix:/a, allow: [10.0.0.0/8], uris: none, hosts: [a, 'b:80', '']}\n" + one, []string{
		`f:1:33: admin.allow: is for tcp and systemd only`,
		`f:1:53: admin.uris: "none" is not one of hidden, full`,
		`f:1:70: admin.hosts[1]: "b:80" is not the name of a host, without a port`,
		`f:1:78: admin.hosts[2]: "" is not the name of a host, without a port`,
	}},
	{"admin address", "admin: {listen: 'tcp:9253'}\n" + one, []string{
		`f:1:17: admin.listen: "tcp:9253" needs a host and a port, as tcp:127.0.0.1:9000 or tcp:[::1]:9000`,
	}},
	{"env", pool("env: [A, =x, 1A=x, 'A B=x', \"A=\\0\"]\n  pass_env: [A=x, '', B]\n  pass_params: [B, A-B]\n  limits: {single_fields: [X, '', '[']}"), []string{
		`f:5:9: pools[0].env[0]: "A" is not NAME=value`,
		`f:5:12: pools[0].env[1]: "=x" is not NAME=value`,
		`f:5:16: pools[0].env[2]: "1A=x" is not NAME=value`,
		`f:5:22: pools[0].env[3]: "A B=x" is not NAME=value`,
		`f:5:31: pools[0].env[4]: "A=\x00" contains NUL`,
		`f:6:14: pools[0].pass_env[0]: "A=x" is not the name of a variable`,
		`f:6:19: pools[0].pass_env[1]: "" is not the name of a variable`,
		`f:7:20: pools[0].pass_params[1]: "A-B" is not the name of a variable`,
		`f:8:31: pools[0].limits.single_fields[1]: "" is not a pattern of names, for example *_USER`,
		`f:8:35: pools[0].limits.single_fields[2]: "[" is not a pattern of names, for example *_USER`,
	}},
	{"process without root", pool("process: {}"), []string{"f:4:12: pools[0].process.root: needs at least one folder, unless scripts is given"}},
	{"process", pool("process:\n    root: [srv, '']\n    scripts: [x, '/a[']\n    extensions: [cgi, ., .a/b]\n    interpreters: [.a=/x, .b=x, .a=/y, c=/z, .d]\n    dir: here\n    stderr: logs"), []string{
		`f:5:12: pools[0].process.root[0]: "srv" is not an absolute path`,
		`f:5:17: pools[0].process.root[1]: "" is not an absolute path`,
		`f:6:15: pools[0].process.scripts[0]: "x" is not an absolute path`,
		`f:6:18: pools[0].process.scripts[1]: "/a[": syntax error in pattern`,
		`f:7:18: pools[0].process.extensions[0]: "cgi" is not an extension, for example .cgi (did you mean .cgi?)`,
		`f:7:23: pools[0].process.extensions[1]: "." is not an extension, for example .cgi`,
		`f:7:26: pools[0].process.extensions[2]: ".a/b" is not an extension, for example .cgi`,
		`f:8:27: pools[0].process.interpreters[1]: ".b=x" is not .extension=/path`,
		`f:8:33: pools[0].process.interpreters[2]: already used at f:8:20 (pools[0].process.interpreters[0])`,
		`f:8:40: pools[0].process.interpreters[3]: "c=/z" is not .extension=/path`,
		`f:8:46: pools[0].process.interpreters[4]: ".d" is not .extension=/path`,
		`f:9:10: pools[0].process.dir: "here" is not an absolute path`,
		`f:10:13: pools[0].process.stderr: "logs" is not one of log, client, both (did you mean log?)`,
	}},
}

func TestFaults(t *testing.T) {
	for _, tt := range faultTests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(t, tt.text)
			wantFaults(t, err, tt.want...)
		})
	}
}

// What others find wrong has its place, too.
func TestFaultAt(t *testing.T) {
	c := mustLoad(t, pool("sandbox: {nice: 1}"))
	if got := c.FaultAt("pools[0].sandbox", "x").String(); got != "f:5:12: pools[0].sandbox: x" {
		t.Errorf("got %q", got)
	}
}

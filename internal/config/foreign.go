package config

import "strings"

// foreign is what other programs call what is a key here, or is none: the directives of
// php-fpm, mod_fcgid, lighttpd and nginx, the last in lower case, those of a systemd unit, and the flags of
// fcgiwrap and spawn-fcgi.
var foreign = map[string]string{
	"pm":                          "worker.scale, and what is below pm. is worker's",
	"pm.max_children":             "worker.max",
	"pm.start_servers":            "worker.min",
	"pm.min_spare_servers":        "worker.min_spare",
	"pm.max_spare_servers":        "worker.max_spare",
	"pm.max_spawn_rate":           "worker.spawn_rate",
	"pm.process_idle_timeout":     "worker.idle_timeout",
	"pm.max_requests":             "worker.max_requests",
	"listen.backlog":              "listen.backlog, below listen and beside its address",
	"listen.allowed_clients":      "listen.allow, below listen and beside its address",
	"listen.owner":                "listen.owner, below listen and beside its address",
	"listen.group":                "listen.group, below listen and beside its address",
	"listen.mode":                 "listen.mode, below listen and beside its address",
	"access.log":                  "access_log.output, of the whole daemon",
	"error_log":                   "log.output, of the whole daemon",
	"log_level":                   "log.level, of the whole daemon",
	"slowlog":                     "slow.log",
	"request_slowlog_timeout":     "slow.after",
	"request_terminate_timeout":   "timeout",
	"process_control_timeout":     "shutdown_timeout, of the whole daemon",
	"process.max":                 "worker.max, of each pool",
	"chdir":                       "worker.dir or process.dir",
	"catch_workers_output":        "worker.stderr",
	"clear_env":                   "pass_env: what is not named there is cleared",
	"security.limit_extensions":   "worker.extensions",
	"php_value":                   "an argument of worker.command: [/usr/bin/php-cgi, -d, NAME=value]",
	"php_flag":                    "an argument of worker.command: [/usr/bin/php-cgi, -d, NAME=value]",
	"php_admin_value":             "an argument of worker.command: [/usr/bin/php-cgi, -d, NAME=value]",
	"php_admin_flag":              "an argument of worker.command: [/usr/bin/php-cgi, -d, NAME=value]",
	"pm.status_path":              "status_path",
	"ping.path":                   "ping_path",
	"ping.response":               "ping_response",
	"access.format":               "access_log.format, of the whole daemon",
	"access.suppress_path":        "access_log.suppress, of the whole daemon",
	"rlimit_files":                "sandbox.rlimits: [nofile=N]",
	"rlimit_core":                 "sandbox.rlimits: [core=N]",
	"process.priority":            "sandbox.nice",
	"chroot":                      "sandbox.chroot",
	"daemonize":                   none,
	"pid":                         none,
	"emergency_restart_threshold": none,
	"emergency_restart_interval":  none,
	"events.mechanism":            none,
	"fcgidmaxprocesses":           "worker.max, of each pool",
	"fcgidmaxprocessesperclass":   "worker.max",
	"fcgidminprocessesperclass":   "worker.min",
	"fcgididletimeout":            "worker.idle_timeout",
	"fcgidprocesslifetime":        "worker.max_lifetime",
	"fcgidmaxrequestsperprocess":  "worker.max_requests",
	"fcgidbusytimeout":            "timeout",
	"fcgidiotimeout":              "silence",
	"fcgidconnecttimeout":         "worker.start_timeout",
	"fcgidmaxrequestlen":          "limits.body",
	"fcgidmaxrequestinmem":        "limits.body_memory",
	"fcgidinitialenv":             "env",
	"fcgidpassheader":             "pass_params",
	"fcgidwrapper":                "worker.command",
	"fcgi_children":               "worker.max",
	"daemon_opts":                 none,
	"children":                    "worker.max",
	"workers":                     "worker.max",
	"socket":                      "listen",
	"server":                      "listen",
	"port":                        "listen: tcp:127.0.0.1:PORT",
	"bin_path":                    "worker.command",
	"bin-path":                    "worker.command",
	"max-procs":                   "worker.max",
	"bin-environment":             "env",
	"fastcgi_read_timeout":        "silence",
	"client_max_body_size":        "limits.body",
	"client_body_buffer_size":     "limits.body_memory",
	"fastcgi_max_temp_file_size":  "limits.answer_spool",
	"fastcgi_ignore_client_abort": "on_client_abort",
	"fastcgi_request_buffering":   "limits.request_buffering",
	"no_new_privileges":           "sandbox.no_new_privs",
	"nonewprivileges":             "sandbox.no_new_privs",
	"private_network":             "sandbox.network: false",
	"privatenetwork":              "sandbox.network: false",
	"privatetmp":                  "sandbox.private_tmp",
	"seccomp":                     "sandbox.preset: strict, which is the nearest: nobody writes a filter of system calls here",
	"systemcallfilter":            "sandbox.preset: strict, which is the nearest: nobody writes a filter of system calls here",
	"capabilityboundingset":       "sandbox.capabilities",
	"readwritepaths":              "sandbox.write",
	"readonlypaths":               "sandbox.read",
	"rootdirectory":               "sandbox.chroot",
	"memorymax":                   "sandbox.memory",
	"tasksmax":                    "sandbox.pids",
	"limitnofile":                 "sandbox.rlimits: [nofile=N]",
	"limitnproc":                  "sandbox.rlimits: [nproc=N]",
	"limitcore":                   "sandbox.rlimits: [core=N]",
	"-c":                          "limits.max_reqs, as fcgiwrap's -c",
	"-f":                          "process.stderr: client, as fcgiwrap's -f",
	"-s":                          "listen: unix:/path",
	"-p":                          "process.scripts, as fcgiwrap's -p, or listen: tcp:ADDRESS:PORT, as spawn-fcgi's",
	"-a":                          "listen: tcp:ADDRESS:PORT",
	"-F":                          "worker.max",
	"-C":                          "env: [PHP_FCGI_CHILDREN=N]",
	"-b":                          "listen.backlog, below listen and beside its address",
	"-d":                          "worker.dir",
	"-U":                          "listen.owner, below listen and beside its address",
	"-G":                          "listen.group, below listen and beside its address",
	"-M":                          "listen.mode, below listen and beside its address",
	"-P":                          none,
	"-S":                          none,
	"-n":                          none,
}

// none is for what fcgid does by itself or has no use for.
const none = ""

// foreignKey says what a key of other programs is here; ok is false if it is nobody's. A
// directive's index, as of php_value[x], does not matter, nor does its case.
func foreignKey(key string) (text string, ok bool) {
	key, _, _ = strings.Cut(key, "[")
	for _, name := range []string{key, strings.ToLower(key), "pm." + strings.ToLower(key)} {
		ours, ok := foreign[name]
		switch {
		case ok && ours == none:
			return "unknown key: there is none like it, and no need for one", true
		case ok:
			return "unknown key: here that is " + ours, true
		}
	}
	return "", false
}

//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
	"github.com/fcgid/fcgid/fcgi"
)

// An fpmConf is what a document tells to write for php-fpm, and what has to come of it.
type fpmConf struct {
	files   map[string]string // in HERE; the first to be read is php-fpm.conf or www.conf
	args    []string          // of fcgid import php-fpm
	page    string            // PHP
	says    string
	logs    string // something in HERE/log/*, or "" is not looked at
	address string // "" is HERE/php.sock; ADDRESS is a free one of TCP
}

// fpmConfs are as different as documents have them: of a distribution, of another one, of a
// container image, of an application, of a control panel, and one that uses what there is.
var fpmConfs = map[string]fpmConf{
	"Debian": {
		files: map[string]string{"www.conf": "DEBIAN"}, args: []string{"--root", "HERE"},
		page: `echo PHP_SAPI, " ", ini_get("display_errors") ?: "-";`, says: "cgi-fcgi -",
	},
	"Red Hat": {
		files: map[string]string{
			"php-fpm.conf": "include=HERE/php-fpm.d/*.conf\n[global]\npid = HERE/php-fpm.pid\nerror_log = HERE/log/error.log\ndaemonize = yes\n",
			"php-fpm.d/www.conf": "[www]\nuser = www-data\ngroup = www-data\nlisten = HERE/php.sock\nlisten.acl_users = www-data,nobody\nlisten.allowed_clients = 127.0.0.1\n" +
				"pm = dynamic\npm.max_children = 50\npm.start_servers = 5\npm.min_spare_servers = 5\npm.max_spare_servers = 35\nslowlog = HERE/log/www-slow.log\n" +
				"php_admin_value[error_log] = HERE/log/www-error.log\nphp_admin_flag[log_errors] = on\nphp_value[session.save_handler] = files\n" +
				"php_value[session.save_path]    = HERE/data\nphp_value[soap.wsdl_cache_dir]  = HERE/data\n",
		},
		page: `session_start(); $_SESSION["a"] = 1; session_write_close(); echo count(glob("HERE/data/sess_*")) > 0 ? "a session" : "none"; error_log("for the log");`,
		says: "a session", logs: "for the log",
	},
	"a container": {
		files: map[string]string{
			"php-fpm.conf": "[global]\ninclude=php-fpm.d/*.conf\n",
			"php-fpm.d/docker.conf": "[global]\nerror_log = /proc/self/fd/2\n; a comment\nlog_limit = 8192\n\n[www]\naccess.log = /proc/self/fd/2\n\nclear_env = no\n\n" +
				"catch_workers_output = yes\ndecorate_workers_output = no\n",
			"php-fpm.d/www.conf":       "[www]\nuser = www-data\ngroup = www-data\nlisten = 127.0.0.1:9000\npm = dynamic\npm.max_children = 5\npm.start_servers = 2\npm.min_spare_servers = 1\npm.max_spare_servers = 3\n",
			"php-fpm.d/zz-docker.conf": "[global]\ndaemonize = no\n\n[www]\nlisten = PORT\n",
		},
		page: `echo $_SERVER["REQUEST_METHOD"];`, says: "GET", address: "ADDRESS",
	},
	"an application": {
		files: map[string]string{
			"www.conf": "[cloud]\nlisten = HERE/php.sock\n \nlisten.owner = www-data\nlisten.group = www-data\n \nuser = www-data\ngroup = www-data\n \npm = ondemand\npm.max_children = 30\n" +
				"pm.process_idle_timeout = 60s\npm.max_requests = 500\n \nenv[HOSTNAME] = $HOSTNAME\nenv[PATH] = /usr/local/bin:/usr/bin:/bin\nenv[TMP] = HERE/data\nenv[TMPDIR] = HERE/data\nenv[TEMP] = HERE/data\n",
		},
		page: `echo getenv("TMP"), " ", getenv("PATH"), " ", sys_get_temp_dir();`, says: "HERE/data /usr/local/bin:/usr/bin:/bin HERE/data",
	},
	"a control panel": {
		files: map[string]string{
			"www.conf": "[example.org]\n\nlisten = HERE/php.sock\nlisten.owner = www-data\nlisten.group = www-data\nlisten.mode = 0660\n\nuser = nobody\ngroup = nogroup\n\npm = ondemand\n" +
				"pm.max_children = 8\npm.max_requests = 4000\npm.process_idle_timeout = 10s\npm.status_path = /status\n\nphp_admin_value[upload_tmp_dir] = HERE/data\n" +
				"php_admin_value[session.save_path] = HERE/data\nphp_admin_value[open_basedir] = HERE/public:HERE/data:/bin:/usr/bin:/tmp\nphp_admin_value[upload_max_filesize] = 80M\n" +
				"php_admin_value[max_execution_time] = 30\nphp_admin_value[memory_limit] = 256M\nphp_admin_value[sendmail_path] = \"/usr/sbin/sendmail -t -i -f info@example.org\"\n" +
				"php_admin_flag[mysql.allow_persistent] = off\nphp_admin_flag[safe_mode] = off\n\nenv[PATH] = /usr/local/bin:/usr/bin:/bin\nenv[TMP] = HERE/data\n",
		},
		page: `echo ini_get("memory_limit"), " ", ini_get("sendmail_path"), " ", @file_get_contents("/etc/hostname") === false ? "closed" : "open", " ", posix_getpwuid(posix_geteuid())["name"] ?? "";`,
		says: "256M /usr/sbin/sendmail -t -i -f info@example.org closed nobody",
	},
	"a large site": {
		files: map[string]string{
			"www.conf": "[shop]\nuser = www-data\nlisten = ADDRESS\nlisten.backlog = 65535\nlisten.allowed_clients = 127.0.0.1, ::1\npm = static\npm.max_children = 3\npm.max_requests = 1000\n" +
				"pm.status_path = /fpm-status\nping.path = /fpm-ping\nping.response = pong\naccess.log = HERE/log/$pool.access.log\n" +
				"access.format = \"%R - %u %t \\\"%m %r%Q%q\\\" %s %f %{milli}d %{kilo}M %C%%\"\naccess.suppress_path[] = /fpm-ping\nslowlog = HERE/log/$pool.slow.log\n" +
				"request_slowlog_timeout = 5s\nrequest_terminate_timeout = 120s\nrlimit_files = 1024\nrlimit_core = 0\nchdir = /\ncatch_workers_output = yes\nclear_env = yes\n" +
				"security.limit_extensions = .php .php8\nprocess.priority = 5\nphp_admin_value[disable_functions] = exec,passthru,shell_exec,system\nphp_flag[display_errors] = off\nphp_admin_value[post_max_size] = 64M\n",
		},
		page: `echo function_exists("exec") ? "exec" : "no exec", " ", ini_get("post_max_size"), " ", preg_match("/^Max open files +(\\d+)/m", file_get_contents("/proc/self/limits"), $m) ? $m[1] : "";`,
		says: "no exec 64M 1024", logs: "GET /page.php", address: "ADDRESS",
	},
}

// What fcgid import writes for the files of php-fpm that documents have is taken by check,
// and serves PHP as those say.
func TestImportPHP(t *testing.T) {
	t.Parallel()
	needRoot(t) // to be those users
	for name, fpm := range fpmConfs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fpm.serves(t)
		})
	}
}

func (f *fpmConf) serves(t *testing.T) {
	t.Helper()
	dir, address := folder(t), freeAddress(t)
	here := strings.NewReplacer("HERE", dir, "ADDRESS", address, "PORT", address[strings.LastIndexByte(address, ':')+1:], "DEBIAN", debianFPM(t, dir)).Replace
	for _, name := range []string{"/data", "/log"} {
		if err := os.Mkdir(dir+name, 0o777); err != nil {
			t.Fatal(err)
		}
		os.Chmod(dir+name, 0o777)
	}
	first := "www.conf"
	for name, text := range f.files {
		write(t, dir+"/"+name, here(text))
		if name == "php-fpm.conf" {
			first = name
		}
	}
	page := write(t, dir+"/public/page.php", "<?php "+here(f.page))
	args := append([]string{"import", "php-fpm"}, f.args...)
	for i := range args {
		args[i] = here(args[i])
	}
	code, text, stderr := fcgid(t, dir, nil, append(args, dir+"/"+first)...)
	if code != 0 {
		t.Fatalf("import: exit status %d, %s", code, stderr)
	}
	write(t, dir+"/fcgid.yaml", "admin: {listen: \"\", control: \"\"}\n"+text)
	code, out, stderr := fcgid(t, dir, nil, "check", "fcgid.yaml")
	output{code, out, stderr}.is(t, "check", 0)
	p := harness.Start(t, exec.Command(binary, "serve", "-c", dir+"/fcgid.yaml"))
	network, at := "unix", dir+"/php.sock"
	if f.address != "" {
		network, at = "tcp", address
	}
	p.Listening(t, network, at)
	for range 2 {
		if _, got := ask(t, network, at, &fcgi.Request{Params: params(page, "REMOTE_ADDR", "192.0.2.7")}); !strings.Contains(got, "\r\n\r\n"+here(f.says)) {
			t.Errorf("PHP says %q, want %q\n%s", got, here(f.says), text)
		}
	}
	if f.logs != "" {
		await(t, fmt.Sprintf("%q in a log", f.logs), func() bool {
			files, _ := filepath.Glob(dir + "/log/*")
			for _, file := range files {
				if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), f.logs) {
					return true
				}
			}
			return false
		})
	}
}

// debianFPM is the www.conf that is installed, with its socket in a folder.
func debianFPM(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob("/etc/php/*/fpm/pool.d/www.conf")
	if err != nil || len(files) == 0 {
		t.Fatalf("php-fpm is not installed: %v", err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for i := range lines {
		if strings.HasPrefix(lines[i], "listen = ") {
			lines[i] = "listen = " + dir + "/php.sock"
		}
	}
	return strings.Join(lines, "\n")
}

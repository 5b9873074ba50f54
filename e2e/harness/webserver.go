package harness

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A WebServer is what nginx or Apache is started with.
type WebServer struct {
	Dir     string          // where it may write
	Modules string          // of Apache, besides those that every configuration needs
	Global  string          // nginx's http block, Apache's configuration outside of virtual hosts
	User    string          // of nginx's workers, where root starts it; "" is root
	Hosts   []string        // server blocks, virtual hosts: what stands in each
	Change  func(*exec.Cmd) // of its command, such as to run it as another user; nil for none
}

// Nginx starts nginx with a server for each of the hosts, and returns their
// addresses, host:port. Its error log is DIR/nginx.log.
func (w WebServer) Nginx(t testing.TB) (addresses []string) {
	t.Helper()
	user := cmp.Or(w.User, "root")
	if os.Getuid() != 0 {
		user = os.Getenv("USER")
	}
	var servers strings.Builder
	for _, host := range w.Hosts {
		address := FreeAddress(t)
		addresses = append(addresses, address)
		fmt.Fprintf(&servers, "server { listen %s;\n%s\n}\n", address, host)
	}
	conf := Write(t, w.Dir+"/nginx.conf", fmt.Sprintf(`
daemon off; pid %[1]s/nginx.pid; error_log %[1]s/nginx.log; user %[2]s;
worker_processes 2;
events { worker_connections 1024; }
http {
  access_log off; client_max_body_size 0;
  client_body_temp_path %[1]s/body; fastcgi_temp_path %[1]s/fastcgi; proxy_temp_path %[1]s/proxy;
  uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
  %[3]s
  %[4]s
}`, w.Dir, user, w.Global, servers.String()))
	w.start(t, w.Dir+"/nginx.log", addresses, exec.Command(Need(t, "nginx"), "-c", conf, "-p", w.Dir, "-e", w.Dir+"/nginx.log"))
	return addresses
}

// Apache starts Apache with a virtual host for each of the hosts, and returns their
// addresses, host:port. Its error log is DIR/apache.log.
func (w WebServer) Apache(t testing.TB) (addresses []string) {
	t.Helper()
	text := fmt.Sprintf("ServerName localhost\nServerRoot %[1]s\nPidFile %[1]s/apache.pid\nErrorLog %[1]s/apache.log\nLogLevel info\nMutex file:%[1]s\n", w.Dir)
	if os.Getuid() == 0 {
		// Apache does not run as root, and its workers have to reach the socket.
		text += "User www-data\nGroup www-data\n"
	}
	for name := range strings.FieldsSeq("mpm_event authz_core " + w.Modules) {
		text += fmt.Sprintf("LoadModule %s_module /usr/lib/apache2/modules/mod_%[1]s.so\n", name)
	}
	text += "StartServers 1\nMinSpareThreads 1\nThreadsPerChild 25\nMaxRequestWorkers 25\nServerLimit 1\n" + w.Global
	for _, host := range w.Hosts {
		address := FreeAddress(t)
		addresses = append(addresses, address)
		text += fmt.Sprintf("Listen %[1]s\n<VirtualHost %[1]s>\n%[2]s\n</VirtualHost>\n", address, host)
	}
	w.start(t, w.Dir+"/apache.log", addresses, exec.Command(Need(t, "apache2"), "-DFOREGROUND", "-f", Write(t, w.Dir+"/apache.conf", text)))
	return addresses
}

// start starts a web server and waits until it listens.
func (w WebServer) start(t testing.TB, log string, addresses []string, cmd *exec.Cmd) {
	t.Helper()
	if w.Change != nil {
		w.Change(cmd)
	}
	program := Start(t, cmd)
	t.Cleanup(func() {
		if b, _ := os.ReadFile(log); t.Failed() {
			t.Logf("the log of %s:\n%s", cmd.Path, Tail(string(b), 4000))
		}
	})
	for _, address := range addresses {
		program.Listening(t, "tcp", address)
	}
}

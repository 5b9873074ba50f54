package config

import "testing"

// A format that is none is a fault that says where.
func TestAccessFormat(t *testing.T) {
	for value, want := range map[string]string{
		"{format: 'a %r %z'}":     "f:1:22: access_log.format: column 6: %z is no token of php-fpm's: they are %% %C %M %P %Q %R %T %d %e %f %l %m %n %o %p %q %r %s %t %u",
		"{format: jsn}":           `f:1:22: access_log.format: column 1: "jsn" is neither json nor combined, and has no token such as %r (did you mean json?)`,
		"{format: '%{x}d'}":       "f:1:22: access_log.format: column 1: %{x}d: what is in braces is none of seconds, milliseconds, milli, microseconds, micro, miliseconds, mili",
		"{suppress: [/a, 'b?c']}": `f:1:29: access_log.suppress[1]: "b?c" is not the path of a URL, for example /ping`,
	} {
		_, err := load(t, "access_log: "+value+"\n"+one)
		wantFaults(t, err, want)
	}
	for _, format := range []string{"json", "combined", "'%R - %u %t \"%m %r%Q%q\" %s %f %{milli}d %{kilo}M %C%%'"} {
		mustLoad(t, "access_log: {format: "+format+", suppress: [/ping]}\n"+one)
	}
}

func TestOwnPages(t *testing.T) {
	for keys, want := range map[string]string{
		"status_path: status":               `f:2:17: pools[0].status_path: "status" is not the path of a URL, for example /status`,
		"ping_path: /":                      `f:2:15: pools[0].ping_path: "/" is not the path of a URL, for example /status`,
		"ping_path: '/a?b'":                 `f:2:15: pools[0].ping_path: "/a?b" is not the path of a URL, for example /status`,
		"{status_path: /a, ping_path: /a":   `f:2:32: pools[0].ping_path: "/a" is status_path too`,
		"{ping_path: /a, ping_response: ''": `f:2:34: pools[0].ping_response: is empty: who asks could not tell it from no answer`,
	} {
		if keys[0] != '{' {
			keys = "{" + keys
		}
		_, err := load(t, "pools:\n- "+keys+", name: p, listen: unix:/p, timeout: 1s, function: {}}\n")
		wantFaults(t, err, want)
	}
}

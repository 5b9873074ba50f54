package cli

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
)

// Of a pool whose workers are direct the table is empty whatever they do, so the command says why.
func TestRequestsOfDirectWorkers(t *testing.T) {
	path := t.TempDir() + "/s"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"pools": [{"name": "fast", "workers": {"direct": true}}, {"name": "quick", "workers": {"direct": true}}, {"name": "php", "workers": {}}]}`)
	})}
	ended := make(chan struct{})
	go func() { defer close(ended); server.Serve(l) }()
	defer func() { server.Close(); <-ended }()
	for args, want := range map[string]string{
		"":           "fcgid: not those of fast, quick: workers with connections: direct take them past the daemon\n",
		"fast":       "fcgid: not those of fast: workers with connections: direct take them past the daemon\n",
		"php":        "",
		"--json":     "fcgid: not those of fast, quick: workers with connections: direct take them past the daemon\n",
		"php --json": "",
	} {
		out, err := commandLine(append([]string{"requests", "--control", path}, strings.Fields(args)...)...)
		note := ""
		if i := strings.Index(out, "fcgid: "); i >= 0 {
			note = out[i:]
		}
		if err != nil || note != want {
			t.Errorf("%q: %v, %q, want %q", args, err, note, want)
		}
	}
}

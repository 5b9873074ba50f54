package cli

import (
	"strings"
	"testing"
)

// commandLine runs fcgid with arguments and returns what it prints, and its error.
func commandLine(args ...string) (string, error) {
	var out strings.Builder
	root := Commands("fcgid")
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&out)
	err := root.Execute()
	return out.String(), err
}

func TestVersionFlag(t *testing.T) {
	want, err := commandLine("version")
	if err != nil || !strings.HasPrefix(want, "fcgid ") {
		t.Fatalf("%q, %v", want, err)
	}
	if got, err := commandLine("--version"); err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestDidYouMean(t *testing.T) {
	for arg, want := range map[string]string{
		"serv": "(did you mean serve?)", "srve": "(did you mean serve?)", "Serve": "(did you mean serve?)", "sevre": "(did you mean serve?)",
		"relaod": "(did you mean reload?)", "stauts": "(did you mean status?)", "reqest": "(did you mean request", "start": "(did you mean serve?)",
		"run": "(did you mean serve?)", "stop": "",
	} {
		_, err := commandLine(arg)
		if err == nil || !strings.Contains(err.Error(), `unknown command "`+arg+`"`) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", arg, err, want)
		}
	}
}

// A shell completes what a flag or an argument may be.
func TestCompletion(t *testing.T) {
	for args, want := range map[string]string{
		"serve --log.level ":         "debug info warn error",
		"serve --log.format ":        "auto console json",
		"request unix:/x --role ":    "responder authorizer filter",
		"request unix:/x -X ":        "GET HEAD POST PUT PATCH DELETE OPTIONS",
		"requests --stage ":          "params body queued running ending",
		"check --access_log.format ": "json combined",
		"serve --admin.uris ":        "hidden full",
	} {
		out, err := commandLine(append([]string{"__completeNoDesc"}, strings.Split(args, " ")...)...)
		got, _, _ := strings.Cut(out, ":")
		if err != nil || strings.Join(strings.Fields(got), " ") != want {
			t.Errorf("%s: got %q, %v, want %s", args, out, err, want)
		}
	}
}

package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"
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
		"log": ": the log is where log.output says; of a unit: journalctl -u fcgid", "logs": "journalctl", "journal": "journalctl", "lo": "",
	} {
		_, err := commandLine(arg)
		if err == nil || !strings.Contains(err.Error(), `unknown command "`+arg+`"`) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", arg, err, want)
		}
	}
}

// What is wrong with the arguments is said in one way, with their names.
func TestArguments(t *testing.T) {
	for args, want := range map[string]string{
		"status a b":              "got 2 arguments, want POOL alone, or none",
		"top a b c":               "got 3 arguments, want POOL alone, or none",
		"requests a b":            "got 2 arguments, want POOL alone, or none",
		"check a b":               "got 2 arguments, want FILE alone, or none",
		"dev a b":                 "got 2 arguments, want DIR alone, or none",
		"request":                 "got no argument, want ADDR",
		"request a b":             "got 2 arguments, want ADDR alone",
		"drain":                   "got no argument, want POOL",
		"pause a b":               "got 2 arguments, want POOL alone",
		"scale a":                 "got 1 argument, want POOL N",
		"scale a 1 2":             "got 3 arguments, want POOL N",
		"kill":                    "got no argument, want NUMBER…",
		"import php-fpm":          "got no argument, want FILE...",
		"import spawn-fcgi":       "got no argument, want -- ARGS",
		"import wrap":             `unknown command "wrap" for "fcgid import"`,
		"version x":               `unexpected argument "x"`,
		"fcgiwrap x":              `unexpected argument "x"`,
		"completion bash x":       `unexpected argument "x"`,
		"completion powershell x": `unexpected argument "x"`,
		"reload x":                `unexpected argument "x": write -c x to name the configuration file`,
	} {
		_, err := commandLine(strings.Split(args, " ")...)
		var coded exitError
		if err == nil || err.Error() != want || !errors.As(err, &coded) || coded.code != exitUsage {
			t.Errorf("%s: %v, want the usage error %q", args, err, want)
		}
	}
}

// No command is described in the words of the library.
func TestDescriptions(t *testing.T) {
	var look func(c *cobra.Command)
	look = func(c *cobra.Command) {
		for _, text := range []string{c.Short, c.Long} {
			if strings.Contains(text, "Generate") || strings.Contains(text, "autocompletion") || strings.Contains(text, "Help about") {
				t.Errorf("%s: %q", c.CommandPath(), text)
			}
		}
		if c.Short == "" {
			t.Errorf("nothing is said of %s", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			look(sub)
		}
	}
	look(Commands("fcgid"))
	if out, err := commandLine("completion", "bash", "--help"); err != nil || !strings.Contains(out, "source <(fcgid completion bash)") {
		t.Errorf("%v %s", err, out)
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

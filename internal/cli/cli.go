// Package cli is fcgid's command line: flags in, one call, its output and the exit
// status. What the commands do lives in other packages.
package cli

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/plural"
	"github.com/fcgid/fcgid/internal/pool"
	"github.com/fcgid/fcgid/internal/privsep"
	"github.com/fcgid/fcgid/internal/spawn"
)

// The exit statuses beside 0.
const (
	exitFailure = 1
	exitUsage   = 2
	exitConfig  = 78 // EX_CONFIG of sysexits.h, as php-fpm has it
)

// Main is fcgid with the functions of a program, which may be nil: it exits with
// the status of what the command line says.
func Main(functions *fcgi.Registry) { os.Exit(run(functions)) }

func run(functions *fcgi.Registry) (status int) {
	if os.Getpid() == 1 {
		status, err := spawn.AsInit()
		if err != nil {
			fmt.Fprintf(os.Stderr, "fcgid: %v\n", err)
			return exitFailure
		}
		return status
	}
	err := privsep.Begin()
	if err == nil {
		err = spawn.CleanInheritance(notifyFDs(os.Args)...)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "fcgid: %v\n", err)
		return exitFailure
	}
	root := newRootCommand(filepath.Base(os.Args[0]), pool.NewFunctions(functions))
	if filepath.Base(os.Args[0]) == wrapName {
		root.SetArgs(append([]string{wrapName}, os.Args[1:]...))
	}
	if cmd, err := root.ExecuteC(); err != nil {
		return report(cmd, err)
	}
	return 0
}

// Commands is the command line of a program of that name, to be described.
func Commands(name string) *cobra.Command {
	return newRootCommand(name, pool.NewFunctions(nil))
}

func newRootCommand(name string, functions pool.Functions) *cobra.Command {
	root := &cobra.Command{
		Use:           name,
		Short:         "Runs CGI programs, workers and functions behind nginx's fastcgi_pass",
		Long:          "fcgid is a FastCGI process manager: it runs CGI programs, persistent\nworkers (PHP, Perl, C) and Go functions for nginx, Apache, lighttpd, HAProxy and\nothers, under limits and timeouts, with logs and metrics.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.Version = versionLine()
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageErrorf("%v", err) })
	root.AddCommand(newServeCommand(functions), newCheckCommand(functions), newRequestCommand(), newDevCommand(functions), newStatusCommand(), newTopCommand(), newRequestsCommand(), newReloadCommand(), newUpgradeCommand(), newImportCommand(), newWrapCommand(), newVersionCommand())
	root.AddCommand(newOrderCommands()...)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Args = helpTopic
			c.Short, c.Long = "Shows what a command does, and its flags", ""
		case "completion":
			describeCompletion(c)
		}
		c.Args = usageArgs(c.Args)
	}
	root.Args = usageArgs(noCommand)
	completeFlags(root)
	return root
}

// describeCompletion says in our words what cobra's command does, which shows its help when
// no shell follows.
func describeCompletion(c *cobra.Command) {
	c.Short = "Prints what has a shell complete commands and flags"
	c.Long = c.Short + ". The help of each shell's\ncommand says where to put it; make install does that."
	c.Run = func(cmd *cobra.Command, _ []string) { cmd.Help() }
	for _, shell := range c.Commands() {
		shell.Short = "Prints what has " + shell.Name() + " complete commands and flags"
		_, how, _ := strings.Cut(shell.Long, "\n")
		shell.Long = shell.Short + ".\n" + how
		shell.Args = usageArgs(nil)
	}
}

// elsewhere are commands that somebody looks for here, and what there is in their place.
var elsewhere = map[string]string{"log": whereLog, "logs": whereLog, "journal": whereLog}

const whereLog = "the log is where log.output says; of a unit: journalctl -u fcgid"

// noCommand refuses what is no command, and tells the one that is near.
func noCommand(cmd *cobra.Command, args []string) error {
	err := cobra.NoArgs(cmd, args)
	if err == nil {
		return nil
	}
	if text := elsewhere[args[0]]; text != "" {
		return fmt.Errorf("%w: %s", err, text)
	}
	cmd.SuggestionsMinimumDistance = 2
	near := cmd.SuggestionsFor(args[0])
	if longer := slices.DeleteFunc(slices.Clone(near), func(name string) bool { return !strings.HasPrefix(name, args[0]) }); len(longer) > 0 {
		near = longer
	}
	if len(near) > 0 {
		return fmt.Errorf("%w (did you mean %s?)", err, strings.Join(near, " or "))
	}
	return err
}

// helpTopic accepts the name of a command.
func helpTopic(cmd *cobra.Command, args []string) error {
	if found, rest, err := cmd.Root().Find(args); err != nil || len(args) > 0 && (found == cmd.Root() || len(rest) > 0) {
		return fmt.Errorf("unknown help topic %q", strings.Join(args, " "))
	}
	return nil
}

// usageArgs makes what is wrong with a command's arguments a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	if check == nil {
		check = counted(0, 0)
	}
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageErrorf("%v", err)
		}
		return nil
	}
}

// many is more arguments than there are.
const many = math.MaxInt

// counted takes from least to most arguments, which the command's Use names.
func counted(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		n := len(args)
		if n >= least && n <= most {
			return nil
		}
		if most == 0 {
			return fmt.Errorf("unexpected argument %q", args[0])
		}
		got := "no argument"
		if n > 0 {
			got = plural.Of(n, "argument")
		}
		_, want, _ := strings.Cut(strings.TrimSuffix(cmd.Use, " [flags]"), " ")
		want = strings.Trim(want, "[]")
		switch {
		case least == 0:
			want += " alone, or none"
		case most == 1 && n > 0:
			want += " alone"
		}
		return fmt.Errorf("got %s, want %s", got, want)
	}
}

// report tells a command's error to the user and returns the exit status.
func report(cmd *cobra.Command, err error) int {
	var faults config.Faults
	if errors.As(err, &faults) {
		for _, f := range faults {
			fmt.Fprintf(cmd.ErrOrStderr(), "%v\n%s", f, f.Excerpt())
		}
		return exitConfig
	}
	var coded interface{ ExitCode() int }
	code := exitFailure
	if errors.As(err, &coded) {
		code = coded.ExitCode()
	}
	if text := err.Error(); code == exitConfig {
		fmt.Fprintln(cmd.ErrOrStderr(), text) // faults, which say where they are
	} else if text != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", cmd.CommandPath(), text)
	}
	if code == exitUsage {
		fmt.Fprintf(cmd.ErrOrStderr(), "Run '%s --help' for usage.\n", cmd.CommandPath())
	}
	return code
}

// An exitError ends the program with a status of its own.
type exitError struct {
	code int
	msg  string
}

// Error is the message alone; whoever prints it names the command.
func (e exitError) Error() string { return e.msg }

// ExitCode is the exit status.
func (e exitError) ExitCode() int { return e.code }

func usageErrorf(format string, args ...any) error {
	return exitError{exitUsage, fmt.Sprintf(format, args...)}
}

// Package cli is fcgid's command line: flags in, one call, its output and the exit
// status. What the commands do lives in other packages.
package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/config"
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
	root := newRootCommand(pool.NewFunctions(functions))
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
	root := newRootCommand(pool.NewFunctions(nil))
	root.Use = name
	return root
}

func newRootCommand(functions pool.Functions) *cobra.Command {
	root := &cobra.Command{
		Use:           filepath.Base(os.Args[0]),
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
		case "completion": // shows its help when no shell follows
			c.Run = func(cmd *cobra.Command, _ []string) { cmd.Help() }
		}
		c.Args = usageArgs(c.Args)
	}
	root.Args = usageArgs(noCommand)
	completeFlags(root)
	return root
}

// noCommand refuses what is no command, and tells the one that is near.
func noCommand(cmd *cobra.Command, args []string) error {
	err := cobra.NoArgs(cmd, args)
	if err == nil {
		return nil
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
		check = cobra.NoArgs
	}
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageErrorf("%v", err)
		}
		return nil
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

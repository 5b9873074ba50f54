package cli

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/daemon"
	"github.com/fcgid/fcgid/internal/pool"
	"github.com/fcgid/fcgid/internal/privsep"
	"github.com/fcgid/fcgid/internal/spawn"
	"github.com/fcgid/fcgid/internal/upgrade"
)

func newServeCommand(functions pool.Functions) *cobra.Command {
	o := daemon.Options{Functions: functions}
	cmd := &cobra.Command{
		Use:        "serve",
		SuggestFor: []string{"start", "run", "daemon"},
		Short:      "Runs the daemon, in the foreground",
		Long: `Runs the daemon, in the foreground, with the pools of a configuration file.

Signals: HUP reads the file again; USR1 opens log files anew; USR2 starts the
program anew in place of this one, see fcgid upgrade; TERM, INT and QUIT stop
gracefully, a second one at once. Every global key of the file can be set by
a flag or by an environment variable such as FCGID_LOG_LEVEL.

Who has started it is told when it serves: systemd (Type=notify), and s6 and others
that wait for a newline on the descriptor of --notify-fd.`,
		Example: "  fcgid serve -c /etc/fcgid/fcgid.yaml\n  FCGID_LOG_LEVEL=debug fcgid serve -c fcgid.yaml",
		Args:    noFile,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.File == "-" {
				return usageErrorf("-c -: a reload could not read the standard input again; fcgid check can read it")
			}
			return serve(cmd.Flags(), o)
		},
	}
	addConfigFlags(cmd.Flags(), &o.File)
	cmd.Flags().IntVar(&o.NotifyFD, notifyFlag, 0, "`descriptor` that gets a newline, and is closed, when the daemon serves")
	return cmd
}

// serve is the daemon, or one of the processes of which it is made where root has started it.
func serve(flags *pflag.FlagSet, o daemon.Options) error {
	load := loaderOf(flags, o.File, o.Functions)
	o.Load = load.Check
	switch {
	case privsep.IsReader():
		return privsep.Read(load)
	case privsep.IsDaemon():
		session, err := privsep.NewSession(flags, o.Functions.AreAdded())
		if err != nil {
			return err
		}
		o.Spawner, o.Load, o.NotifyFD = session, session.Load, session.NotifyFD
	case privsep.IsSuccessor(), os.Geteuid() == 0 && config.MayHaveUser(o.File):
		status, err := serveApart(&o)
		if !errors.Is(err, privsep.ErrTogether) {
			return exitWith(status, err)
		}
	}
	return daemon.Run(o)
}

// serveApart has a spawner start the daemon. If that is to take another one's place, it is told why
// there is none.
func serveApart(o *daemon.Options) (status int, err error) {
	s := privsep.SpawnOptions{NotifyFD: o.NotifyFD, HasFunctions: o.Functions.AreAdded()}
	if spawn.IsSuccessor() {
		s.NotifyFD = 0 // whoever has waited for it has been told
	}
	if err := daemon.CheckNotifyFD(s.NotifyFD); err != nil {
		return 0, err
	}
	if s.Program, err = upgrade.Self(); err != nil {
		return 0, err
	}
	status, err = privsep.Spawn(s)
	if err != nil && !errors.Is(err, privsep.ErrTogether) {
		daemon.RefuseUpgrade(err)
	}
	return status, err
}

// loaderOf reads the file, for this process or for another one.
func loaderOf(flags *pflag.FlagSet, file string, functions pool.Functions) privsep.Loader {
	return privsep.Loader{
		Check: func() (*config.Config, error) { return config.LoadAndCheck(file, flags, functions.Names()) },
		HandOver: func() (*config.Config, *config.Bundle, error) {
			c, bundle, err := config.LoadForOthers(file, flags, functions.Names())
			if err == nil {
				bundle.Unreached = pool.Unreached(c)
			}
			return c, bundle, err
		},
	}
}

// exitWith is the error that has the program exit with a status, of what has said why itself.
func exitWith(status int, err error) error {
	if err == nil && status != 0 {
		return exitError{code: status}
	}
	return err
}

const notifyFlag = "notify-fd"

// notifyFDs are what arguments name by --notify-fd. It is for the time before flags are
// read, and may find one that is none.
func notifyFDs(args []string) (fds []int) {
	for i, arg := range args {
		value, ok := strings.CutPrefix(arg, "--"+notifyFlag+"=")
		if arg == "--"+notifyFlag && i+1 < len(args) {
			value, ok = args[i+1], true
		}
		if fd, err := strconv.Atoi(value); ok && err == nil && fd > 2 {
			fds = append(fds, fd)
		}
	}
	return fds
}

package cli

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/daemon"
	"github.com/fcgid/fcgid/internal/pool"
	"github.com/fcgid/fcgid/internal/privsep"
)

func newServeCommand(functions pool.Functions) *cobra.Command {
	var file string
	var notify int
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
			if file == "-" {
				return usageErrorf("-c -: a reload could not read the standard input again; fcgid check can read it")
			}
			load := privsep.Loader{
				Check: func() (*config.Config, error) {
					return config.LoadAndCheck(file, cmd.Flags(), functions.Names())
				},
				HandOver: func() (*config.Config, *config.Bundle, error) {
					c, bundle, err := config.LoadForOthers(file, cmd.Flags(), functions.Names())
					if err == nil {
						bundle.Unreached = pool.Unreached(c)
					}
					return c, bundle, err
				},
			}
			o := daemon.Options{File: file, Functions: functions, NotifyFD: notify, Load: load.Check}
			switch {
			case privsep.IsReader():
				return privsep.Read(load)
			case privsep.IsDaemon():
				session, err := privsep.NewSession(cmd.Flags())
				if err != nil {
					return err
				}
				o.Spawner, o.Load, o.NotifyFD = session, session.Load, session.NotifyFD
			case os.Geteuid() == 0 && config.MayHaveUser(file):
				if err := daemon.CheckNotifyFD(notify); err != nil {
					return err
				}
				status, err := privsep.Spawn(notify)
				if !errors.Is(err, privsep.ErrTogether) {
					return exitWith(status, err)
				}
			}
			return daemon.Run(o)
		},
	}
	addConfigFlags(cmd.Flags(), &file)
	cmd.Flags().IntVar(&notify, notifyFlag, 0, "`descriptor` that gets a newline, and is closed, when the daemon serves")
	return cmd
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

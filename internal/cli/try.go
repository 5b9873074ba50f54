package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/daemon"
	"github.com/fcgid/fcgid/internal/status"
	"github.com/fcgid/fcgid/internal/users"
)

// try returns an error if no daemon would start with a configuration here and now, and says why.
func (o *checkOptions) try(cmd *cobra.Command, cfg *config.Config, running daemon.Running, opens []string) error {
	refusals, doubts := daemon.Try(cfg, o.file, running, opens)
	for _, d := range doubts {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", d)
	}
	for _, r := range refusals {
		fmt.Fprintln(cmd.ErrOrStderr(), r)
	}
	if len(refusals) == 0 {
		return nil
	}
	if running == daemon.IsRunning {
		return errors.New("the file has no fault, and the daemon would refuse to reload it here and now")
	}
	as := users.NameOf(uint32(os.Geteuid()))
	if cfg.RunsAs != nil {
		as += ", to become " + cfg.User + ","
	}
	return fmt.Errorf("the file has no fault, and a daemon that %s starts would not start with it here and now", as)
}

// runningTime is how long the daemon that runs may take to answer a check.
const runningTime = 5 * time.Second

// askRunning finds out whether a daemon runs with the file, and where that would begin to listen. The
// error is that it would not take the file as it is now.
func (o *checkOptions) askRunning(ctx context.Context) (running daemon.Running, opens []string, err error) {
	if o.file == "-" {
		return daemon.NotRunning, nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, runningTime)
	defer cancel()
	t := target{file: o.file, control: o.control}
	reply, at, err := t.exchange(ctx, status.Order{Verb: status.VerbDiff})
	if gone, ok := errors.AsType[*absent](err); ok {
		if isStarting() || gone.isElsewhere {
			return daemon.MayRun, nil, nil
		}
		return daemon.NotRunning, nil, nil
	}
	switch {
	case err != nil:
		return daemon.MayRun, nil, nil
	case reply.Changes == nil, t.reads(at, reply.Changes.File) != nil:
		return daemon.NotRunning, nil, nil // at least there
	}
	return daemon.IsRunning, reply.Changes.Opens, refusedReload(reply)
}

// isStarting reports whether systemd has started this process, which may hold the sockets of a
// daemon for the next one.
func isStarting() bool { return os.Getenv("SYSTEMD_EXEC_PID") == strconv.Itoa(os.Getpid()) }

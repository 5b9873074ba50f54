package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/daemon"
	"github.com/fcgid/fcgid/internal/status"
	"github.com/fcgid/fcgid/internal/users"
)

// try returns an error if no daemon would start with a configuration here and now, and says why.
func (o *checkOptions) try(cmd *cobra.Command, cfg *config.Config, isRunning bool, opens []string) error {
	refusals, doubts := daemon.Try(cfg, o.file, isRunning, opens)
	for _, d := range doubts {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", d)
	}
	for _, r := range refusals {
		fmt.Fprintln(cmd.ErrOrStderr(), r)
	}
	if len(refusals) == 0 {
		return nil
	}
	if isRunning {
		return errors.New("the file has no fault, and the daemon would refuse to reload it here and now")
	}
	as := "user " + users.NameOf(uint32(os.Geteuid()))
	if cfg.RunsAs != nil {
		as += ", to become " + cfg.User + ","
	}
	return fmt.Errorf("the file has no fault, and a daemon that %s starts would not start with it here and now", as)
}

// runningTime is how long the daemon that runs may take to answer a check.
const runningTime = 5 * time.Second

// askRunning finds out whether a daemon runs with the file, and where that would begin to listen. The
// error is that it would not take the file as it is now.
func (o *checkOptions) askRunning(ctx context.Context) (isRunning bool, opens []string, err error) {
	if o.file == "-" {
		return false, nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, runningTime)
	defer cancel()
	t := target{file: o.file, control: o.control}
	reply, at, err := t.exchange(ctx, status.Order{Verb: status.VerbDiff})
	if err != nil || reply.Changes == nil || t.reads(at, reply.Changes.File) != nil {
		return false, nil, nil
	}
	return true, reply.Changes.Opens, refusedReload(reply)
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/internal/address"
	"github.com/fcgid/fcgid/internal/admin"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/status"
	"github.com/fcgid/fcgid/internal/users"
)

// replyTime is how long a daemon may need for an order that waits for nothing: it may be
// carrying out another one.
const replyTime = 30 * time.Second

// lateTime is how much later than --timeout the reply may come that it is over: the daemon
// says what is left, and ends a new one that was not ready.
const lateTime = 5 * time.Second

// orderTimeout is the default of --timeout, for orders that wait.
const orderTimeout = time.Minute

// A target is the daemon that a command is for.
type target struct {
	file, control string

	tell io.Writer // once: that the daemon is another user's than the file says; nil: nobody
}

func (t *target) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&t.file, "config", "c", defaultConfig, "configuration `file` of the daemon, by which its control socket is found")
	cmd.Flags().StringVar(&t.control, "control", "", "`path` of the control socket, if it is not where the configuration says")
	t.tell = lateErr{cmd}
}

// A lateErr writes to what is a command's standard error by then.
type lateErr struct{ cmd *cobra.Command }

func (l lateErr) Write(p []byte) (int, error) { return l.cmd.ErrOrStderr().Write(p) }

var errControlOff = errors.New("the control socket is turned off (admin.control is empty); --control PATH names one")

// place is that of the control socket.
func (t *target) place() (place, error) {
	if path := strings.TrimPrefix(t.control, "unix:"); path != "" {
		return place{path: path}, nil
	}
	path := config.FindControl(t.file)
	if path == "" {
		return place{}, errControlOff
	}
	other, isOther := t.insteadOf(path)
	if !isOther {
		return place{path: path}, nil
	}
	if t.tell != nil {
		fmt.Fprintf(t.tell, "fcgid: asked the daemon of %s at %s: nobody has it where %s says\n", users.NameOf(other.owner[0]), other.path, status.Printable(t.file))
		t.tell = nil
	}
	return other, nil
}

// reads returns an error if the daemon that was asked at a place has another file than
// the target.
func (t *target) reads(at, file string) error {
	whole, err := filepath.Abs(t.file)
	if err == nil && file != whole && !isOneFile(file, whole) {
		err = fmt.Errorf("no daemon of %s runs (at %s is that of %s)", status.Printable(t.file), at, status.Printable(file))
	}
	return err
}

// isOneFile reports whether two paths lead to the same file, as a symbolic link does.
func isOneFile(a, b string) bool {
	one, errA := os.Stat(a)
	other, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(one, other)
}

// send has the daemon carry out an order. What it has refused is an error.
func (t *target) send(ctx context.Context, o status.Order) (*status.Reply, error) {
	reply, _, err := t.exchange(ctx, o)
	switch {
	case err != nil:
		return nil, err
	case len(reply.Faults) > 0:
		return nil, exitError{exitConfig, strings.Join(reply.Faults, "\n")}
	case reply.Error != "":
		return nil, errors.New(reply.Error)
	}
	return reply, nil
}

// exchange gives an order to the daemon, and returns what it says and where it was asked.
func (t *target) exchange(ctx context.Context, o status.Order) (reply *status.Reply, path string, err error) {
	at, err := t.place()
	if err != nil {
		return nil, "", err
	}
	if o.Timeout < 0 {
		return nil, "", usageErrorf("--timeout %v is negative", o.Timeout)
	}
	if limit := replyLimit(&o); limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("it has not answered within %v: the order is dropped, unless it has begun by now", limit))
		defer cancel()
	}
	reply, err = admin.SendOrder(ctx, at.path, o, at.owner...)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, at.path, t.unreached(at.path, err)
	}
	return reply, at.path, nil
}

// replyLimit is how long to wait for the reply to an order; 0 is for ever.
func replyLimit(o *status.Order) time.Duration {
	waits := o.Verb == status.VerbReload || o.Verb == status.VerbDrain || o.Verb == status.VerbRecycle || o.Verb == status.VerbUpgrade
	switch {
	case o.Timeout > 0:
		return o.Limit() + lateTime
	case waits:
		return 0
	}
	return replyTime
}

// withOutcome adds a line that says what faults of the configuration have led to.
func withOutcome(err error, line string) error {
	if e := (exitError{}); errors.As(err, &e) && e.code == exitConfig {
		return exitError{exitConfig, e.msg + "\n" + line}
	}
	return err
}

// left is an error that says what has not come to its end.
func left(reply *status.Reply) error {
	if len(reply.Left) == 0 {
		return nil
	}
	return errors.New("not finished: " + status.Printable(strings.Join(reply.Left, "; ")))
}

// completePools are the names of the daemon's pools, for a shell.
func (t *target) completePools(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return t.complete(cmd, args, func(p *status.Pool) []string { return []string{p.Name} })
}

// completeAddresses are those of the daemon's pools, for a shell.
func (t *target) completeAddresses(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return t.complete(cmd, args, func(p *status.Pool) (addresses []string) {
		for _, l := range p.Listeners {
			if _, _, err := address.ParseDial(l.Address); err == nil {
				addresses = append(addresses, l.Address)
			}
		}
		return addresses
	})
}

// complete is what the first argument of a command may be, by the daemon's pools.
func (t *target) complete(cmd *cobra.Command, args []string, of func(*status.Pool) []string) (all []cobra.Completion, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Second)
	defer cancel()
	t.tell = nil
	page, err := t.status(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for i := range page.Pools {
		all = append(all, of(&page.Pools[i])...)
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}

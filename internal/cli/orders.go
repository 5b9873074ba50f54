package cli

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/internal/status"
)

// An orderCommand is a command for one pool of a daemon, or for requests.
type orderCommand struct {
	use, short, long, example string

	args    cobra.PositionalArgs
	waits   string // for what, if it does
	prepare func(o *status.Order, args []string) error
	print   func(cmd *cobra.Command, o *status.Order, reply *status.Reply) error
	flags   func(cmd *cobra.Command, o *status.Order)
}

// command is that of the verb.
func (c *orderCommand) command(verb string) *cobra.Command {
	var t target
	o := status.Order{Verb: verb}
	cmd := &cobra.Command{
		Use: c.use, Short: c.short, Long: c.long, Example: c.example, Args: c.args,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.prepare(&o, args); err != nil {
				return err
			}
			reply, err := t.send(cmd.Context(), o)
			if err != nil {
				return err
			}
			return c.print(cmd, &o, reply)
		},
	}
	if verb != status.VerbKill {
		cmd.ValidArgsFunction = t.completePools
	}
	t.addFlags(cmd)
	if c.waits != "" {
		cmd.Flags().DurationVar(&o.Timeout, "timeout", orderTimeout, "how long to wait for "+c.waits+"; 0 is for ever")
	}
	if c.flags != nil {
		c.flags(cmd, &o)
	}
	return cmd
}

// ofPool takes the name of a pool.
func ofPool(o *status.Order, args []string) error {
	o.Pool = args[0]
	return nil
}

// printText says what was done, and what is left to do.
func printText(cmd *cobra.Command, _ *status.Order, reply *status.Reply) error {
	if reply.Text != "" {
		fmt.Fprintln(cmd.OutOrStdout(), reply.Text)
	}
	return left(reply)
}

func newOrderCommands() []*cobra.Command {
	return []*cobra.Command{
		newKillCommand(), newDrainCommand(), newPauseCommand(), newResumeCommand(), newRecycleCommand(), newScaleCommand(),
	}
}

func newKillCommand() *cobra.Command {
	c := orderCommand{
		use: "kill NUMBER…", short: "Ends requests, with all that runs for them",
		long: `Ends running requests by their numbers, which fcgid requests shows: the program
and all that it has started, TERM first and KILL after its grace. The client gets
503, or the end of an answer that has begun. Exits 1 if one was not there.`,
		example: "  fcgid requests --older 1m\n  fcgid kill 4711 4712",
		args:    counted(1, many), print: printKilled,
		prepare: func(o *status.Order, args []string) error {
			for _, arg := range args {
				id, err := strconv.ParseUint(arg, 10, 64)
				if err != nil {
					return usageErrorf("%q is not the number of a request", arg)
				}
				o.IDs = append(o.IDs, id)
			}
			return nil
		},
	}
	return c.command(status.VerbKill)
}

func printKilled(cmd *cobra.Command, o *status.Order, reply *status.Reply) error {
	missing := 0
	for _, k := range reply.Killed {
		if k.Error != "" {
			missing++
			fmt.Fprintf(cmd.ErrOrStderr(), "request %d: %s\n", k.ID, k.Error)
			continue
		}
		fmt.Fprintf(cmd.OutOrStdout(), "request %d of pool %s ended (%s)\n", k.ID, k.Pool, status.Printable(k.Script))
	}
	if missing > 0 {
		return fmt.Errorf("not found: %d of %d", missing, len(o.IDs))
	}
	return nil
}

func newDrainCommand() *cobra.Command {
	c := orderCommand{
		use: "drain POOL", short: "Has a pool take no more requests, and waits for those that it has",
		long: `Has a pool take no more requests: they get 503, which web servers can answer by
another server. Those that run or wait already are served; the command waits for
that. With --queue new ones wait instead, as with fcgid pause, and it waits for
those that run. With --notice all is served for so long, and only /-/ready?pool=POOL
says that it is not ready, so that load balancers send elsewhere what would get 503.
fcgid resume ends it; a reload does not.`,
		example: "  fcgid drain php --timeout 5m && maintenance && fcgid resume php",
		args:    counted(1, 1), prepare: ofDrain, print: printText, waits: "requests to end",
		flags: func(cmd *cobra.Command, o *status.Order) {
			cmd.Flags().BoolVar(&o.Queue, "queue", false, "new requests wait in the pool's queue instead of getting 503")
			cmd.Flags().DurationVar(&o.Notice, "notice", 0, "how long before it /-/ready says that the pool is not ready; --timeout begins after it")
		},
	}
	return c.command(status.VerbDrain)
}

func ofDrain(o *status.Order, args []string) error {
	switch {
	case o.Notice < 0:
		return usageErrorf("--notice %v is negative", o.Notice)
	case o.Notice > status.MaxNotice:
		return usageErrorf("--notice %v is longer than %v", o.Notice, status.MaxNotice)
	case o.Notice > 0 && o.Queue:
		return usageErrorf("--notice is of no use with --queue: nobody gets 503")
	}
	return ofPool(o, args)
}

func newPauseCommand() *cobra.Command {
	c := orderCommand{
		use: "pause POOL", short: "Has a pool start no requests: they wait in its queue",
		long: `Has a pool start no requests. They wait in its queue, as many as limits.queue
lets and for as long as limits.queue_timeout does; those get 503 that it does not.
What runs goes on. fcgid resume ends it; a reload does not.`,
		args: counted(1, 1), prepare: ofPool, print: printText,
	}
	return c.command(status.VerbPause)
}

func newResumeCommand() *cobra.Command {
	c := orderCommand{
		use: "resume POOL", short: "Ends a drain or a pause",
		args: counted(1, 1), prepare: ofPool, print: printText,
	}
	return c.command(status.VerbResume)
}

func newRecycleCommand() *cobra.Command {
	c := orderCommand{
		use: "recycle POOL", short: "Replaces a pool's workers, one after the other",
		long: `Replaces the workers of a pool by new ones of the same program, which read their
files anew, such as after a deployment with opcache.validate_timestamps=0. No
request is lost: an old worker leaves when a new one has shown that it runs, and
once its request has ended. Waits until all that serve are new ones.`,
		example: "  fcgid recycle php",
		args:    counted(1, 1), prepare: ofPool, waits: "workers to be replaced",
		print: func(cmd *cobra.Command, o *status.Order, reply *status.Reply) error {
			fmt.Fprintf(cmd.OutOrStdout(), "pool %s: workers replaced: %s\n", o.Pool, reply.Workers)
			return left(reply)
		},
	}
	return c.command(status.VerbRecycle)
}

func newScaleCommand() *cobra.Command {
	c := orderCommand{
		use: "scale POOL N", short: "Changes how many requests a pool does at once",
		long: `Changes worker.max, or limits.max_reqs of a pool without workers, until the next
reload or the daemon's end. Those beyond N end when they have no request.`,
		example: "  fcgid scale php 16",
		args:    counted(2, 2), print: printText,
		prepare: func(o *status.Order, args []string) (err error) {
			o.Pool = args[0]
			if o.N, err = strconv.Atoi(args[1]); err != nil {
				return usageErrorf("%q is not a number", args[1])
			}
			return nil
		},
	}
	return c.command(status.VerbScale)
}

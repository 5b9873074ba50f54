package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/daemon"
	"github.com/fcgid/fcgid/internal/pool"
)

const defaultConfig = "/etc/fcgid/fcgid.yaml"

type checkOptions struct {
	target              // of --diff
	user                string
	dump, diff, machine bool
}

func newCheckCommand(functions pool.Functions) *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Checks a configuration file",
		Long: `Reads a configuration file and the files it includes, checks every key, and
looks whether the users, folders, scripts and interpreters exist, and whether the
daemon would start, if this user started it here and now: its sockets, logs and
sandboxes. One that runs with the file is asked whether it would reload it.

Each fault is a line "file:line:column: path: what is wrong". Exits 78 when there
is one, and 1 when the file is right and what it asks for cannot be had. The file
may be -, the standard input. What is no fault and hardly can be meant, what only the
start can tell, and an address that another process has, is a warning.

Root may read and run what the daemon's user may not: --user looks with that
user's eyes. --machine tells what of a pool's sandbox can be done here. --diff
asks the daemon that runs with the file what fcgid reload would change.`,
		Example: "  fcgid check --diff\n  fcgid check -c /etc/fcgid/fcgid.yaml --user www-data\n  fcgid check -c fcgid.yaml --dump",
		Args:    counted(0, 1),
		RunE:    func(cmd *cobra.Command, args []string) error { return o.run(cmd, args, functions) },
	}
	f := cmd.Flags()
	addConfigFlags(f, &o.file)
	f.StringVar(&o.user, "user", "", "look with the rights of this `user`, who will run the daemon; only root can")
	f.BoolVar(&o.dump, "dump", false, "print the effective configuration, with defaults")
	f.BoolVar(&o.machine, "machine", false, "print what of a sandbox can be done here, whatever the file says")
	f.BoolVar(&o.diff, "diff", false, "print what a reload would change in the running daemon")
	o.tell = lateErr{cmd}
	f.StringVar(&o.control, "control", "", "`path` of that daemon's control socket, if it is not where the configuration says")
	return cmd
}

func (o *checkOptions) run(cmd *cobra.Command, args []string, functions pool.Functions) error {
	switch {
	case len(args) > 0 && cmd.Flags().Changed("config"):
		return usageErrorf("-c and an argument both name the file")
	case len(args) > 0:
		o.file = args[0]
	}
	if o.dump && o.diff {
		return usageErrorf("--dump and --diff cannot be given together")
	}
	if err := o.lookAs(cmd); err != nil {
		return err
	}
	if o.machine {
		return printMachine(cmd.OutOrStdout())
	}
	cfg, err := o.load(cmd.Flags(), functions)
	switch {
	case err != nil:
		return err
	case o.dump:
		text, err := cfg.YAML()
		if err != nil {
			return err
		}
		_, err = cmd.OutOrStdout().Write(text)
		return err
	case o.diff:
		changes, err := o.target.diff(cmd.Context())
		if err == nil {
			err = o.try(cmd, cfg, true, changes.Opens)
		}
		if err != nil {
			return err
		}
		return changes.Print(cmd.OutOrStdout())
	}
	return o.approve(cmd, cfg)
}

// load reads the file as a start does. What a start cannot read again is read once.
func (o *checkOptions) load(flags *pflag.FlagSet, functions pool.Functions) (*config.Config, error) {
	loader := loaderOf(flags, o.file, functions)
	if o.file == "-" {
		return loader.Check()
	}
	return loader.Load()
}

// approve says that a file without faults is one with which a daemon would start, and what may
// yet be wrong.
func (o *checkOptions) approve(cmd *cobra.Command, cfg *config.Config) error {
	warn(cmd.ErrOrStderr(), cfg)
	warnOfSandboxes(cmd.ErrOrStderr(), cfg)
	isRunning, opens, err := o.askRunning(cmd.Context())
	if err == nil {
		err = o.try(cmd, cfg, isRunning, opens)
	}
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: ok (pools: %d)\n", o.file, len(cfg.Pools)); err != nil {
		return err
	}
	if !hasSandbox(cfg) {
		return nil
	}
	fmt.Fprintln(cmd.OutOrStdout())
	return printMachine(cmd.OutOrStdout())
}

// warn tells what is no fault and may yet be none of what was meant.
func warn(w io.Writer, cfg *config.Config) {
	for _, warning := range cfg.Warnings() {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
	for _, text := range pool.Unreached(cfg) {
		fmt.Fprintf(w, "warning: %s\n", text)
	}
	if os.Geteuid() == 0 && cfg.RunsAs == nil { // else each pool has a user, with whose eyes it was looked at
		fmt.Fprintf(w, "warning: checked as root, who may read and run everything%s: --user NAME looks with the eyes of another user\n", ofRoot(cfg))
	}
	if need, limit, err := daemon.Descriptors(cfg); err == nil && need > limit {
		fmt.Fprintf(w, "warning: the pools may hold %d descriptors at once, and ulimit -n is %d: see limits.max_conns\n", need, limit)
	}
}

// ofRoot names the pools whose programs would be root's if root started the daemon.
func ofRoot(cfg *config.Config) string {
	pools := cfg.OfRoot()
	if len(pools) == 0 {
		return ""
	}
	return ", and as whom the programs of pools without a user would run (" + strings.Join(pools, ", ") + "), if root starts the daemon"
}

// noFile refuses arguments, of which a file's name is likely one.
func noFile(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("unexpected argument %q: write -c %s to name the configuration file", args[0], args[0])
}

func addConfigFlags(flags *pflag.FlagSet, file *string) {
	flags.StringVarP(file, "config", "c", defaultConfig, "configuration `file`")
	config.AddFlags(flags)
}

package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/daemon"
	"github.com/fcgid/fcgid/internal/pool"
)

const defaultConfig = "/etc/fcgid/fcgid.yaml"

func newCheckCommand(functions pool.Functions) *cobra.Command {
	var file, as string
	var dump, diff, machine bool
	var t target
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Checks a configuration file",
		Long: `Reads a configuration file and the files it includes, checks every key, and
looks whether the users, folders, scripts and interpreters exist. Each fault is
a line "file:line:column: path: what is wrong". Exits 78 when there is one. The
file may be -, the standard input. What is no fault and hardly can be meant is a
warning.

Root may read and run what the daemon's user may not: --user looks with that
user's eyes. --machine tells what of a pool's sandbox can be done here. --diff
asks the daemon that runs with the file what fcgid reload would change.`,
		Example: "  fcgid check --diff\n  fcgid check -c /etc/fcgid/fcgid.yaml --user www-data\n  fcgid check -c fcgid.yaml --dump",
		Args:    counted(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				if cmd.Flags().Changed("config") {
					return usageErrorf("-c and an argument both name the file")
				}
				file = args[0]
			}
			if dump && diff {
				return usageErrorf("--dump and --diff cannot be given together")
			}
			if as != "" {
				if err := become(as); err != nil {
					return err
				}
			}
			if machine {
				return printMachine(cmd.OutOrStdout())
			}
			cfg, err := config.LoadAndCheck(file, cmd.Flags(), functions.Names())
			if err != nil {
				return err
			}
			if diff {
				t.file = file
				return printDiff(cmd, &t)
			}
			if !dump {
				return approve(cmd, file, cfg)
			}
			text, err := cfg.YAML()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	addConfigFlags(cmd.Flags(), &file)
	cmd.Flags().StringVar(&as, "user", "", "look with the rights of this `user`, who will run the daemon; only root can")
	cmd.Flags().BoolVar(&dump, "dump", false, "print the effective configuration, with defaults")
	cmd.Flags().BoolVar(&machine, "machine", false, "print what of a sandbox can be done here, whatever the file says")
	cmd.Flags().BoolVar(&diff, "diff", false, "print what a reload would change in the running daemon")
	cmd.Flags().StringVar(&t.control, "control", "", "`path` of that daemon's control socket, if it is not where the configuration says")
	return cmd
}

// approve says that a file without faults is one, and what may yet be wrong.
func approve(cmd *cobra.Command, file string, cfg *config.Config) error {
	warn(cmd.ErrOrStderr(), cfg)
	if err := checkSandboxes(cmd.ErrOrStderr(), cfg); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: ok (pools: %d)\n", file, len(cfg.Pools)); err != nil {
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
	if os.Geteuid() == 0 {
		fmt.Fprintln(w, "warning: checked as root, who may read and run everything: --user NAME looks with the eyes of another user")
	}
	if need, limit, err := daemon.Descriptors(cfg); err == nil && need > limit {
		fmt.Fprintf(w, "warning: the pools may hold %d descriptors at once, and ulimit -n is %d: see limits.max_conns\n", need, limit)
	}
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

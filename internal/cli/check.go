package cli

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/pool"
)

const defaultConfig = "/etc/fcgid/fcgid.yaml"

func newCheckCommand(functions pool.Functions) *cobra.Command {
	var file string
	var dump bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Checks a configuration file",
		Long: `Reads a configuration file and the files it includes, checks every key, and
looks whether the users, folders, scripts and interpreters exist. Each fault is
a line "file:line:column: path: what is wrong". Exits 78 when there is one.`,
		Example: "  fcgid check -c /etc/fcgid/fcgid.yaml\n  fcgid check -c fcgid.yaml --dump",
		Args:    noFile,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.LoadAndCheck(file, cmd.Flags(), functions.Names())
			if err != nil {
				return err
			}
			if !dump {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: ok (pools: %d)\n", file, len(cfg.Pools))
				return err
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
	cmd.Flags().BoolVar(&dump, "dump", false, "print the effective configuration, with defaults")
	return cmd
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

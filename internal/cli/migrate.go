package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/daemon"
	"github.com/fcgid/fcgid/internal/migrate"
)

func newImportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import",
		Short: "Writes a configuration for what another program was told",
		Long: `Writes to the standard output the configuration for what php-fpm, fcgiwrap or
spawn-fcgi were told. What has no counterpart is a comment that says why. Read it,
save it, and try it with fcgid check.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newImportPHP(), newImportWrap(), newImportSpawn())
	return cmd
}

func newImportPHP() *cobra.Command {
	var o migrate.PHPOptions
	cmd := &cobra.Command{
		Use:   "php-fpm FILE...",
		Short: "Writes the configuration for php-fpm's files, and those that they include",
		Example: "  fcgid import php-fpm /etc/php/8.2/fpm/pool.d/www.conf > fcgid.yaml\n" +
			"  fcgid import php-fpm --root /var/www /etc/php/8.2/fpm/php-fpm.conf",
		Args: usageArgs(counted(1, many)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Program == "" {
				o.Program = "/usr/bin/php-cgi"
				if found, err := exec.LookPath("php-cgi"); err == nil {
					o.Program = found
				}
			}
			return printed(cmd)(migrate.PHPFPM(o, args...))
		},
	}
	cmd.Flags().StringVar(&o.Program, "php", "", "`path` of php-cgi; without it the one in PATH")
	cmd.Flags().StringArrayVar(&o.Root, "root", nil, "`folder` in which a script must be, which php-fpm does not ask for (repeatable)")
	return cmd
}

func newImportWrap() *cobra.Command {
	var w migrate.Wrap
	cmd := &cobra.Command{
		Use:     "fcgiwrap -- ARGS",
		Short:   "Writes the configuration for the arguments of a fcgiwrap",
		Example: "  fcgid import fcgiwrap -- -c 4 -s unix:/run/fcgiwrap.sock",
		Args:    usageArgs(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			flags := cobra.Command{Use: "fcgiwrap"}
			w.AddFlags(flags.Flags())
			if err := flags.ParseFlags(args); err != nil {
				return usageErrorf("fcgiwrap: %v", err)
			}
			if rest := flags.Flags().Args(); len(rest) > 0 {
				return usageErrorf("fcgiwrap: unexpected argument %q", rest[0])
			}
			return printed(cmd)(migrate.FCGIWrap(&w))
		},
	}
	cmd.SetFlagErrorFunc(needsDashes("fcgiwrap"))
	return cmd
}

// needsDashes is for a command that has no flags: those are of another program.
func needsDashes(program string) func(*cobra.Command, error) error {
	return func(_ *cobra.Command, err error) error {
		return usageErrorf("%v: put -- before the arguments of %s: fcgid import %s -- ARGS", err, program, program)
	}
}

func newImportSpawn() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "spawn-fcgi -- ARGS",
		Short:   "Writes the configuration for the arguments of a spawn-fcgi",
		Example: "  fcgid import spawn-fcgi -- -s /run/app.sock -M 0660 -F 4 -- /srv/app/app.fcgi",
		Args:    usageArgs(counted(1, many)),
		RunE:    func(cmd *cobra.Command, args []string) error { return printed(cmd)(migrate.SpawnFCGI(args)) },
	}
	cmd.SetFlagErrorFunc(needsDashes("spawn-fcgi"))
	return cmd
}

// printed prints what was written.
func printed(cmd *cobra.Command) func(text string, err error) error {
	return func(text string, err error) error {
		if err == nil {
			_, err = fmt.Fprint(cmd.OutOrStdout(), text)
		}
		return err
	}
}

// wrapName is the name by which this program takes fcgiwrap's own flags.
const wrapName = "fcgiwrap"

func newWrapCommand() *cobra.Command {
	var w migrate.Wrap
	cmd := &cobra.Command{
		Use:   wrapName,
		Short: "Runs in the place of fcgiwrap, with its flags",
		Long: `Runs CGI programs as fcgiwrap does, with its flags and under its name too: a symbolic
link fcgiwrap to fcgid serves an existing unit. A program that says nothing for 45s while
its client waits is ended with all that it has started, and answered for by 408: fcgiwrap
waits for ever, nginx for 60s.

There is no admin server and no control socket, so fcgid status, reload and the like do
not reach it. fcgid import fcgiwrap writes the same as a configuration for fcgid serve,
which has them, and all that can be set.`,
		Example: "  fcgid fcgiwrap -c 4 -s unix:/run/fcgiwrap.sock",
		Args:    counted(0, 0),
		RunE: func(*cobra.Command, []string) error {
			if w.Socket == "" {
				if err := passStdin(); err != nil {
					return err
				}
			}
			return serveWrap(&w)
		},
	}
	w.AddFlags(cmd.Flags())
	return cmd
}

// serveWrap runs a daemon without an admin server and control socket: several may run.
func serveWrap(w *migrate.Wrap) error {
	umask := unix.Umask(0o077)
	unix.Umask(umask)
	w.Mode = fmt.Sprintf("%04o", 0o777&^umask) // bind(2)'s, which fcgiwrap leaves
	text, err := migrate.FCGIWrap(w)
	if err != nil {
		return usageErrorf("%v", err)
	}
	folder, err := os.MkdirTemp("", "fcgid-fcgiwrap-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	file := filepath.Join(folder, "fcgid.yaml")
	if err := os.WriteFile(file, []byte("admin: {listen: \"\", control: \"\"}\n"+text), 0o600); err != nil {
		return err
	}
	return daemon.Run(daemon.Options{
		File: file, Load: func() (*config.Config, error) { return config.LoadAndCheck(file, nil, nil) },
		Reword: wrapWarning,
	})
}

// wrapWarning is a warning of the file that stands for fcgiwrap's flags, without the places
// in it.
func wrapWarning(w config.Fault) string {
	switch {
	case w.Line == 0: // it is of a variable
		return w.String()
	case strings.Contains(w.Path, "process.root"):
		return "-p names the programs that may run; without it any file may"
	}
	return w.Text
}

// passStdin starts this program anew, if descriptor 0 is a socket, with that as one of
// systemd's, which a pool can listen on.
func passStdin() error {
	if os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) {
		return nil
	}
	if !migrate.IsSocket() {
		return errors.New("descriptor 0 is no socket: -s ADDRESS names where to listen")
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	os.Setenv("LISTEN_FDS", "1")
	os.Setenv("LISTEN_FDNAMES", "fcgiwrap.socket")
	if err := syscall.Dup3(0, 3, 0); err != nil { // whatever that was: this process ends here
		return err
	}
	return syscall.Exec(self, os.Args, os.Environ())
}

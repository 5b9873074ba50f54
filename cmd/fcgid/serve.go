package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/config"
)

func newServeCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Runs the daemon, in the foreground",
		Long: `Runs the daemon, in the foreground, with the pools of a configuration file.

Signals: HUP reads the file again; USR1 opens log files anew; TERM, INT and QUIT
stop gracefully, a second one at once. Every global key of the file can be set by
a flag or by an environment variable such as FCGID_LOG_LEVEL.`,
		Example: "  fcgid serve -c /etc/fcgid/fcgid.yaml\n  FCGID_LOG_LEVEL=debug fcgid serve -c fcgid.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(file, func() (*config.Config, error) { return config.LoadAndCheck(file, cmd.Flags()) })
		},
	}
	addConfigFlags(cmd.Flags(), &file)
	return cmd
}

// serve runs the daemon until a signal stops it.
func serve(file string, load func() (*config.Config, error)) error {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGHUP, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPIPE)
	defer signal.Stop(signals)

	cfg, err := load()
	if err != nil {
		return err
	}
	d, err := newDaemon(file, cfg)
	if err != nil {
		return err
	}
	if err := d.configure(context.Background(), cfg); err != nil {
		return err
	}
	d.logs.Info("serving", zap.String("version", version), zap.String("file", file), zap.Int("pools", len(cfg.Pools)))
	if os.Geteuid() == 0 {
		d.logs.Warn("running as root, and so does every program")
	}
	systemd.SdNotify(false, systemd.SdNotifyReady)
	return d.untilStopped(signals, load)
}

// untilStopped does what signals ask for.
func (d *daemon) untilStopped(signals <-chan os.Signal, load func() (*config.Config, error)) error {
	for {
		select {
		case err := <-d.failed:
			d.logs.Error("stopping: a listener broke", zap.Error(err))
			return errorsAfter(err, d.stopGracefully(signals))
		case s := <-signals:
			switch s {
			case unix.SIGHUP:
				notifyReloading()
				d.reload(context.Background(), load)
				systemd.SdNotify(false, systemd.SdNotifyReady)
			case unix.SIGUSR1:
				if err := d.logs.reopen(); err != nil {
					d.logs.Error("cannot reopen logs", zap.Error(err))
				}
			case unix.SIGUSR2:
				d.logs.Warn("SIGUSR2 is not supported by this version")
			case unix.SIGPIPE:
			default:
				d.logs.Info("stopping", zap.Stringer("signal", s))
				return d.stopGracefully(signals)
			}
		}
	}
}

// stopGracefully lets requests end. A second signal ends them at once.
func (d *daemon) stopGracefully(signals <-chan os.Signal) error {
	systemd.SdNotify(false, systemd.SdNotifyStopping)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		d.stop()
	}()
	for {
		select {
		case <-stopped:
			d.logs.Info("stopped")
			return nil
		case s := <-signals:
			switch s {
			case unix.SIGTERM, unix.SIGINT, unix.SIGQUIT:
				d.logs.Warn("stopped at once by a second signal", zap.Stringer("signal", s))
				d.children.Kill()
				return exitError{exitFailure, fmt.Sprintf("stopped at once by a second signal (%v)", s)}
			}
		}
	}
}

func errorsAfter(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

// notifyReloading tells systemd that a reload has begun (sd_notify(3)).
func notifyReloading() {
	var now unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	usec := time.Duration(now.Nano()).Microseconds()
	systemd.SdNotify(false, fmt.Sprintf("%s\nMONOTONIC_USEC=%d", systemd.SdNotifyReloading, usec))
}

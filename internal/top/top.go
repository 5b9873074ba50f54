// Package top shows a running daemon on a terminal, live, and gives the orders that
// somebody who looks at it wants to give. What it shows comes from a Source, so that
// model, update and view are tested without a terminal and without a daemon.
package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"
	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/status"
)

// A Source is the daemon that is looked at. Its methods are called by many goroutines.
type Source interface {
	Status(ctx context.Context) (*status.Page, error)
	// Do has an order carried out. What was refused is an error.
	Do(ctx context.Context, o status.Order) (*status.Reply, error)
}

// Options say what is shown where.
type Options struct {
	Source   Source
	Pool     string        // that is opened; "" is none
	Interval time.Duration // between two looks
	Input    *os.File
	Output   io.Writer
	Environ  []string
}

// orderTime is how long an order may take that waits.
const orderTime = time.Minute

// statusTime is how long the daemon may take to say what it does.
const statusTime = 5 * time.Second

// The size of a terminal that does not say how large it is.
const (
	defaultWidth  = 80
	defaultHeight = 24
)

// Run shows the daemon full screen until somebody quits or ctx ends. It needs a terminal
// that can be drawn on.
func Run(ctx context.Context, o Options) error {
	if term := o.env("TERM"); term == "dumb" || term == "" {
		return fmt.Errorf("nothing can be drawn on this terminal (TERM is %q); --once prints a frame", term)
	}
	if _, _, ok := sizeOf(o.Output); !ok {
		return errors.New("the output is no terminal; --once prints a frame")
	}
	if _, _, ok := sizeOf(o.Input); !ok {
		return errors.New("the input is no terminal; --once prints a frame")
	}
	o.heedNoColor()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // what is being asked is given up; an order that has begun goes on
	_, err := tea.NewProgram(newModel(ctx, o), tea.WithContext(ctx), tea.WithInput(o.Input), tea.WithOutput(o.Output), tea.WithEnvironment(o.Environ)).Run()
	if errors.Is(err, tea.ErrInterrupted) {
		return nil
	}
	return err
}

// Once prints one frame, with the rates of one interval, and all that there is to see.
func Once(ctx context.Context, o Options) error {
	o.heedNoColor()
	m := newModel(ctx, o)
	m.width, m.height = o.size()
	m.isPrinted = true
	if colorprofile.Detect(o.Output, o.Environ) >= colorprofile.ANSI {
		m.pen = colour
	} else {
		m.pen = plain
	}
	for i := range 2 {
		if i > 0 {
			select {
			case <-time.After(o.Interval):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		msg := m.look()().(pageMsg)
		if msg.err != nil {
			return msg.err
		}
		m.take(msg)
	}
	if m.pool != "" && m.find(m.pool) == nil {
		_, err := m.page.Named(m.pool)
		return err
	}
	for _, line := range m.frame() {
		if _, err := fmt.Fprintln(o.Output, strings.TrimRight(line, " ")); err != nil {
			return err
		}
	}
	return nil
}

// heedNoColor has NO_COLOR count whatever its text is (https://no-color.org), where the
// library looks for one that strconv.ParseBool takes for true.
func (o *Options) heedNoColor() {
	if o.env("NO_COLOR") != "" {
		o.Environ = append(slices.Clone(o.Environ), "NO_COLOR=1")
	}
}

// env is a variable of the environment.
func (o *Options) env(name string) string {
	i := slices.IndexFunc(o.Environ, func(v string) bool { return strings.HasPrefix(v, name+"=") })
	if i < 0 {
		return ""
	}
	return o.Environ[i][len(name)+1:]
}

// size is that of the output: of its terminal, or as COLUMNS says.
func (o *Options) size() (width, height int) {
	if width, height, ok := sizeOf(o.Output); ok && width > 0 && height > 0 {
		return width, height
	}
	if n, err := strconv.Atoi(o.env("COLUMNS")); err == nil && n > 0 {
		return n, defaultHeight
	}
	return defaultWidth, defaultHeight
}

// sizeOf is the size of a terminal, if it is one.
func sizeOf(file any) (width, height int, ok bool) {
	f, ok := file.(*os.File)
	if !ok || f == nil {
		return 0, 0, false
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0, false
	}
	return int(size.Col), int(size.Row), true
}

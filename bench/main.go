// Bench compares fcgid with its peers, side by side on one machine.
//
// It starts each peer from Debian's packages and the stock fcgid binary with a
// stock configuration, drives them in turn (A B A B) with one client over the
// same kind of socket, and prints ratios. docs/performance.md tells more.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// What the kernel sends a server when the thread ends that started it should
// come with the end of the program: main keeps its thread.
func init() { runtime.LockOSThread() }

func main() {
	switch {
	case len(os.Args) == 3 && os.Args[1] == netHTTPArgument:
		fmt.Fprintln(os.Stderr, serveNetHTTP(os.Args[2]))
		os.Exit(1)
	case len(os.Args) == 4 && os.Args[1] == cgiLoopArgument:
		fmt.Fprintln(os.Stderr, serveCGILoop(os.Args[2], os.Args[3]))
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are the command line.
type options struct {
	fcgid    string
	base     string
	only     *regexp.Regexp
	pairs    int
	duration time.Duration
	json     bool
	list     bool
	write    string
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	var only string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.fcgid, "fcgid", "./fcgid", "the `binary` that is measured")
	f.StringVar(&o.base, "base", "", "compare with this older `binary` of fcgid, and not with the peers")
	f.StringVar(&only, "only", "", "run the cases whose name matches this `regexp`")
	f.IntVar(&o.pairs, "pairs", 5, "samples of each side")
	f.DurationVar(&o.duration, "duration", 2*time.Second, "of one sample, without its warm-up")
	f.BoolVar(&o.json, "json", false, "print JSON, with each sample")
	f.BoolVar(&o.list, "list", false, "print the names of the cases, and run none")
	f.StringVar(&o.write, "write", "", "put the table into this `file`, between its markers; needs all cases")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	var err error
	o.only, err = regexp.Compile(only)
	switch {
	case err != nil:
		return o, fmt.Errorf("-only: %w", err)
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.pairs < 1 || o.duration < 100*time.Millisecond:
		return o, errors.New("-pairs is 1 at least, -duration 100ms")
	case o.write != "" && (only != "" || o.base != ""):
		return o, errors.New("-write needs all cases and the peers: leave out -only and -base")
	}
	return o, nil
}

// run is the program. It returns the exit status: 0 when each row has a number,
// whether it is as high as it should be or not; 1 when one is missing; 2 for a
// wrong command line.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	var chosen []*benchCase
	for _, c := range cases {
		if o.only.MatchString(c.name) {
			chosen = append(chosen, c)
		}
	}
	if len(chosen) == 0 {
		fmt.Fprintln(stderr, "bench: no case has such a name; -list prints them")
		return 2
	}
	if o.list {
		for _, c := range chosen {
			fmt.Fprintf(stdout, "%-14s %s\n", c.name, c.work)
		}
		return 0
	}
	p, err := measureAll(ctx, o, chosen, stderr)
	if err == nil {
		err = p.print(o, stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	if failed := p.failed(); len(failed) > 0 {
		fmt.Fprintln(stderr, "bench: no number for a row of", strings.Join(failed, ", "))
		return 1
	}
	return 0
}

// measureAll runs the cases one after the other.
func measureAll(ctx context.Context, o options, chosen []*benchCase, progress io.Writer) (p *report, err error) {
	becomeSubreaper()
	r, err := newRigFor(ctx, o.fcgid)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	r.pairs, r.duration = o.pairs, o.duration
	if o.base != "" {
		if r.base, err = newRigFor(ctx, o.base); err != nil {
			return nil, err
		}
		r.base.pairs, r.base.duration = o.pairs, o.duration
	}
	p = &report{Facts: collectFacts(ctx, r), Config: r.config.text}
	for _, c := range chosen {
		if r.base != nil {
			c = againstBase(c)
		}
		p.Cases = append(p.Cases, r.runCase(c, progress))
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return p, nil
}

// newRigFor is newRig for a binary that may not be there.
func newRigFor(ctx context.Context, binary string) (*rig, error) {
	path, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w; make builds it", err)
	}
	return newRig(ctx, path)
}

// print shows the report, and writes it into the documentation if that is wanted.
func (p *report) print(o options, stdout io.Writer) error {
	if o.json {
		if err := p.writeJSON(stdout); err != nil {
			return err
		}
	} else if _, err := io.WriteString(stdout, p.text()); err != nil {
		return err
	}
	if o.write == "" {
		return nil
	}
	return p.writeDocument(o.write)
}

// text is the report for a terminal.
func (p *report) text() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "\n%s\n\n", p.Facts.sentence())
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WORK\tMEASURED\tAGAINST\tFCGID\tPEER\tRATIO (MIN–MAX)\tTO REACH\t")
	for _, c := range p.Cases {
		for _, w := range c.Rows {
			fmt.Fprintln(t, strings.ReplaceAll(strings.Join(w.cells(), "\t"), "**", ""))
		}
	}
	t.Flush()
	fmt.Fprintf(&b, "\n%s\nfcgid ran with this file in all cases; DIR was a temporary folder:\n\n%s", p.Facts.table(), p.Config)
	return b.String()
}

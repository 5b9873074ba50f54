package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/plural"
)

// A series is what has come of requests that were sent one after the other.
type series struct {
	took     []time.Duration // until its END_REQUEST, of each that was answered
	statuses map[int]int     // how many answers of each status of HTTP
	failed   int
	err      error // of the first that failed
	elapsed  time.Duration
}

// sendAgain sends the request o.repeat times and prints how long that took in place of
// the answers.
func (o *requestOptions) sendAgain(cmd *cobra.Command, client *fcgi.Client) error {
	if err := o.check(cmd.Flags()); err != nil {
		return err
	}
	s := series{statuses: make(map[int]int)}
	begun := time.Now()
	for range o.repeat {
		if cmd.Context().Err() != nil {
			break
		}
		if err := o.sendOnce(cmd, client, &s); err != nil {
			return err
		}
	}
	s.elapsed = time.Since(begun)
	if err := s.print(cmd.OutOrStdout()); err != nil {
		return err
	}
	if s.failed == 0 {
		return nil
	}
	err := exitError{exitFailure, fmt.Sprintf("%d of %s failed, the first: %v", s.failed, plural.Of(o.repeat, "request"), s.err)}
	if first, ok := errors.AsType[exitError](s.err); ok {
		err.code = first.code
	}
	return err
}

// sendOnce sends one of them, whose body is read anew.
func (o *requestOptions) sendOnce(cmd *cobra.Command, client *fcgi.Client, s *series) error {
	req, closeFiles, err := o.request(cmd)
	if err != nil {
		return err
	}
	defer client.Wait()
	defer closeFiles()
	ctx, cancel := o.limit(cmd.Context())
	defer cancel()
	a := &answer{cmd: cmd, out: io.Discard, fail: o.fail}
	begun := time.Now()
	err = a.send(ctx, client, req)
	took := time.Since(begun)
	if a.status != 0 {
		s.took = append(s.took, took)
		s.statuses[a.status]++
	}
	if err != nil {
		s.failed++
		if s.err == nil {
			s.err = err
		}
	}
	return nil
}

// limit bounds a request by --timeout.
func (o *requestOptions) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if o.timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("no end within %v", o.timeout))
}

// print writes the table.
func (s *series) print(w io.Writer) error {
	slices.Sort(s.took)
	head, row := []string{"REQUESTS", "RATE"}, []string{fmt.Sprint(len(s.took)), fmt.Sprintf("%.1f/s", float64(len(s.took))/max(s.elapsed.Seconds(), 1e-9))}
	for _, q := range []struct {
		name string
		part float64
	}{{"MIN", 0}, {"P50", 0.5}, {"P90", 0.9}, {"P99", 0.99}, {"MAX", 1}} {
		head, row = append(head, q.name), append(row, s.quantile(q.part))
	}
	var statuses []string
	for _, status := range slices.Sorted(maps.Keys(s.statuses)) {
		statuses = append(statuses, fmt.Sprintf("%d: %d", status, s.statuses[status]))
	}
	head, row = append(head, "STATUSES"), append(row, strings.Join(statuses, ", "))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(head, "\t"))
	fmt.Fprintln(t, strings.Join(row, "\t"))
	return t.Flush()
}

// quantile is within how long that part of the requests was answered: of few, the time of
// the next longer one. The times are sorted.
func (s *series) quantile(part float64) string {
	if len(s.took) == 0 {
		return "-"
	}
	at := min(max(int(float64(len(s.took))*part+0.999999)-1, 0), len(s.took)-1)
	return milliseconds(s.took[at])
}

// milliseconds has three digits.
func milliseconds(d time.Duration) string {
	ms := float64(d.Nanoseconds()) / 1e6
	switch {
	case ms < 10:
		return fmt.Sprintf("%.2fms", ms)
	case ms < 100:
		return fmt.Sprintf("%.1fms", ms)
	}
	return fmt.Sprintf("%.0fms", ms)
}

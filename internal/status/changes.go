package status

import (
	"fmt"
	"io"
	"strings"

	"github.com/fcgid/fcgid/internal/plural"
)

// Print writes for a person what has changed, or would: a line for each part of String.
func (c *Changes) Print(w io.Writer) error {
	_, err := fmt.Fprintln(w, strings.Join(c.parts(), "\n"))
	return err
}

// String is like "shop: worker.max 10→4; 1 pool unchanged": what Print writes, in a line.
func (c *Changes) String() string { return strings.Join(c.parts(), "; ") }

// parts are what has changed for all pools, each pool that something is said of, and how
// many others there are.
func (c *Changes) parts() (parts []string) {
	if len(c.Changed) > 0 {
		parts = append(parts, strings.Join(c.Changed, ", "))
	}
	rest := 0
	for _, p := range c.Pools {
		if p.Change == Unchanged && p.Workers == nil && p.State == "" {
			rest++
			continue
		}
		parts = append(parts, p.Name+": "+p.describe())
	}
	if rest > 0 || len(parts) == 0 {
		parts = append(parts, plural.Of(rest, "pool")+" unchanged")
	}
	return parts
}

func (p *PoolChange) describe() string {
	text := p.Change
	if len(p.Changed) > 0 {
		text = strings.Join(p.Changed, ", ")
	}
	if p.Workers != nil {
		text += "; workers replaced: " + p.Workers.String()
	}
	if p.State != "" {
		text += "; it is " + p.State + " (fcgid resume " + p.Name + ")"
	}
	return text
}

// String is "7 of 8".
func (r *Roll) String() string { return fmt.Sprintf("%d of %d", r.Replaced, r.Of) }

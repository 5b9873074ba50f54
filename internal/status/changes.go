package status

import (
	"fmt"
	"io"
	"strings"
)

// Print writes for a person what changes, or what would.
func (c *Changes) Print(w io.Writer, would bool) error {
	if len(c.Keys) > 0 {
		fmt.Fprintf(w, "global: %s\n", strings.Join(c.Keys, ", "))
	}
	for _, p := range c.Pools {
		fmt.Fprintf(w, "pool %s: %s\n", p.Name, p.describe())
	}
	if !would {
		return nil
	}
	_, err := fmt.Fprintln(w, c.summary())
	return err
}

// summary is for what has not been done.
func (c *Changes) summary() string {
	n := 0
	for _, p := range c.Pools {
		if p.Change != Unchanged {
			n++
		}
	}
	if n == 0 && len(c.Keys) == 0 {
		return "a reload would change nothing"
	}
	return fmt.Sprintf("a reload would change %d of %d pools", n, len(c.Pools))
}

func (p *PoolChange) describe() string {
	text := p.Change
	if len(p.Keys) > 0 {
		text += ": " + strings.Join(p.Keys, ", ")
	}
	if p.Workers != nil {
		text += "; " + p.Workers.String() + " workers replaced"
	}
	if p.State != "" {
		text += "; it is " + p.State + " (fcgid resume " + p.Name + ")"
	}
	return text
}

// String is "7 of 8".
func (r *Roll) String() string { return fmt.Sprintf("%d of %d", r.Replaced, r.Of) }

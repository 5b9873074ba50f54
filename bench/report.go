package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// A report is what a run has found, and where.
type report struct {
	Facts  facts        `json:"facts"`
	Config string       `json:"config"` // the file that fcgid ran with
	Cases  []caseResult `json:"cases"`
}

// failed tells which rows have no number.
func (p *report) failed() []string {
	var list []string
	for _, c := range p.Cases {
		for _, w := range c.Rows {
			if w.Problem != "" {
				list = append(list, c.Name)
				break
			}
		}
	}
	return list
}

// writeJSON writes all, with each pair's samples.
func (p *report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(p)
}

// markdown is the report as it stands in the documentation.
func (p *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", p.Facts.sentence())
	b.WriteString("\n| work | measured | against | fcgid | peer | ratio (min–max) | to reach | |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, c := range p.Cases {
		for _, w := range c.Rows {
			cells := w.cells()
			fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
		}
	}
	fmt.Fprintf(&b, "\n%s\nfcgid ran with this file in all cases; DIR was a temporary folder:\n\n<!-- test: bench-config -->\n```yaml\n%s```\n", p.Facts.table(), p.Config)
	return b.String()
}

// cells are a row of the table.
func (w *row) cells() []string {
	against, own, peer, value, verdict := w.Against, number(w.Fcgid), number(w.Peer), "", ""
	if own == "" && w.Reached != nil { // 0 was measured
		own = "0"
	}
	if w.Against == "" {
		against, peer = "–", ""
	}
	if w.Value != nil && w.Against != "" {
		value = fmt.Sprintf("**%.2f** (%.2f–%.2f)", w.Value.Median, w.Value.Min, w.Value.Max)
	}
	if w.Reached != nil {
		verdict = map[bool]string{true: "reached", false: "not reached"}[*w.Reached]
	}
	if w.Problem != "" {
		verdict = brief(w.Problem)
	}
	cells := []string{w.Work, string(w.Metric), against, own, peer, value, w.Reach, verdict}
	for i := range cells {
		cells[i] = strings.ReplaceAll(cells[i], "|", `\|`)
	}
	return cells
}

// number writes a value with three digits, or whole. 0 is none.
func number(v float64) string {
	switch {
	case v == 0:
		return ""
	case v >= 100 || v <= -100:
		return fmt.Sprintf("%.0f", v)
	default:
		return fmt.Sprintf("%.3g", v)
	}
}

// brief is the first line of a problem, or what of it fits.
func brief(s string) string {
	const most = 160
	line, _, more := strings.Cut(s, "\n")
	if len(line) > most {
		line, more = line[:most], true
	}
	if more {
		line += " …"
	}
	return line
}

// The table stands between these lines of the documentation.
const (
	beginMarker = "<!-- begin: written by make bench -->"
	endMarker   = "<!-- end: written by make bench -->"
)

// writeDocument puts the report between the markers of a file.
func (p *report) writeDocument(file string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text, err := between(string(old), p.markdown())
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(text), 0o644)
}

// between replaces what stands between the markers.
func between(document, text string) (string, error) {
	head, rest, found := strings.Cut(document, beginMarker+"\n")
	_, tail, found2 := strings.Cut(rest, endMarker)
	if !found || !found2 {
		return "", errors.New("the lines that the table stands between are missing: " + beginMarker + " and " + endMarker)
	}
	return head + beginMarker + "\n" + text + endMarker + tail, nil
}

package top

import (
	"fmt"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/fcgid/fcgid/internal/status"
)

// A pen is what a terminal can show beside letters.
type pen int

const (
	plain  pen = iota // nothing: no terminal
	mono              // bold and reverse
	colour            // the sixteen colours as well
)

// A look is how a text stands out. What it says is never in the look alone.
type look int

const (
	normal look = iota
	dim
	strong
	chosen
	alarm
	idle
	busy
	starting
	stopping
)

// The parameters of SGR (ECMA-48, 8.3.117) for each look.
var (
	colours = map[look]string{dim: "2", strong: "1", chosen: "7", alarm: "1;31", idle: "32", busy: "34", starting: "33", stopping: "35"}
	monos   = map[look]string{strong: "1", chosen: "7", alarm: "1"}
)

// paint is the text with a look, which ends with it.
func (p pen) paint(l look, text string) string {
	code := ""
	switch p {
	case mono:
		code = monos[l]
	case colour:
		code = colours[l]
	}
	if code == "" || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[m"
}

// longest is as much as is looked at of a text that somebody else has written, in bytes:
// more than any line has.
const longest = 1024

// clean is a text that somebody else has written, as it may go to a terminal.
func clean(text string) string {
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "")
	}
	return status.Printable(text)
}

// fit cuts or fills a text to a width.
func fit(text string, width int, right bool) string {
	if width <= 0 {
		return ""
	}
	if ansi.StringWidth(text) > width {
		text = ansi.Truncate(text, width, "~")
	}
	space := strings.Repeat(" ", max(0, width-ansi.StringWidth(text)))
	if right {
		return space + text
	}
	return text + space
}

// span is a time in at most six letters.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", max(0, d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

func inSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// latency is a time that requests took; none is a dash.
func latency(s float64) string {
	switch {
	case s == 0:
		return "-"
	case s < .01:
		return fmt.Sprintf("%.1fms", s*1000)
	case s < 1:
		return fmt.Sprintf("%.0fms", s*1000)
	case s < 100:
		return fmt.Sprintf("%.2fs", s)
	}
	return fmt.Sprintf("%.0fs", s)
}

// rate is a number by the second.
func rate(n float64) string {
	if n < 100 {
		return fmt.Sprintf("%.1f", n)
	}
	return fmt.Sprintf("%.0f", n)
}

// size is a number of bytes.
func size(n float64) string {
	for _, unit := range []string{"B", "K", "M"} {
		if n < 1000 {
			return fmt.Sprintf("%.*f%s", decimals(n, unit), n, unit)
		}
		n /= 1024
	}
	return fmt.Sprintf("%.1fG", n)
}

func decimals(n float64, unit string) int {
	if n < 10 && unit != "B" {
		return 1
	}
	return 0
}

// outOf is a number and its limit, if there is one.
func outOf(n, limit int) string {
	if limit == 0 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d/%d", n, limit)
}

// orDash is a text, or a dash where there is none.
func orDash(text string) string {
	if text == "" || text == "0" {
		return "-"
	}
	return text
}

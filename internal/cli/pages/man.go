package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fcgid/fcgid/internal/version"
)

// related are the commands that one wants to know of with another, beside its parent and
// its own commands.
var related = map[string][]string{
	"fcgid check": {"fcgid reload"}, "fcgid kill": {"fcgid requests"}, "fcgid requests": {"fcgid kill"}, "fcgid top": {"fcgid status"},
	"fcgid status": {"fcgid top"}, "fcgid drain": {"fcgid resume"}, "fcgid pause": {"fcgid resume"}, "fcgid resume": {"fcgid drain", "fcgid pause"},
}

// writeCommandPages writes the page of a command, and those of the commands below it.
func writeCommandPages(c *cobra.Command, folder string) error {
	if err := os.WriteFile(filepath.Join(folder, manName(c.CommandPath())+".1"), commandPage(c), 0o644); err != nil {
		return err
	}
	for _, sub := range c.Commands() {
		if !sub.IsAvailableCommand() {
			continue
		}
		if err := writeCommandPages(sub, folder); err != nil {
			return err
		}
	}
	return nil
}

// manName is that of the page of a command, which is named as on the command line.
func manName(command string) string { return strings.ReplaceAll(command, " ", "-") }

// commandPage is a command's page in section 1. It says what --help does, in its words, and
// has no date: it is the same whenever it is made.
func commandPage(c *cobra.Command) []byte {
	c.InitDefaultHelpFlag()
	c.InitDefaultVersionFlag()
	name := manName(c.CommandPath())
	var b bytes.Buffer
	fmt.Fprintf(&b, ".nh\n.TH %s 1 \"\" \"fcgid %s\" fcgid\n.SH NAME\n%s \\- %s\n", roff(strings.ToUpper(name)), version.Version, roff(name), roff(c.Short))
	arguments := strings.TrimPrefix(c.UseLine(), c.CommandPath())
	if c.HasAvailableSubCommands() {
		arguments = " COMMAND [flags]"
	}
	fmt.Fprintf(&b, ".SH SYNOPSIS\n\\fB%s\\fR%s\n.SH DESCRIPTION\n", roff(c.CommandPath()), roff(arguments))
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	writeText(&b, text)
	writeCommands(&b, c)
	writeOptions(&b, c)
	if c.Example != "" {
		b.WriteString(".SH EXAMPLE\n")
		writeText(&b, c.Example)
	}
	fmt.Fprintf(&b, ".SH SEE ALSO\n%s\n", strings.Join(seeAlso(c), ", "))
	return b.Bytes()
}

// writeText writes paragraphs; lines that begin with a blank stay as they are.
func writeText(b *bytes.Buffer, text string) {
	isCode, isParagraph := false, true
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		line = strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "#### ")
		isIndented := strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")
		switch {
		case line == "":
			isParagraph = true
			continue
		case isCode && !isIndented:
			b.WriteString(".fi\n.PP\n")
		case isCode && isParagraph:
			b.WriteString(".sp\n")
		case isIndented && !isCode:
			b.WriteString(".PP\n.nf\n")
		case isParagraph:
			b.WriteString(".PP\n")
		}
		isCode, isParagraph = isIndented, false
		b.WriteString(roff(strings.ReplaceAll(line, "\t", "  ")) + "\n")
	}
	if isCode {
		b.WriteString(".fi\n")
	}
}

// writeCommands lists the commands below c.
func writeCommands(b *bytes.Buffer, c *cobra.Command) {
	if !c.HasAvailableSubCommands() {
		return
	}
	b.WriteString(".SH COMMANDS\n")
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() || sub.Name() == "help" {
			fmt.Fprintf(b, ".TP\n\\fB%s\\fR\n%s\n", roff(sub.Name()), roff(sub.Short))
		}
	}
}

// writeOptions lists the flags of c, each as --help has it.
func writeOptions(b *bytes.Buffer, c *cobra.Command) {
	b.WriteString(".SH OPTIONS\n")
	c.Flags().VisitAll(func(flag *pflag.Flag) {
		alone := pflag.NewFlagSet("", pflag.ContinueOnError)
		alone.AddFlag(flag)
		names, text, _ := strings.Cut(strings.TrimSpace(alone.FlagUsages()), "   ")
		value, _ := pflag.UnquoteUsage(flag)
		if value != "" {
			names = strings.TrimSuffix(names, " "+value)
			value = ` \fI` + roff(value) + `\fR`
		}
		fmt.Fprintf(b, ".TP\n\\fB%s\\fR%s\n%s\n", roff(names), value, roff(text))
	})
}

// seeAlso are the references of a page.
func seeAlso(c *cobra.Command) []string {
	var pages []string
	if c.HasParent() {
		pages = append(pages, manName(c.Parent().CommandPath()))
	}
	for _, command := range related[c.CommandPath()] {
		pages = append(pages, manName(command))
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			pages = append(pages, manName(sub.CommandPath()))
		}
	}
	slices.Sort(pages)
	for i, page := range pages {
		pages[i] = `\fB` + roff(page) + `\fR(1)`
	}
	if !c.HasParent() || c.Flags().Lookup("config") != nil {
		pages = append(pages, `\fBfcgid.yaml\fR(5)`)
	}
	return pages
}

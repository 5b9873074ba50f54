package cli

import "github.com/spf13/cobra"

// flagValues are what flags may be set to, where that is one of a few words.
var flagValues = map[string][]string{
	"log.level":         {"debug", "info", "warn", "error"},
	"log.format":        {"auto", "console", "json"},
	"log.output":        {"stderr", "stdout"},
	"access_log.output": {"stderr", "stdout"},
	"access_log.format": {"json", "combined"},
	"admin.uris":        {"hidden", "full"},
	"admin.control":     {"auto"},
	"role":              {"responder", "authorizer", "filter"},
	"method":            {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"},
	"stage":             {"params", "body", "queued", "running", "ending"},
}

// completeFlags has a shell complete the flags of a command, and of those below it, that
// are named in flagValues. An output may be a file as well.
func completeFlags(cmd *cobra.Command) {
	for name, values := range flagValues {
		if cmd.Flags().Lookup(name) == nil {
			continue
		}
		directive := cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
		if name == "log.output" || name == "access_log.output" {
			directive = cobra.ShellCompDirectiveDefault
		}
		if err := cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, directive)); err != nil {
			panic(err) // it has one already: a slip in this package
		}
	}
	for _, c := range cmd.Commands() {
		completeFlags(c)
	}
}

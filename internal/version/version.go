// Package version says which fcgid this is.
package version

import "runtime/debug"

// Version and commit are set by the linker in a release; a build from a
// checkout knows its commit by itself.
var (
	Version = "0.1.0"
	commit  = ""
)

// Software is what programs are told as SERVER_SOFTWARE when no web server says it.
func Software() string { return "fcgid/" + Version }

// Commit is that of this binary, "unknown" without one.
func Commit() string {
	if commit != "" {
		return commit
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, modified := "unknown", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "+changes"
		}
	}
	return revision + modified
}

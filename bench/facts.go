package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// facts are what a number depends on.
type facts struct {
	Fcgid    string            `json:"fcgid"` // what the binary says of itself
	Commit   string            `json:"commit"`
	Date     string            `json:"date"`
	System   string            `json:"system"`
	Kernel   string            `json:"kernel"`
	CPU      string            `json:"cpu"`
	CPUs     int               `json:"cpus"`
	Memory   string            `json:"memory"`
	Load     string            `json:"load"` // of the machine, before the run
	Go       string            `json:"go"`
	Packages map[string]string `json:"packages"` // versions of Debian's
	Pairs    int               `json:"pairs"`
	Duration string            `json:"duration"` // of one sample
}

// peerPackages are those whose version a number depends on.
var peerPackages = []string{
	"fcgiwrap", "php-fpm", "php-cgi", "nginx", "spawn-fcgi", "libfcgi-dev",
	"uwsgi-core", "apache2-bin", "libapache2-mod-fcgid", "git", "dokuwiki", "wordpress", "mariadb-server", "gcc", "libc6",
}

func collectFacts(ctx context.Context, r *rig) facts {
	f := facts{
		Fcgid: output(ctx, r.fcgid, "version"), Date: time.Now().UTC().Format("2006-01-02"),
		Commit: commit(ctx),
		System: line("/etc/os-release", "PRETTY_NAME="), Kernel: output(ctx, "uname", "-sr"),
		CPU: line("/proc/cpuinfo", "model name"), CPUs: r.cpus, Memory: line("/proc/meminfo", "MemTotal"),
		Load: line("/proc/loadavg", ""), Go: runtime.Version(), Packages: make(map[string]string),
		Pairs: r.pairs, Duration: r.duration.String(),
	}
	for _, name := range peerPackages {
		if version := packageVersion(ctx, name); version != "" {
			f.Packages[name] = version
		}
	}
	return f
}

// commit is that of the tree in which the benchmark runs.
func commit(ctx context.Context) string {
	c := output(ctx, "git", "rev-parse", "--short=12", "HEAD")
	if c != "" && output(ctx, "git", "status", "--porcelain") != "" {
		c += " with changes"
	}
	return cmp.Or(c, "unknown")
}

// packageVersion is that of the package itself and not of a package that only
// depends on the real one, as php-fpm does.
func packageVersion(ctx context.Context, name string) string {
	version := output(ctx, "dpkg-query", "-W", "-f", "${Version}", name)
	depends := output(ctx, "dpkg-query", "-W", "-f", "${Depends}", name)
	first, _, _ := strings.Cut(depends, ",")
	first, _, _ = strings.Cut(strings.TrimSpace(first), " ")
	if base, end, ok := strings.Cut(name, "-"); ok && strings.HasPrefix(first, base) && strings.HasSuffix(first, "-"+end) && first != name {
		return output(ctx, "dpkg-query", "-W", "-f", "${Version}", first)
	}
	return version
}

// output is what a program prints, "" if it fails.
func output(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// line is what follows the prefix in a file's first line that has it.
func line(file, prefix string) string {
	text, _ := os.ReadFile(file)
	for l := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(l, prefix); ok {
			return strings.Trim(strings.TrimSpace(rest), `:" `+"\t")
		}
	}
	return ""
}

// sentence tells what was run.
func (f facts) sentence() string {
	version, _, _ := strings.Cut(f.Fcgid, " (")
	return fmt.Sprintf("Commit %s (%s), %s: the median of %d pairs of %s each, and the least and the greatest ratio.",
		f.Commit, version, f.Date, f.Pairs, f.Duration)
}

// table is the machine and the versions.
func (f facts) table() string {
	var b strings.Builder
	b.WriteString("| machine | |\n| --- | --- |\n")
	for _, pair := range [][2]string{
		{"system", f.System + ", " + f.Kernel}, {"CPU", fmt.Sprintf("%d × %s", f.CPUs, f.CPU)},
		{"memory", f.Memory}, {"load before the run", f.Load}, {"Go", f.Go},
	} {
		fmt.Fprintf(&b, "| %s | %s |\n", pair[0], pair[1])
	}
	for _, name := range peerPackages {
		if v := f.Packages[name]; v != "" {
			fmt.Fprintf(&b, "| %s | %s |\n", name, v)
		}
	}
	return b.String()
}

package cgi

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestExtensions(t *testing.T) {
	runScriptTests(t, []scriptTest{
		{"allowed", "SCRIPT_FILENAME=$R/a.cgi", "$R/a.cgi|unset|unset|unset"},
		{"none", "SCRIPT_FILENAME=$R/noext", "403"},
		{"other", "SCRIPT_FILENAME=$R/upload/y.jpg", "403"},
		{"two", "SCRIPT_FILENAME=$R/x.tar.gz", "$R/x.tar.gz|unset|unset|unset"},
		{"half of two", "SCRIPT_FILENAME=$R/x.gz", "403"},
		{"an upload is not walked past", "SCRIPT_FILENAME=$R/upload/x.jpg/a.cgi", "403"},
		{"nor one that may be executed", "SCRIPT_FILENAME=$R/upload/y.jpg/a.cgi", "403"},
		{"of the file, not of the path info", "SCRIPT_FILENAME=$R/a.cgi/y.jpg", "$R/a.cgi|unset|/y.jpg|unset"},
	}, func(o *Rules, _ *strings.Replacer) { o.Extensions = []string{".cgi", ".php", ".tar.gz"} })
}

func TestInterpreters(t *testing.T) {
	runScriptTests(t, []scriptTest{
		{"not executable", "SCRIPT_FILENAME=$R/s.sh", "$R/s.sh|unset|unset|unset"},
		{"with path info", "SCRIPT_FILENAME=$R/s.sh/x", "$R/s.sh|unset|/x|unset"},
		{"others run by themselves", "SCRIPT_FILENAME=$R/a.cgi", "$R/a.cgi|unset|unset|unset"},
		{"others are to be executable", "SCRIPT_FILENAME=$R/upload/x.jpg/a.sh", "403"},
		{"a fifo would never end", "SCRIPT_FILENAME=$R/fifo.sh", "403"},
		{"also inside root only", "SCRIPT_FILENAME=$O/x.cgi", "403"},
	}, func(o *Rules, _ *strings.Replacer) { o.Interpreters = map[string]string{".sh": "/bin/sh"} })
}

// By a link of another place a script is what its own name says, not what the link's says:
// who may make links there is not to have data run as a program.
func TestLinksOfOthers(t *testing.T) {
	tree := scriptTree(t)
	elsewhere := tree.Replace("$TOP/elsewhere")
	mustDo(t, os.Mkdir(elsewhere, 0o755))
	for link, target := range map[string]string{"x.sh": "$R/upload/x.jpg", "y.cgi": "$R/upload/y.jpg", "good.cgi": "$R/s.sh"} {
		mustDo(t, os.Symlink(tree.Replace(target), elsewhere+"/"+link))
	}
	rules := &Rules{Roots: []string{tree.Replace("$R")}, Interpreters: map[string]string{".sh": "/bin/sh"}, Extensions: []string{".sh", ".cgi"}}
	for link, want := range map[string]string{"x.sh": "403", "y.cgi": "403", "good.cgi": "$R/s.sh|unset|unset|unset"} {
		params := paramsOf("SCRIPT_FILENAME", elsewhere+"/"+link)
		if got := found(rules, &params); got != tree.Replace(want) {
			t.Errorf("%s: got %s, want %s", link, got, want)
		}
		told, err := NewEnvironment(Options{}).ForWorker(&params, rules)
		if want == "403" && err == nil || want != "403" && (err != nil || told.Get("SCRIPT_FILENAME") != tree.Replace("$R/s.sh")) {
			t.Errorf("%s: a worker is told %v, %v", link, told, err)
		}
	}
}

// An interpreter gets the script as its one argument, whatever the query says
// (CVE-2012-1823).
func TestArguments(t *testing.T) {
	tree := scriptTree(t)
	rules := Rules{Interpreters: map[string]string{".sh": "/bin/sh", ".gz": "/bin/gz", ".tar.gz": "/bin/tar"}}
	for name, want := range map[string][]string{
		"$R/s.sh":     {"/bin/sh", "$R/s.sh"},
		"$R/s.sh/x":   {"/bin/sh", "$R/s.sh"},
		"$R/a.cgi/x":  {"$R/a.cgi"},
		"$R/x.gz":     {"/bin/gz", "$R/x.gz"},
		"$R/x.tar.gz": {"/bin/tar", "$R/x.tar.gz"},
	} {
		params := paramsOf("SCRIPT_FILENAME", tree.Replace(name), "QUERY_STRING", "-s+-d+x")
		s, err := rules.Find(&params)
		if got := strings.Join(s.Argv, " "); err != nil || got != tree.Replace(strings.Join(want, " ")) {
			t.Errorf("%s: arguments are %s, %v", name, got, err)
		}
	}
}

// A script is told the name that it was asked for by where that name is listed, else the one
// without links.
func TestScripts(t *testing.T) {
	const byLink, byFolder = "exact, by a link", "glob, by a linked folder"
	tests := []scriptTest{
		{"exact", "SCRIPT_FILENAME=$R/a.cgi", "$R/a.cgi|unset|unset|unset"},
		{byLink, "SCRIPT_FILENAME=$R/in.cgi", "$R/a.cgi|unset|unset|unset"},
		{"glob", "SCRIPT_FILENAME=$R/dir/b.cgi", "$R/dir/b.cgi|unset|unset|unset"},
		{byFolder, "SCRIPT_FILENAME=$R/linkdir/b.cgi", "$R/dir/b.cgi|unset|unset|unset"},
		{"another", "SCRIPT_FILENAME=$R/a b.cgi", "403"},
		{"a link to another", "SCRIPT_FILENAME=$R/out.cgi", "403"},
		{"path info does not match", "SCRIPT_FILENAME=$R/noext/a.cgi", "403"},
		{"below a glob", "SCRIPT_FILENAME=$R/r2/a.cgi", "403"},
	}
	for name, scripts := range map[string][]string{
		"as they are":     {"$R/nothing", "$R/a.cgi", "$R/dir/*.cgi"},
		"by links":        {"$R/in.cgi", "$R/linkdir/*.cgi"},
		"by linked roots": {"$TOP/current/in.cgi", "$TOP/current/linkdir/?.[c]*"},
		"not clean":       {"$R//./a.cgi", "$R/dir//*.cgi", "*", "", "[", "$R/["},
	} {
		t.Run(name, func(t *testing.T) {
			tests := slices.Clone(tests)
			if name == "by links" {
				for i := range tests {
					if named := &tests[i]; named.name == byLink || named.name == byFolder {
						named.want = strings.TrimPrefix(named.params, "SCRIPT_FILENAME=") + "|unset|unset|unset"
					}
				}
			}
			runScriptTests(t, tests, func(o *Rules, tree *strings.Replacer) {
				o.Roots = nil
				for _, s := range scripts {
					o.Scripts = append(o.Scripts, tree.Replace(s))
				}
			})
		})
	}
}

// Likewise where the name begins like a root.
func TestRoots(t *testing.T) {
	for _, root := range []string{"$R", "$R/", "$TOP/current", "$TOP/current/linkdir/", "$R/./dir"} {
		byLink := "$R/dir/b.cgi"
		if root == "$TOP/current" {
			byLink = "$TOP/current/dir/b.cgi"
		}
		tests := []scriptTest{
			{"inside", "SCRIPT_FILENAME=$R/dir/b.cgi", "$R/dir/b.cgi|unset|unset|unset"},
			{"inside, by a link", "SCRIPT_FILENAME=$TOP/current/dir/b.cgi", byLink + "|unset|unset|unset"},
			{"outside", "SCRIPT_FILENAME=$O/x.cgi", "403"},
			{"outside, by a link", "SCRIPT_FILENAME=$R/outdir/x.cgi", "403"},
		}
		t.Run(root, func(t *testing.T) {
			runScriptTests(t, tests, func(o *Rules, tree *strings.Replacer) {
				o.Roots = []string{"/nothing", tree.Replace(root)}
			})
		})
	}
	t.Run("all", func(t *testing.T) {
		runScriptTests(t, []scriptTest{{"any", "SCRIPT_FILENAME=$O/x.cgi", "$O/x.cgi|unset|unset|unset"}},
			func(o *Rules, _ *strings.Replacer) { o.Roots = []string{"/"} })
	})
}

// The link to the current release is turned while we run.
func TestReleaseSwitch(t *testing.T) {
	dir := tempDir(t)
	for _, release := range []string{"1", "2"} {
		write(t, filepath.Join(dir, release, "a.cgi"), "", 0o755)
	}
	current := filepath.Join(dir, "current")
	mustDo(t, os.Symlink("1", current))
	for name, rules := range map[string]Rules{
		"root":    {Roots: []string{current}},
		"scripts": {Scripts: []string{current + "/*.cgi"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, release := range []string{"1", "2", "1", "2"} {
				mustDo(t, os.Symlink(release, current+".new"))
				mustDo(t, os.Rename(current+".new", current))
				params := paramsOf("SCRIPT_FILENAME", current+"/a.cgi")
				if s, err := rules.Find(&params); err != nil || s.Path != current+"/a.cgi" {
					t.Errorf("in release %s: got %v, %v", release, s, err)
				}
				params = paramsOf("SCRIPT_FILENAME", dir+"/"+map[string]string{"1": "2", "2": "1"}[release]+"/a.cgi")
				if s, err := rules.Find(&params); err == nil {
					t.Errorf("in release %s, the other one: got %v", release, s)
				}
			}
		})
	}
}

// No part of a name is looked for that is longer than a name can be: to look for each
// of these would take hours.
func TestNameOfManyParts(t *testing.T) {
	params := paramsOf("SCRIPT_FILENAME", strings.Repeat("/a", 1<<22))
	if _, err := new(Rules).Find(&params); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
}

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// gitBackend is where git's own CGI program is on Debian.
const gitBackend = "/usr/lib/git-core/git-http-backend"

// gitObjects is how many objects the repository has that is cloned.
const gitObjects = 2000

// gitCase clones a repository over HTTP, one clone after the other.
func gitCase() *benchCase {
	return &benchCase{
		name: "git-clone", work: fmt.Sprintf("git clone, %d objects, git-http-backend behind nginx", gitObjects),
		sides: func(*rig) []side {
			return []side{
				{name: "fcgid", start: through(startGitNginx, startFcgid("git")), measure: measureClones("fcgid")},
				{name: "fcgiwrap", start: through(startGitNginx, startFcgiwrap), measure: measureClones("fcgiwrap")},
			}
		},
		rows: []rowSpec{{cloneTime, "fcgiwrap", atMost(1)}, {cloneTime, "", reach{}}},
	}
}

// gitNginx are the locations of a server that hands repositories to the CGI program.
const gitNginx = `    location ~ ^/%[1]s(/.*)$ {
      fastcgi_param PATH_INFO $1; fastcgi_param GIT_PROJECT_ROOT %[2]s; fastcgi_param GIT_HTTP_EXPORT_ALL "";
      fastcgi_param GIT_PROTOCOL $http_git_protocol;
      include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME %[3]s;
      fastcgi_buffering off; fastcgi_pass unix:%[4]s;
    }
`

func startGitNginx(r *rig) (*server, error) {
	address := freeAddress()
	return r.once("nginx git", "tcp", address, func() (*exec.Cmd, error) {
		backend, err := need(gitBackend)
		if err != nil {
			return nil, err
		}
		if err := r.makeRepository(); err != nil {
			return nil, err
		}
		var locations strings.Builder
		for name, socket := range map[string]string{"fcgid": "git.sock", "fcgiwrap": "fcgiwrap.sock"} {
			fmt.Fprintf(&locations, gitNginx, name, r.path("repositories"), backend, r.path(socket))
		}
		return r.nginx("nginx-git", fmt.Sprintf("  server {\n    listen %s;\n%s  }\n", address, locations.String()))
	})
}

// git is git with nothing of the user's or the machine's configuration.
func (r *rig) git(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(r.ctx, "git", args...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "HOME="+r.dir)
	return cmd
}

// makeRepository makes the bare repository that is cloned: one commit, the folder, 40
// folders in it, and files.
func (r *rig) makeRepository() error {
	const folders = 40
	dir := r.path("repositories/big.git")
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if out, err := r.git("init", "--quiet", "--bare", "--initial-branch=main", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("git init: %w: %s", err, out)
	}
	var text strings.Builder
	text.WriteString("commit refs/heads/main\ncommitter Alice <alice@example.org> 1700000000 +0000\ndata 3\nall\n")
	for i := range gitObjects - folders - 2 {
		content := fmt.Sprintf("This is file %d.\n", i) + strings.Repeat(fmt.Sprintf("It has the line %d.\n", i*i), 20)
		fmt.Fprintf(&text, "M 100644 inline %d/%d.txt\ndata %d\n%s\n", i%folders, i, len(content), content)
	}
	load := r.git("-C", dir, "fast-import", "--quiet")
	load.Stdin = strings.NewReader(text.String())
	if out, err := load.CombinedOutput(); err != nil {
		return fmt.Errorf("git fast-import: %w: %s", err, out)
	}
	count, err := r.git("-C", dir, "count-objects", "-v").Output()
	if !strings.Contains(string(count), fmt.Sprintf("in-pack: %d\n", gitObjects)) {
		return fmt.Errorf("the repository has not %d objects: %w: %s", gitObjects, err, count)
	}
	return nil
}

// measureClones clones for as long as a sample takes. The time of a clone is the median.
func measureClones(location string) func(*rig, *side) (sample, error) {
	return func(r *rig, s *side) (sample, error) {
		var times []float64
		for begin := time.Now(); len(times) < 3 || time.Since(begin) < r.duration; {
			t, err := r.clone("http://" + s.server.address + "/" + location + "/big.git")
			if err != nil {
				return nil, err
			}
			times = append(times, t.Seconds()*1e3)
		}
		return sample{cloneTime: newSpread(times).Median}, nil
	}
}

// clone clones a repository, looks whether all of it has come, and removes it again.
func (r *rig) clone(url string) (time.Duration, error) {
	dir := r.path("clone")
	defer os.RemoveAll(dir)
	begin := time.Now()
	if out, err := r.git("clone", "--quiet", "--bare", url, dir).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("git clone: %w: %s", err, out)
	}
	took := time.Since(begin)
	packs, _ := filepath.Glob(dir + "/objects/pack/*.pack")
	if len(packs) != 1 {
		return 0, fmt.Errorf("the clone has %d packs", len(packs))
	}
	return took, nil
}

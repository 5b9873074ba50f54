package cgi

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// withoutOpenat2 is what a kernel, or a sandbox, without it answers.
func withoutOpenat2(t *testing.T, err error) {
	openat2 = func(int, string, *unix.OpenHow) (int, error) { return -1, err }
	t.Cleanup(func() { openat2 = unix.Openat2 })
}

// The same is found with openat2 and without.
func TestWithoutOpenat2(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"SCRIPT_FILENAME": TestScriptFilename, "path info": TestScriptFilenameWithPathInfo, "SCRIPT_NAME": TestScriptName,
		"roots": TestRoots, "scripts": TestScripts, "releases": TestReleaseSwitch, "extensions": TestExtensions,
		"magic links": TestMagicLinks, "names": TestRealPath, "many parts": TestNameOfManyParts,
	} {
		for _, err := range []error{unix.ENOSYS, unix.EPERM} {
			t.Run(name, func(t *testing.T) {
				withoutOpenat2(t, err)
				test(t)
			})
		}
	}
}

func TestRealPath(t *testing.T) {
	dir := tempDir(t)
	file := write(t, dir+"/a/b/file", "", 0o644)
	for link, target := range map[string]string{
		"/up": "a/b/../b/file", "/a/down": "../up", "/absolute": file, "/folder": "a/./b//", "/root": "/", "/a/b/out": "../../../../../../../../../../../../..",
	} {
		mustDo(t, os.Symlink(target, dir+link))
	}
	for _, name := range []string{"/a/b/file", "/up", "/a/down", "/absolute", "/folder/file", "/root" + file, "/a/b/out" + file} {
		if real, mode, err := realPath(dir + name); real != file || mode&unix.S_IFMT != unix.S_IFREG || err != nil {
			t.Errorf("%s is %s, %o, %v", name, real, mode, err)
		}
	}
	for _, name := range []string{"/root", "/a/b/out"} {
		if real, _, err := realPath(dir + name); real != "/" || err != nil {
			t.Errorf("%s is %s, %v", name, real, err)
		}
	}
	for name, want := range map[string]error{"/nothing": unix.ENOENT, "/a/b/file/x": unix.ENOTDIR, "/up/x": unix.ENOTDIR, "/" + strings.Repeat("a", 300): unix.ENAMETOOLONG} {
		if _, _, err := realPath(dir + name); !errors.Is(err, want) {
			t.Errorf("%.20s: %v, want %v", name, err, want)
		}
	}
	open, err := filepath.Glob("/proc/self/fd/*")
	mustDo(t, err)
	for range 10 {
		realPath(dir + "/a/b/out" + file)
		realPath(dir + "/up/x")
	}
	if after, _ := filepath.Glob("/proc/self/fd/*"); len(after) > len(open)+2 {
		t.Errorf("%d descriptors, were %d", len(after), len(open))
	}
}

// A link of /proc is none that a script may be behind: another process, of
// another user perhaps, says what is there.
func TestMagicLinks(t *testing.T) {
	dir := tempDir(t)
	script := write(t, dir+"/a.cgi", "", 0o755)
	f, err := os.Open(script)
	mustDo(t, err)
	defer f.Close()
	d, err := os.Open(dir)
	mustDo(t, err)
	defer d.Close()
	cmd := exec.Command("sleep", "1000")
	cmd.Dir = dir
	mustDo(t, cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	other := "/proc/" + strconv.Itoa(cmd.Process.Pid)
	mustDo(t, os.Symlink("/proc/self/root"+script, dir+"/link.cgi"))
	mustDo(t, os.Symlink("/proc/self/root", dir+"/root"))
	for _, name := range []string{
		"/proc/self/root" + script, other + "/root" + script, other + "/cwd/a.cgi", "/proc/thread-self/root" + script,
		"/proc/self/fd/" + strconv.Itoa(int(f.Fd())), "/dev/fd/" + strconv.Itoa(int(f.Fd())), "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/a.cgi",
		other + "/exe", dir + "/link.cgi", dir + "/root" + script, other + "/task/" + strconv.Itoa(cmd.Process.Pid) + "/root" + script,
	} {
		for _, extra := range []string{"", "/x"} {
			params := paramsOf("SCRIPT_FILENAME", name+extra)
			for _, rules := range []Rules{{}, {Roots: []string{dir}}, {Scripts: []string{script}}} {
				s, err := rules.Find(&params)
				wantRefusal(t, err, 403, "symbolic links")
				if err == nil {
					t.Errorf("%s is %s", name, s.Path)
				}
			}
		}
	}
}

package devserver

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/fcgi"
)

func TestSamples(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	for range 2 {
		if err := writeSamples(dir); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		env, stdin, want string
		needs            []string
	}{
		"hello.sh": {env: "REQUEST_METHOD=GET", want: "You asked for GET"},
		"env.pl":   {env: "SOME=thing", want: "\nSOME=thing\n", needs: []string{"perl"}},
		"form.py": {
			env:   "REQUEST_METHOD=POST CONTENT_LENGTH=23",
			stdin: "name=%3CAda%3E&text=a+b and more",
			want:  "<dt>name</dt><dd>&lt;Ada&gt;</dd>\n<dt>text</dt><dd>a b",
			needs: []string{"python3"},
		},
		"upload.sh": {
			stdin: "abc",
			want:  "size:   3\nsha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n",
			needs: []string{"sha256sum", "mktemp"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, program := range test.needs {
				if _, err := exec.LookPath(program); err != nil {
					t.Skip(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), filepath.Join(dir, name))
			cmd.Env = append(os.Environ(), strings.Fields(test.env)...)
			cmd.Stdin = strings.NewReader(test.stdin)
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fcgi.ReadResponse(bytes.NewReader(out), nil); err != nil || !strings.Contains(string(out), test.want) {
				t.Errorf("header %v, output:\n%s", err, out)
			}
		})
	}
	if info, err := os.Stat(filepath.Join(dir, "stream.sh")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("stream.sh: %v, %v", info, err)
	}
}

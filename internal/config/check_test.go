package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	write(t, map[string]string{"file": "", "run": "#!/bin/sh\n"})
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod("run", 0o755); err != nil {
		t.Fatal(err)
	}
	text := `pools:
- name: good
  listen: {address: unix:/a, owner: root, group: "4711"}
  process: {root: [DIR], scripts: [DIR/file, DIR/none/*], interpreters: [.x=DIR/run], dir: DIR}
- name: bad
  listen: {address: unix:/b, owner: no_such_user, group: no_such_group}
  process:
    root: [DIR/none, DIR/file]
    scripts: [DIR, DIR/none]
    interpreters: [.x=DIR/none, .y=DIR/file]
    dir: DIR/none
- name: good_worker
  listen: unix:/c
  worker: {command: [DIR/run, DIR/none], dir: DIR}
  slow: {after: 1s, command: [DIR/run, "{pid}"]}
- name: bad_worker
  listen: unix:/d
  worker: {command: [DIR/file], dir: DIR/file, root: [DIR, DIR/none]}
  slow: {after: 1s, command: [DIR/none]}
- {name: all, listen: unix:/e, function: {}}
- {name: one, listen: unix:/f, function: {names: [app.bye]}}
- {name: none, listen: unix:/g, function: {names: [app.hullo, bey, stranger]}}
`
	if err := os.WriteFile("f", []byte(expand(text, dir)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load("f", nil); err != nil {
		t.Fatal(err)
	}
	_, err = LoadAndCheck("f", nil, []string{"app.hello", "app.bye"})
	path := func(name string) string { return `"` + filepath.Join(dir, name) + `"` }
	column := func(text string) int { return len(expand(text, dir)) + 1 }
	wantFaults(t, err,
		"f:6:37: pools[1].listen.owner: unknown user no_such_user",
		"f:6:58: pools[1].listen.group: unknown group no_such_group",
		"f:8:12: pools[1].process.root[0]: "+path("none")+": no such file or directory",
		at(8, column("    root: [DIR/none, "))+"pools[1].process.root[1]: "+path("file")+" is not a folder",
		"f:9:15: pools[1].process.scripts[0]: "+path("")+" is not a file",
		at(9, column("    scripts: [DIR, "))+"pools[1].process.scripts[1]: "+path("none")+": no such file or directory",
		"f:10:20: pools[1].process.interpreters[0]: "+path("none")+" cannot be run: no such file or directory",
		at(10, column("    interpreters: [.x=DIR/none, "))+"pools[1].process.interpreters[1]: "+path("file")+" cannot be run: permission denied",
		"f:11:10: pools[1].process.dir: "+path("none")+": no such file or directory",
		"f:18:22: pools[3].worker.command[0]: "+path("file")+" cannot be run: permission denied",
		at(18, column("  worker: {command: [DIR/file], dir: "))+"pools[3].worker.dir: "+path("file")+" is not a folder",
		at(18, column("  worker: {command: [DIR/file], dir: DIR/file, root: [DIR, "))+"pools[3].worker.root[1]: "+path("none")+": no such file or directory",
		"f:19:31: pools[3].slow.command[0]: "+path("none")+" cannot be run: no such file or directory",
		`f:22:52: pools[6].function.names[0]: "app.hullo" is no function of this program (did you mean app.hello?)`,
		`f:22:63: pools[6].function.names[1]: "bey" is no function of this program (did you mean app.bye?)`,
		`f:22:68: pools[6].function.names[2]: "stranger" is no function of this program: it has app.hello, app.bye`,
	)
}

// What the machine lacks is told together with what is wrong in the file, and
// only once of a value that is wrong in itself.
func TestCheckWithOtherFaults(t *testing.T) {
	write(t, map[string]string{"f": "pools:\n- name: a\n  listn: unix:/run/a\n  process: {root: [/none, here]}\n"})
	_, err := LoadAndCheck("f", nil, nil)
	wantFaults(t, err,
		"f:3:3: pools[0].listn: unknown key (did you mean listen?)",
		"f:4:20: pools[0].process.root[0]: \"/none\": no such file or directory",
		"f:4:27: pools[0].process.root[1]: \"here\" is not an absolute path",
	)
}

func TestCheckWithoutFunctions(t *testing.T) {
	write(t, map[string]string{"f": "pools:\n- {name: a, listen: unix:/a, function:  }\n- {name: b, listen: unix:/b, function: {names: [x]}}\n"})
	_, err := LoadAndCheck("f", nil, nil)
	wantFaults(t, err,
		"f:2:41: pools[0].function: this program has no functions",
		"f:3:40: pools[1].function: this program has no functions",
	)
}

func expand(text, dir string) string { return strings.ReplaceAll(text, "DIR", dir) }

func at(line, column int) string { return fmt.Sprintf("f:%d:%d: ", line, column) }

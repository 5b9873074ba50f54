package harness

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A Terminal is a screen with a program on it, kept by a tmux of its own: what the
// program writes is taken as a terminal takes it. It is for one goroutine.
type Terminal struct {
	t      testing.TB
	socket string
	raw    string // file of what the program has written
	code   string // file of its exit status, once there is one
}

// NewTerminal has a shell run a command on a screen of that size.
func NewTerminal(t testing.TB, width, height int, command string) *Terminal {
	t.Helper()
	Need(t, "tmux")
	dir := Folder(t)
	term := &Terminal{t: t, socket: dir + "/tmux", raw: dir + "/raw", code: dir + "/code"}
	script := fmt.Sprintf("#!/bin/sh\nscript -qfec \"$(cat %s/command)\" %s\necho $? >%s.part\nmv %s.part %s\nexec cat\n", dir, term.raw, term.code, term.code, term.code)
	Write(t, dir+"/command", command)
	Script(t, dir+"/run", script)
	term.tmux("-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height), dir+"/run")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the screen:\n%s", term.Screen())
		}
		term.tmux("kill-server")
	})
	return term
}

func (term *Terminal) tmux(args ...string) string {
	term.t.Helper()
	cmd := exec.Command("tmux", append([]string{"-u", "-S", term.socket}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TERM=xterm-256color", "TMUX=")
	return Run(term.t, cmd)
}

// Screen is what is seen.
func (term *Terminal) Screen() string { return term.tmux("capture-pane", "-p") }

// Painted is what is seen, with its colours as SGR.
func (term *Terminal) Painted() string { return term.tmux("capture-pane", "-p", "-e") }

// Press presses keys, as tmux names them.
func (term *Terminal) Press(keys ...string) {
	term.tmux(append([]string{"send-keys"}, keys...)...)
}

// Resize makes the screen another size.
func (term *Terminal) Resize(width, height int) {
	term.tmux("resize-window", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height))
}

// Await waits until the screen has a text.
func (term *Terminal) Await(text string) string {
	term.t.Helper()
	var screen string
	Await(term.t, fmt.Sprintf("%q on the screen", text), func() bool {
		screen = term.Screen()
		return strings.Contains(screen, text)
	})
	return screen
}

// Raw is all that the program has written.
func (term *Terminal) Raw() string {
	term.t.Helper()
	text, err := os.ReadFile(term.raw)
	if err != nil {
		term.t.Fatal(err)
	}
	return string(text)
}

// ExitCode waits for the program to exit.
func (term *Terminal) ExitCode() string {
	term.t.Helper()
	var code []byte
	Await(term.t, "the program to exit", func() (done bool) {
		var err error
		code, err = os.ReadFile(term.code)
		return err == nil
	})
	return strings.TrimSpace(string(code))
}

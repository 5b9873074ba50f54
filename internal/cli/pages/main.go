// Command pages writes what describes fcgid to man(1) and to shells, into the folder
// that is its argument: man/fcgid.1, one page for each command, man/fcgid.yaml.5, and
// completion/fcgid.{bash,zsh,fish}. With --keys it writes the table of all keys into
// docs/configuration.md. It is run by make, and the daemon does not link it.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/internal/cli"
)

// configFile is where the text of fcgid.yaml(5) comes from.
const configFile = "configs/fcgid.yaml"

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: pages FOLDER | pages --keys")
		os.Exit(2)
	}
	do := write
	if os.Args[1] == "--keys" {
		do = func(string) error { return writeKeys() }
	}
	if err := do(os.Args[1]); err != nil {
		fmt.Fprintf(os.Stderr, "pages: %v\n", err)
		os.Exit(1)
	}
}

func write(folder string) error {
	man, completion := filepath.Join(folder, "man"), filepath.Join(folder, "completion")
	for _, dir := range []string{man, completion} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	root := cli.Commands("fcgid")
	if err := writeCommandPages(root, man); err != nil {
		return fmt.Errorf("manual pages: %w", err)
	}
	text, err := os.ReadFile(configFile)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(man, "fcgid.yaml.5"), configPage(string(text)), 0o644); err != nil {
		return err
	}
	return writeCompletion(root, completion)
}

// writeKeys makes the table of keysPage anew.
func writeKeys() error {
	page, err := os.ReadFile(keysPage)
	if err != nil {
		return err
	}
	file, err := os.ReadFile(configFile)
	if err != nil {
		return err
	}
	text, err := withKeys(string(page), string(file))
	if err != nil {
		return err
	}
	return os.WriteFile(keysPage, []byte(text), 0o644)
}

func writeCompletion(root *cobra.Command, folder string) error {
	for shell, write := range map[string]func(string) error{
		"bash": func(file string) error { return root.GenBashCompletionFileV2(file, true) },
		"zsh":  root.GenZshCompletionFile,
		"fish": func(file string) error { return root.GenFishCompletionFile(file, true) },
	} {
		if err := write(filepath.Join(folder, "fcgid."+shell)); err != nil {
			return fmt.Errorf("completion of %s: %w", shell, err)
		}
	}
	return nil
}

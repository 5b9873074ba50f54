package devserver

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
)

//go:embed samples
var samples embed.FS

// writeSamples puts the sample programs into dir, which it makes if need be.
func writeSamples(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write samples: %w", err)
	}
	files, err := samples.ReadDir("samples")
	if err != nil {
		return fmt.Errorf("write samples: %w", err)
	}
	for _, file := range files {
		text, err := samples.ReadFile("samples/" + file.Name())
		if err != nil {
			return fmt.Errorf("write samples: %w", err)
		}
		name := filepath.Join(dir, file.Name())
		if err := os.WriteFile(name, text, 0o755); err != nil {
			return fmt.Errorf("write samples: %w", err)
		}
		// WriteFile leaves the mode of a file that was there.
		if err := os.Chmod(name, 0o755); err != nil {
			return fmt.Errorf("write samples: %w", err)
		}
	}
	return nil
}

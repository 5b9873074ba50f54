package config

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/pflag"
)

// A source is where the files of a configuration are read from.
type source interface {
	read(path string) ([]byte, error)
	glob(pattern string) ([]string, error)
}

// disk is the source of who trusts the disk.
type disk struct{}

func (disk) read(path string) ([]byte, error)      { return readFile(path) }
func (disk) glob(pattern string) ([]string, error) { return filepath.Glob(pattern) }

// maxBundle is the size in bytes above which the files of a configuration are refused that
// are handed to another process.
const maxBundle = 32 << 20

// A Bundle is the files of a configuration as they were read once, and what was found out
// about them, for a process that may not read them or find that out.
type Bundle struct {
	Path     string
	Files    map[string][]byte
	Globs    map[string][]string // what the patterns of include matched
	User     *Identity           // the daemon's
	Users    map[string]Identity // of programs, by the names of their pools
	Warnings Faults
	// Unreached says what the programs' users cannot go to, of who has found that out.
	Unreached []string
}

// MayHaveUser reports whether the key user may stand in a file: it does not, if the word does
// not.
func MayHaveUser(path string) bool {
	data, err := readFile(path)
	return err == nil && bytes.Contains(data, []byte("user"))
}

// LoadForOthers is [LoadAndCheck], and returns what it has read. It takes files that root
// alone can change, and no others.
func LoadForOthers(path string, flags *pflag.FlagSet, functions []string) (*Config, *Bundle, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, nil, err
	}
	r := &recorder{b: &Bundle{Path: path, Files: make(map[string][]byte), Globs: make(map[string][]string), Users: make(map[string]Identity)}}
	c, err := loadAndCheck(r, path, flags, functions)
	if err != nil {
		return nil, nil, err
	}
	r.b.User, r.b.Warnings = c.RunsAs, c.warnings
	for i := range c.Pools {
		if id := c.Pools[i].RunsAs; id != nil {
			r.b.Users[c.Pools[i].Name] = *id
		}
	}
	return c, r.b, nil
}

// Load is [Load] of these files.
func (b *Bundle) Load(flags *pflag.FlagSet) (*Config, error) {
	c, err := loadAnd(bundled{b}, b.Path, flags, (*report).validate)
	if err != nil {
		return nil, err
	}
	c.warnings = b.Warnings
	for i := range c.Pools {
		if id, ok := b.Users[c.Pools[i].Name]; ok {
			c.Pools[i].RunsAs = &id
		}
	}
	return c, nil
}

// bundled is the source of who has a bundle.
type bundled struct{ b *Bundle }

func (s bundled) read(path string) ([]byte, error) {
	data, ok := s.b.Files[path]
	if !ok {
		return nil, errors.New("was not handed over")
	}
	return data, nil
}

func (s bundled) glob(pattern string) ([]string, error) { return s.b.Globs[pattern], nil }

// A recorder is the source of who makes a bundle.
type recorder struct {
	b    *Bundle
	size int
}

func (s *recorder) read(path string) ([]byte, error) {
	f, err := openTrusted(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := readBounded(f)
	if err != nil {
		return nil, err
	}
	if s.size += len(data); s.size > maxBundle {
		return nil, fmt.Errorf("the files of this configuration are larger than %s together", formatSize(maxBundle))
	}
	s.b.Files[path] = data
	return data, nil
}

func (s *recorder) glob(pattern string) ([]string, error) {
	files, err := filepath.Glob(pattern)
	for _, file := range files {
		if err := TrustFolder(filepath.Dir(file)); err != nil {
			return nil, err
		}
	}
	s.b.Globs[pattern] = files
	return files, err
}

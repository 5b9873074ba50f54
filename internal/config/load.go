package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// maxFile is the size in bytes above which a file is refused.
const maxFile = 1 << 20

// overrides lists the keys that a flag and a variable override.
var overrides = []struct{ key, usage string }{
	{"log.level", "debug, info, warn or error"},
	{"log.format", "auto, console or json"},
	{"log.output", "stderr, stdout or a file"},
	{"access_log.output", `stderr, stdout or a file; "" is off`},
	{"access_log.format", "json, combined or php-fpm's tokens"},
	{"access_log.suppress", "paths that are not logged when all went well, with commas between them"},
	{"admin.listen", `tcp:host:port or unix:/path; "" is off`},
	{"admin.allow", "client networks of admin.listen, with commas between them"},
	{"admin.uris", "hidden or full: query strings in /status on TCP"},
	{"admin.control", `unix:/path of the control socket; auto; "" is off`},
	{"admin.hosts", "names that the admin server answers to on TCP, with commas between them"},
	{"memory", "parameters, bodies and answers in memory, of all pools together; 0 is a quarter of what there is"},
	{"spool_dir", "folder of bodies and answers that are on their way"},
	{"shutdown_timeout", "how long running requests may end on a graceful stop"},
	{"upgrade_timeout", "how long requests of the old daemon may end after an upgrade"},
}

// RequireUserFlag names a flag that has root be refused a file without user, by [LoadAndCheck]:
// a unit that starts as root has it, since the file may be of a time when it did not.
const RequireUserFlag = "require-user"

// AddFlags defines one flag for each global key that a flag may override,
// named like the key, and RequireUserFlag. The default it shows is the key's; only a flag that was
// set overrides the file.
func AddFlags(fs *pflag.FlagSet) {
	fs.Bool(RequireUserFlag, false, "refuse a file without user where root starts the daemon")
	v := viper.New()
	for _, f := range fields(reflect.TypeFor[Config]()) {
		v.SetDefault(f.name, f.fallback)
	}
	for _, o := range overrides {
		fs.String(o.key, v.GetString(o.key), o.usage)
	}
}

// variable names the environment variable that overrides key.
func variable(key string) string {
	return "FCGID_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// Load reads the file at path and those it includes, lets variables override
// its global keys and flags that were set override both, and returns the
// checked configuration, or [Faults] with all that is wrong. A variable that
// is set to nothing counts: FCGID_ADMIN_LISTEN= turns the admin server off. The path
// "-" is the standard input, which can be read once.
// flags may be nil or lack some of [AddFlags]. Load looks at no other part of
// the machine; [LoadAndCheck] does.
func Load(path string, flags *pflag.FlagSet) (*Config, error) {
	return loadAnd(disk{}, path, flags, (*report).validate)
}

// LoadAndCheck is Load that looks for what the configuration needs of this
// machine too: the users and groups of sockets, the folders, exact scripts and
// programs of pools. A user or group that is a number need not exist. functions
// are the names of those compiled into this program, which pools may name.
func LoadAndCheck(path string, flags *pflag.FlagSet, functions []string) (*Config, error) {
	return loadAndCheck(disk{}, path, flags, functions)
}

func loadAndCheck(from source, path string, flags *pflag.FlagSet, functions []string) (*Config, error) {
	return loadAnd(from, path, flags, func(r *report, c *Config) {
		r.validate(c)
		r.checkMachine(c, functions)
		r.warnOfMachine(c)
	})
}

func loadAnd(from source, path string, flags *pflag.FlagSet, judge func(*report, *Config)) (*Config, error) {
	r := newReport(map[string]place{})
	r.source = from
	if flags != nil {
		r.requireUser, _ = flags.GetBool(RequireUserFlag) // it is false of flags that have none
	}
	data, err := from.read(path)
	if err != nil {
		r.addAt(place{file: path}, "%v", err)
		return nil, r.err()
	}
	settings, ok := r.read(path, data)
	if !ok {
		return nil, r.err()
	}
	c := &Config{}
	if err := r.decode(c, settings, flags); err != nil {
		return nil, err
	}
	r.bend(c)
	judge(r, c)
	if err := r.err(); err != nil {
		return nil, err
	}
	c.places = r.places
	r.warnOf(c)
	c.warnings = sorted(r.warnings)
	return c, nil
}

func readFile(path string) ([]byte, error) {
	if path == "-" {
		return readBounded(os.Stdin)
	}
	// A FIFO may have nobody at its other end, and a daemon must not wait for one.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close()
	_ = f.SetReadDeadline(time.Now().Add(5 * time.Second)) // of a FIFO; a file has none
	return readBounded(f)
}

func readBounded(f *os.File) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, withoutPath(err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("larger than %s", formatSize(maxFile))
	}
	return data, nil
}

// withoutPath leaves "open: no such file or directory" to follow the file's name.
func withoutPath(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return fmt.Errorf("%s: %w", pe.Op, pe.Err)
	}
	return err
}

// included is the one mapping that an included file may hold.
type included struct {
	Pools []Pool `mapstructure:"pools"`
}

var includedType = reflect.TypeFor[included]()

// read returns the settings of the main file with the pools of all included
// ones; ok is false when the main file is no mapping.
func (r *report) read(path string, data []byte) (settings map[string]any, ok bool) {
	main := newTree(r, path, 0)
	settings, ok = main.read(data, reflect.TypeFor[Config](), spot{})
	if !ok {
		return nil, false
	}
	pools := settings["pools"].([]any)
	seen := map[string]bool{filepath.Clean(path): true}
	for i, pattern := range settings["include"].([]any) {
		key := fmt.Sprintf("include[%d]", i)
		for _, file := range r.glob(key, filepath.Dir(path), pattern.(string)) {
			if !seen[file] {
				seen[file] = true
				pools = append(pools, r.readIncluded(key, file, len(pools))...)
			}
		}
	}
	settings["pools"] = pools
	return settings, true
}

var globMeta = regexp.MustCompile(`[*?[\\]`)

// glob lists the files that pattern names, relative to dir. A name without
// glob characters is returned whether or not it exists.
func (r *report) glob(key, dir, pattern string) []string {
	if !globMeta.MatchString(pattern) {
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(dir, pattern)
		}
		return []string{filepath.Clean(pattern)}
	}
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(globMeta.ReplaceAllString(dir, `\$0`), pattern)
	}
	files, err := r.source.glob(pattern)
	if err != nil {
		r.add(key, "%v", err)
	}
	r.matchless[key] = len(files) == 0
	return files
}

// readIncluded returns the pools of an included file, of which there may be
// none. One that cannot be read is a fault of the include entry at key.
func (r *report) readIncluded(key, file string, firstPool int) []any {
	data, err := r.source.read(file)
	if err != nil {
		r.addAt(r.find(key), "%s: %v", file, err)
		return nil
	}
	settings, ok := newTree(r, file, firstPool).read(data, includedType, spot{key: file + ":"})
	if !ok {
		return nil
	}
	return settings["pools"].([]any)
}

// decode merges the settings with what overrides them and fills c. Nothing overrides the keys
// of pools.
func (r *report) decode(c *Config, settings map[string]any, flags *pflag.FlagSet) error {
	pools := settings["pools"].([]any)
	delete(settings, "pools")
	v := viper.New()
	v.AllowEmptyEnv(true)
	if err := v.MergeConfigMap(settings); err != nil {
		return fmt.Errorf("merge configuration: %w", err)
	}
	for _, o := range overrides {
		if err := r.override(v, flags, o.key); err != nil {
			return err
		}
	}
	err := v.Unmarshal(c, viper.DecodeHook(mapstructure.DecodeHookFuncValue(scalar)), func(d *mapstructure.DecoderConfig) {
		d.ErrorUnused = true
		d.WeaklyTypedInput = false
	})
	r.addDecodeErrors(err)
	for _, wrong := range fill(reflect.ValueOf(&c.Pools).Elem(), pools) {
		r.add("pools"+wrong.key, "%v", wrong.err)
	}
	return nil
}

// override binds key to its variable and its flag and moves its place to the
// one that counts.
func (r *report) override(v *viper.Viper, flags *pflag.FlagSet, key string) error {
	moveTo := func(name string) {
		r.places[key] = place{file: name, path: key}
		delete(r.muted, key)
	}
	name := variable(key)
	if err := v.BindEnv(key, name); err != nil {
		return fmt.Errorf("bind %s: %w", name, err)
	}
	if _, set := os.LookupEnv(name); set {
		moveTo(name)
	}
	if flags == nil || flags.Lookup(key) == nil {
		return nil
	}
	if err := v.BindPFlag(key, flags.Lookup(key)); err != nil {
		return fmt.Errorf("bind --%s: %w", key, err)
	}
	if flags.Changed(key) {
		moveTo("--" + key)
	}
	return nil
}

// addDecodeErrors reports what the decode hook refused, each at its field.
func (r *report) addDecodeErrors(err error) {
	if err == nil {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			r.addDecodeErrors(e)
		}
	} else if de, ok := err.(*mapstructure.DecodeError); ok {
		r.add(de.Name(), "%v", de.Unwrap())
	} else if inner := errors.Unwrap(err); inner != nil {
		r.addDecodeErrors(inner)
	} else {
		r.add("", "%v", err)
	}
}

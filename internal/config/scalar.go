package config

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

// scalar is the decode hook: the texts of the tree, of variables and of flags
// become values by the type of the field alone. An int64 is a size, an int a count.
//
// It also fills a nil pointer, since mapstructure keeps what it decodes into a
// pointer only if all of it is right, and a rule must see the rest too.
func scalar(from, to reflect.Value) (any, error) {
	if to.Kind() == reflect.Pointer && to.IsNil() {
		to.Set(reflect.New(to.Type().Elem()))
	}
	text, ok := from.Interface().(string)
	if !ok {
		return from.Interface(), nil
	}
	if to.Kind() == reflect.Slice { // of a variable or a flag; the tree has lists
		return strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == ' ' }), nil
	}
	return parseText(text, to.Type())
}

// A wrongText is one that is no value of its key.
type wrongText struct {
	key string // below what was filled, with the dot or bracket before it
	err error
}

// fill gives a value what the tree has for it, with the texts as scalar has them. That is what
// mapstructure does, but for looking through the tags of a struct each time, which was two
// thirds of the time that a file with hundreds of pools takes.
func fill(to reflect.Value, from any) (wrong []wrongText) {
	if to.Kind() == reflect.Pointer {
		to.Set(reflect.New(to.Type().Elem()))
		return fill(to.Elem(), from)
	}
	switch from := from.(type) {
	case map[string]any:
		for _, f := range fields(to.Type()) {
			if value, ok := from[f.name]; ok {
				for _, w := range fill(to.Field(f.index), value) {
					wrong = append(wrong, wrongText{"." + f.name + w.key, w.err})
				}
			}
		}
	case []any:
		to.Set(reflect.MakeSlice(to.Type(), len(from), len(from)))
		for i, value := range from {
			for _, w := range fill(to.Index(i), value) {
				wrong = append(wrong, wrongText{fmt.Sprintf("[%d]%s", i, w.key), w.err})
			}
		}
	case string:
		value, err := parseText(from, to.Type())
		if err != nil {
			return []wrongText{{"", err}}
		}
		to.Set(reflect.ValueOf(value).Convert(to.Type()))
	}
	return wrong
}

// parseText is the value of a type that a text stands for.
func parseText(text string, typ reflect.Type) (any, error) {
	switch typ {
	case reflect.TypeFor[time.Duration]():
		return parseDuration(text)
	case reflect.TypeFor[int64]():
		return parseSize(text)
	case reflect.TypeFor[int]():
		return parseCount(text)
	case reflect.TypeFor[uint32]():
		n, err := parseInteger(text, math.MaxUint32)
		return uint32(n), err
	case reflect.TypeFor[int32]():
		return parseSigned(text)
	case reflect.TypeFor[float64]():
		return parseNumber(text)
	case reflect.TypeFor[bool]():
		return parseBool(text)
	case reflect.TypeFor[fs.FileMode]():
		return parseMode(text)
	case reflect.TypeFor[netip.Prefix]():
		return parseNetwork(text)
	case reflect.TypeFor[Interpreter]():
		return parseInterpreter(text)
	case reflect.TypeFor[Capability]():
		return parseCapability(text)
	case reflect.TypeFor[Rlimit]():
		return parseRlimit(text)
	case reflect.TypeFor[syscall.Signal]():
		return parseSignal(text)
	}
	return text, nil
}

// What is longer or larger is a slip of the pen, and a sum of several might not fit
// its type.
const (
	maxDuration = 365 * 24 * time.Hour
	maxSize     = 1 << 50
)

func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		if _, number := strconv.ParseFloat(text, 64); number == nil {
			return 0, fmt.Errorf("%q needs a unit, for example 30s", text)
		}
		return 0, fmt.Errorf("%q is not a duration, for example 250ms or 30s", text)
	}
	if d < 0 {
		return 0, fmt.Errorf("%q is negative", text)
	}
	if d > maxDuration {
		return 0, fmt.Errorf("%q is too long: %s at most, or 0", text, formatDuration(maxDuration))
	}
	if 0 < d && d < time.Millisecond {
		return 0, fmt.Errorf("%q is too short: 1ms at least, or 0", text)
	}
	return d, nil
}

func parseSize(text string) (int64, error) {
	if strings.HasPrefix(text, "-") {
		return 0, fmt.Errorf("%q is negative", text)
	}
	if n, err := strconv.ParseInt(text, 0, 64); err == nil && n <= maxSize {
		return n, nil
	}
	if number := strings.TrimRight(text, "kKmMgGtTpPeE"); len(number) == len(text)-1 && isNumber(number) {
		unit := strings.ToUpper(text[len(number):])
		return 0, fmt.Errorf("%q could be either of two sizes: write %s%siB or %s%sB", text, number, unit, number, unit)
	}
	n, err := humanize.ParseBytes(text)
	_, number := strconv.ParseFloat(text, 64)
	switch {
	case err == nil && n > maxSize, err != nil && (number == nil || strings.HasPrefix(err.Error(), "too large")):
		return 0, fmt.Errorf("%q is too large: %s at most", text, formatSize(maxSize))
	case err != nil || number == nil:
		return 0, fmt.Errorf("%q is not a size, for example 65536, 64KiB or 1MiB", text)
	}
	return int64(n), nil
}

func isNumber(text string) bool {
	_, err := strconv.ParseFloat(text, 64)
	return err == nil
}

func parseInteger(text string, most int64) (int, error) {
	n, err := strconv.ParseInt(text, 0, 64)
	if err != nil || n < 0 || n > most {
		return 0, fmt.Errorf("must be an integer from 0 to %d, not %q", most, text)
	}
	return int(n), nil
}

// parseCount takes what [report.count] then refuses by the range that the key has.
func parseCount(text string) (int, error) {
	n, err := strconv.ParseInt(text, 0, strconv.IntSize)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("%q is out of range", text)
	case err != nil:
		return 0, fmt.Errorf("must be an integer, not %q", text)
	}
	return int(n), nil
}

func parseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("must be true or false, not %q", text)
}

func parseMode(text string) (fs.FileMode, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(text, "0o"), 8, 32)
	if err != nil || n > 0o777 {
		return 0, fmt.Errorf("%q is not an octal mode from 0000 to 0777, for example \"0660\"", text)
	}
	return fs.FileMode(n), nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(text); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return network, fmt.Errorf("%q is not a network, for example 10.0.0.0/8 or 2001:db8::1", text)
	case network.Addr().Is4In6():
		return network, fmt.Errorf("%q is an IPv4 network written as IPv6: write it as IPv4", text)
	case network != network.Masked():
		return network, fmt.Errorf("%q has bits set after its prefix (did you mean %s?)", text, network.Masked())
	}
	return network, nil
}

func parseInterpreter(text string) (Interpreter, error) {
	extension, path, _ := strings.Cut(text, "=")
	if !isExtension(extension) || !strings.HasPrefix(path, "/") {
		return Interpreter{}, fmt.Errorf("%q is not .extension=/path", text)
	}
	return Interpreter{extension, path}, nil
}

func isExtension(s string) bool {
	return len(s) > 1 && s[0] == '.' && !strings.Contains(s, "/")
}

// stopSignals are those that a program may understand as the order to end,
// without their SIG.
var stopSignals = []string{"TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH", "ALRM", "ABRT", "KILL"}

// parseSignal reads the name of one of stopSignals, with or without SIG, in any case.
func parseSignal(text string) (syscall.Signal, error) {
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if slices.Contains(stopSignals, name) {
		return unix.SignalNum("SIG" + name), nil
	}
	candidate := nearest(name, stopSignals, whole)
	if candidate != "" {
		candidate = "SIG" + candidate
	}
	return 0, fmt.Errorf("%q is not one of SIG%s%s", text, strings.Join(stopSignals, ", SIG"), didYouMean(candidate))
}

// formatSize writes n with the largest unit that divides it.
func formatSize(n int64) string {
	for i, unit := range []string{"EiB", "PiB", "TiB", "GiB", "MiB", "KiB"} {
		if size := int64(1) << (60 - 10*i); n >= size && n%size == 0 {
			return strconv.FormatInt(n/size, 10) + unit
		}
	}
	return strconv.FormatInt(n, 10)
}

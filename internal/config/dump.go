package config

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/netip"
	"reflect"
	"strings"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/address"
)

// YAML writes the effective configuration, every key with its value. Loading
// it again gives an equal Config, but for Include, which is empty because the
// included pools stand among the others.
func (c *Config) YAML() ([]byte, error) {
	whole := *c
	whole.Include = nil
	n, err := encode(reflect.ValueOf(whole))
	if err != nil {
		return nil, fmt.Errorf("encode configuration: %w", err)
	}
	var buf bytes.Buffer
	enc := yaml.NewEncoder(&buf)
	enc.SetIndent(2)
	if err := enc.Encode(n); err != nil {
		return nil, fmt.Errorf("encode configuration: %w", err)
	}
	return buf.Bytes(), nil
}

func encode(v reflect.Value) (*yaml.Node, error) {
	switch {
	case v.Kind() == reflect.Pointer:
		return encode(v.Elem())
	case isMapping(v.Type()):
		return encodeMapping(v)
	case v.Kind() == reflect.Slice:
		return encodeList(v)
	}
	n := new(yaml.Node)
	return n, n.Encode(plain(v.Interface()))
}

// plain is the inverse of the decode hook.
func plain(value any) any {
	switch x := value.(type) {
	case time.Duration:
		return formatDuration(x)
	case int64:
		if s := formatSize(x); strings.HasSuffix(s, "B") {
			return s
		}
	case fs.FileMode:
		return fmt.Sprintf("%04o", x)
	case netip.Prefix:
		return x.String()
	case Interpreter:
		return x.String()
	case Capability:
		return x.Name
	case Rlimit:
		return x.String()
	case syscall.Signal:
		return unix.SignalName(x)
	}
	return value
}

// formatDuration leaves out the zeros that String writes after whole hours and minutes.
func formatDuration(d time.Duration) string {
	switch s := d.String(); {
	case strings.HasSuffix(s, "h0m0s"):
		return strings.TrimSuffix(s, "0m0s")
	case strings.HasSuffix(s, "m0s"):
		return strings.TrimSuffix(s, "0s")
	default:
		return s
	}
}

func encodeMapping(v reflect.Value) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for f, value := range v.Fields() {
		name := f.Tag.Get("mapstructure")
		if name == "" || value.Kind() == reflect.Pointer && value.IsNil() || name == "mode" && !hasMode(v) {
			continue
		}
		child, err := encode(value)
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, child)
	}
	return n, nil
}

// hasMode tells whether a mode may be written beside the address of a Listen.
func hasMode(v reflect.Value) bool {
	l, ok := v.Interface().(Listen)
	if !ok {
		return false
	}
	a, err := address.Parse(l.Address)
	return err == nil && a.Kind == address.Unix
}

func encodeList(v reflect.Value) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.SequenceNode}
	if v.Len() == 0 {
		n.Style = yaml.FlowStyle
	}
	for _, elem := range v.Seq2() {
		child, err := encode(elem)
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, child)
	}
	return n, nil
}

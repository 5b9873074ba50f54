package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Every size and every duration there is, a new one too, is refused where it cannot
// be meant: the largest that its type holds would overflow in the next sum.
func TestExtremesOfEveryKey(t *testing.T) {
	extremes := map[reflect.Type]map[string]string{
		reflect.TypeFor[int64]():         {"256PiB": "is too large", "9223372036854775807": "is too large"},
		reflect.TypeFor[time.Duration](): {"2500000h": "is too long", "1ns": "is too short"},
	}
	tried := 0
	var try func(typ reflect.Type, file func(text string) string)
	try = func(typ reflect.Type, file func(text string) string) {
		for _, f := range fields(typ) {
			below := f.typ
			if below.Kind() == reflect.Pointer {
				below = below.Elem()
			}
			if isMapping(below) && f.name != "pools" && f.name != "listen" {
				try(below, func(text string) string { return file(fmt.Sprintf("%s: {%s}", f.name, text)) })
			}
			for value, want := range extremes[f.typ] {
				tried++
				text := file(f.name + ": " + value)
				if _, err := load(t, text); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%s\n%v, want: %s", text, err, want)
				}
			}
		}
	}
	try(reflect.TypeFor[Config](), func(text string) string { return text + "\n" + one })
	try(poolType, func(text string) string { return "pools:\n- {name: a, listen: unix:/run/a, " + text + "}\n" })
	if tried < 30 {
		t.Errorf("only %d values were tried", tried)
	}
}

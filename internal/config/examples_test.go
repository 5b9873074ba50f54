package config

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

func TestExampleNamesEveryDefault(t *testing.T) {
	const example = "../../configs/fcgid.yaml"
	got, err := Load(example, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.User, want.Pools[0].User, want.Pools[0].Listen[0].Group = "fcgid", "www-data", "www-data" // as the packaged unit wants it
	want.Pools[0].Name = "cgi"
	want.Pools[0].Listen[0].Address = "unix:/run/fcgid/cgi.sock"
	want.Pools[0].Process.Root = []string{"/usr/lib/cgi-bin"}
	want.Pools[0].Silence = 45 * time.Second // so that nothing hangs for ever
	if diff := cmp.Diff(want, got, ignorePlaces); diff != "" {
		t.Errorf("(-defaults +example):\n%s", diff)
	}

	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	whole := regexp.MustCompile(`(?m)^#(  .*)`).ReplaceAllString(afterPools(t, data), "$1")
	php, functions := defaultPool(), defaultPool()
	php.Name, php.Listen[0].Address = "php", "unix:/run/fcgid/php.sock"
	php.User, php.Listen[0].Group, functions.Listen[0].Group = "www-data", "www-data", "www-data"
	php.Process, php.Worker = nil, defaultWorker("/usr/bin/php-cgi")
	functions.Name, functions.Listen[0].Address = "functions", "unix:/run/fcgid/functions.sock"
	functions.Process, functions.Function = nil, &Function{Names: []string{}}
	want.Pools = append(want.Pools, php, functions)
	if diff := cmp.Diff(want.Pools, mustLoad(t, whole).Pools, ignorePlaces); diff != "" {
		t.Errorf("with the pools that are commented out (-defaults +example):\n%s", diff)
	}

	var file, pools map[string]any
	for text, m := range map[string]*map[string]any{string(data): &file, whole: &pools} {
		if err := yaml.Unmarshal([]byte(text), m); err != nil {
			t.Fatal(err)
		}
	}
	file["pools"] = []any{merged(pools["pools"].([]any))}
	wantKeys(t, "", reflect.TypeFor[Config](), file)
}

// afterPools is the key pools with all that follows it.
func afterPools(t *testing.T, data []byte) string {
	t.Helper()
	_, text, found := strings.Cut(string(data), "\npools:\n")
	if !found {
		t.Fatal("no pools")
	}
	return "pools:\n" + text
}

// merged has the keys of all mappings of a list; of equal ones the first counts.
func merged(list []any) map[string]any {
	all := map[string]any{}
	for _, m := range slices.Backward(list) {
		maps.Copy(all, m.(map[string]any))
	}
	return all
}

// Each example is whole, and can be dumped and loaded again.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../configs/examples/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	for _, file := range files {
		c, err := Load(file, nil)
		if err != nil {
			t.Error(err)
			continue
		}
		reload(t, c)
	}
}

// wantKeys fails for every key of typ that the mapping lacks. In a list of
// mappings it looks at the first.
func wantKeys(t *testing.T, path string, typ reflect.Type, value any) {
	t.Helper()
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice && isMapping(typ.Elem()) {
		if list, ok := value.([]any); ok {
			value = list[0]
		}
		typ = typ.Elem()
	}
	if !isMapping(typ) {
		return
	}
	m, _ := value.(map[string]any)
	for f := range typ.Fields() {
		if !f.IsExported() || f.Type == reflect.TypeFor[*Identity]() { // no key: found by a look at the machine
			continue
		}
		name := f.Tag.Get("mapstructure")
		if _, ok := m[name]; !ok || name == "" {
			t.Errorf("%s%s is missing", path, f.Name)
		}
		wantKeys(t, path+f.Name+".", f.Type, m[name])
	}
}

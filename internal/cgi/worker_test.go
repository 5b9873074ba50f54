package cgi

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
)

// Whether the params of a request are a worker's as they came is decided without looking
// at what they would be otherwise, and in the same way.
func TestParamsThatArriveAsTheyCame(t *testing.T) {
	names := []string{"GATEWAY_INTERFACE", "SERVER_SOFTWARE", "HTTP_A", "HTTP_B", "A", "B", "SET", "HTTP_PROXY", "Http_Proxy", "x-y",
		"REDIRECT_URL", "REDIRECT_STATUS", "PATH_TRANSLATED", "ORIG_PATH_INFO", "SCRIPT_FILENAME", ""}
	values := []string{"", "1", "2"}
	environments := map[string]*Environment{
		"plain":    NewEnvironment(Options{}),
		"software": NewEnvironment(Options{Software: "fcgid"}),
		"set":      NewEnvironment(Options{Env: []string{"SET=1", "UNSET=1"}}),
		"passed":   NewEnvironment(Options{PassParams: []string{"HTTP_PROXY", "x-y", "ORIG_PATH_INFO"}}),
		"php-cgi":  NewEnvironment(Options{Command: []string{"php-cgi"}}),
	}
	asTheyCame := 0
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		params := paramsOf("GATEWAY_INTERFACE", "CGI/1.1")
		for range random.IntN(5) {
			params.Add(names[random.IntN(len(names))], values[random.IntN(len(values))])
		}
		for kind, e := range environments {
			e.alone = kind == "php-cgi"
			told, err := e.rewrite(&params, &Script{})
			want := err == nil && told == &params
			if got := e.arriveAsTheyCame(&params); got != want {
				t.Fatalf("%s: %v arrive as they came: %v, want %v", kind, params, got, want)
			}
			if want {
				asTheyCame++
			}
		}
	}
	if asTheyCame == 0 {
		t.Error("none arrives as it came")
	}
}

// Two names that share a bit are not taken for one.
func TestNamesThatShareABit(t *testing.T) {
	var params protocol.Params
	params.Add("GATEWAY_INTERFACE", "CGI/1.1")
	for i := range maxPlain - 2 { // of which some share one of 1024
		params.Add("N_"+string(rune('A'+i%26))+string(rune('A'+i/26%26))+string(rune('A'+i/676)), "")
	}
	if e := NewEnvironment(Options{}); !e.arriveAsTheyCame(&params) {
		t.Error("names that differ are taken for one")
	}
	params.Add("N_AAA", "")
	if e := NewEnvironment(Options{}); e.arriveAsTheyCame(&params) {
		t.Error("a name that is repeated is not seen")
	}
}

// Of very many params each name looks like another one: none is looked for among all that
// came before it, which a client could make as dear as it likes.
func TestVeryManyParams(t *testing.T) {
	params := paramsOf("GATEWAY_INTERFACE", "CGI/1.1")
	for i := range maxPlain {
		params.Add("N_"+strconv.Itoa(i), "")
	}
	e := NewEnvironment(Options{})
	if e.arriveAsTheyCame(&params) {
		t.Error("they are looked at one by one")
	}
	if told, err := e.rewrite(&params, &Script{}); err != nil || told != &params {
		t.Errorf("they arrive otherwise, or %v", err)
	}
}

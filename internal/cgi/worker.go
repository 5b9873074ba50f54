package cgi

import (
	"strings"

	"github.com/fcgid/fcgid/internal/protocol"
)

// WorkerParams are what a worker is sent of a request's params: as they came, but
// for what would steer a program that it starts, what Apache writes before a
// path, and what RFC 3875, section 4.1, demands and is missing.
func WorkerParams(params *protocol.Params, software string) *protocol.Params {
	if !mustChange(params, software) {
		return params
	}
	changed := new(protocol.Params)
	for name, value := range params.All() {
		if Steers(name) {
			continue
		}
		if name == "SCRIPT_FILENAME" {
			value, _ = CutProxy(value)
		}
		changed.Add(name, value)
	}
	if _, ok := changed.Lookup("GATEWAY_INTERFACE"); !ok {
		changed.Add("GATEWAY_INTERFACE", "CGI/1.1")
	}
	if _, ok := changed.Lookup("SERVER_SOFTWARE"); !ok && software != "" {
		changed.Add("SERVER_SOFTWARE", software)
	}
	return changed
}

func mustChange(params *protocol.Params, software string) bool {
	interfaceSet, softwareSet := false, software == ""
	for name, value := range params.All() {
		switch {
		case name == "GATEWAY_INTERFACE":
			interfaceSet = true
		case name == "SERVER_SOFTWARE":
			softwareSet = true
		case name == "SCRIPT_FILENAME" && strings.HasPrefix(value, "proxy:"), Steers(name):
			return true
		}
	}
	return !interfaceSet || !softwareSet
}

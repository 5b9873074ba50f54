//go:build !amd64

package spawn

var forks, ofThisArch []uint32

package cgi

import (
	"path"
	"strings"
)

// CleanPath is the path of a URL without . and .. and double slashes; a slash at its end
// stays.
func CleanPath(p string) string {
	clean := path.Clean("/" + p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}

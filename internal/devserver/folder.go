package devserver

import (
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"

	"github.com/fcgid/fcgid/internal/cgi"
)

var folderPage = template.Must(template.New("folder").Parse(`<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{{.Path}}</title></head>
<body>
<h1>{{.Path}}</h1>
<ul>
{{- range .Entries}}
<li><a href="{{.URL}}">{{.Name}}</a></li>
{{- else}}
<li>no programs here</li>
{{- end}}
</ul>
</body>
</html>
`))

type folderEntry struct{ URL, Name string }

// serveFolder answers with the programs and folders in a folder below the
// document root. It reports false when the path is none.
func (x *exchange) serveFolder() bool {
	root, err := os.OpenRoot(x.front.root)
	if err != nil {
		return false
	}
	defer root.Close()
	shown := cgi.CleanPath(x.r.URL.Path)
	name := path.Clean("." + shown)
	if info, err := root.Stat(name); err != nil || !info.IsDir() {
		return false
	}
	x.closeAfter()
	if x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
		x.w.Header().Set("Allow", "GET, HEAD")
		http.Error(x.w, "405 Method Not Allowed: a folder can only be read", http.StatusMethodNotAllowed)
		return true
	}
	entries, err := listFolder(root, name)
	if err != nil {
		http.Error(x.w, "403 Forbidden: "+err.Error(), http.StatusForbidden)
		return true
	}
	x.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	// An error is the client's, who has gone.
	_ = folderPage.Execute(x.w, struct {
		Path    string
		Entries []folderEntry
	}{shown, entries})
	return true
}

func listFolder(root *os.Root, name string) ([]folderEntry, error) {
	files, err := fs.ReadDir(root.FS(), name)
	if err != nil {
		return nil, err
	}
	var entries []folderEntry
	if name != "." {
		entries = append(entries, entryFor(path.Dir(name)+"/", "../"))
	}
	for _, file := range files {
		full := path.Join(name, file.Name())
		// Stat follows a link, but not out of the root.
		info, err := root.Stat(full)
		switch {
		case err != nil || strings.HasPrefix(file.Name(), "."):
		case info.IsDir():
			entries = append(entries, entryFor(full+"/", file.Name()+"/"))
		case info.Mode().IsRegular() && info.Mode()&0o111 != 0:
			entries = append(entries, entryFor(full, file.Name()))
		}
	}
	return entries, nil
}

func entryFor(name, text string) folderEntry {
	link := url.URL{Path: cgi.CleanPath(name)}
	return folderEntry{URL: link.String(), Name: text}
}

package devserver

import (
	"cmp"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
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
<li>nothing here</li>
{{- end}}
</ul>
</body>
</html>
`))

type folderEntry struct{ URL, Name string }

// serveFile sends a file as it is.
func (x *exchange) serveFile() {
	x.closeAfter()
	root, err := os.OpenRoot(x.front.site.dir)
	if err != nil {
		x.refuse(http.StatusNotFound, err.Error())
		return
	}
	defer root.Close()
	f, err := root.Open(local(x.target.file))
	if err != nil {
		x.refuse(http.StatusForbidden, x.unread(x.target.file, err))
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		x.refuse(http.StatusForbidden, "it is no regular file")
		return
	}
	if !x.isRead() {
		return
	}
	x.w.Header().Set("Cache-Control", "no-cache") // what is worked on is asked for anew
	http.ServeContent(x.w, x.r, info.Name(), info.ModTime(), f)
}

// unread says why a file or a folder of the site could not be read.
func (x *exchange) unread(name string, err error) string {
	return cmp.Or(mayNot("read", filepath.Join(x.front.site.dir, name)), err.Error())
}

// isRead reports whether a file or a folder is only to be read, and answers if not.
func (x *exchange) isRead() bool {
	if x.r.Method == http.MethodGet || x.r.Method == http.MethodHead {
		return true
	}
	x.w.Header().Set("Allow", "GET, HEAD")
	x.refuse(http.StatusMethodNotAllowed, "it can only be read")
	return false
}

// serveFolder answers with the files and folders in a folder.
func (x *exchange) serveFolder() {
	x.closeAfter()
	if !x.isRead() {
		return
	}
	shown := cgi.CleanPath(x.r.URL.Path)
	root, err := os.OpenRoot(x.front.site.dir)
	if err != nil {
		x.refuse(http.StatusNotFound, err.Error())
		return
	}
	defer root.Close()
	entries, err := listFolder(root, path.Clean("."+shown))
	if err != nil {
		x.refuse(http.StatusForbidden, x.unread(shown, err))
		return
	}
	x.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	// An error is the client's, who has gone.
	_ = folderPage.Execute(x.w, struct {
		Path    string
		Entries []folderEntry
	}{shown, entries})
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
		case info.Mode().IsRegular():
			entries = append(entries, entryFor(full, file.Name()))
		}
	}
	return entries, nil
}

func entryFor(name, text string) folderEntry {
	link := url.URL{Path: cgi.CleanPath(name)}
	return folderEntry{URL: link.String(), Name: text}
}

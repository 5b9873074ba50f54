//go:build e2e && screenshots

package e2e

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fcgid/fcgid/e2e/harness"
)

// TestScreenshots writes the pictures of docs/: of the status page, and of fcgid top.
func TestScreenshots(t *testing.T) {
	s := newDemo(t)
	term := s.newTop(92, 26, "")
	b := harness.NewBrowser(t)
	desktop := harness.Screen{Width: 1000, Height: 900}
	b.Open("http://"+s.admin+"/", desktop)
	b.Await("the page", `document.querySelector('#pool-app') != null`)
	for _, points := range []string{"40", "80"} {
		b.Await("the charts to have something", `charts.get('app')?.length > `+points)
	}
	save(t, "page.png", smaller(t, b.Screenshot()))
	b.Show(harness.Screen{Width: desktop.Width, Height: desktop.Height, Dark: true})
	save(t, "page-dark.png", smaller(t, b.Screenshot()))
	b.Show(harness.Screen{Width: 390, Height: 800, Phone: true})
	b.Await("the phone", `innerWidth == 390`)
	save(t, "page-phone.png", smaller(t, b.Screenshot()))

	term.Await("app")
	save(t, "top.svg", drawing(term.Painted()))
	term.Press("Enter")
	term.Await("REQUEST ")
	save(t, "top-pool.svg", drawing(term.Painted()))
}

// newDemo is a site with two pools that have something to do.
func newDemo(t *testing.T) *site {
	t.Helper()
	s := newSite(t, "unix", simple)
	s.address = "@fcgid-app"
	other := *s
	other.address = "@fcgid-cgi"
	report := s.script("report.cgi", "#!/bin/bash\nsleep 0.$((RANDOM % 3))$((RANDOM % 10))\nprintf 'Content-Type: text/plain\\n\\nhello\\n'\n")
	page := write(t, s.dir+"/cgi/index.php", "<?php usleep(random_int(3, 60) ** 2 * 100); echo 'hello';")
	s.configure(s.pool("app", "worker: {command: ["+need(t, "php-cgi")+"], scale: dynamic, max: 8, min_spare: 1, max_spare: 3}") +
		other.pool("cgi", "limits: {max_reqs: 4}, "+simple))
	s.reload(t)
	listening(t, "unix", s.address)
	listening(t, "unix", other.address)
	uris := []string{"/", "/shop/cart", "/search?q=shoes", "/login", "/api/orders/4711", "/shop/item/82", "/export.csv"}
	started, done := time.Now(), make(chan struct{})
	var clients sync.WaitGroup
	t.Cleanup(func() { close(done); clients.Wait() })
	client := func(to *site, path string, n int) {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			if n > 3+int(time.Since(started)/(9*time.Second))%4*3 { // more and less
				time.Sleep(200 * time.Millisecond)
				continue
			}
			<-to.askLater(context.Background(), path, "REQUEST_URI", uris[(i+n)%len(uris)])
		}
	}
	for n := range 12 {
		clients.Go(func() { client(s, page, n) })
	}
	for n := range 5 {
		clients.Go(func() { client(&other, report, n) })
	}
	return s
}

// save writes a picture, which is to be a small one.
func save(t *testing.T, name string, picture []byte) {
	t.Helper()
	if len(picture) > 150<<10 {
		t.Errorf("%s has %d KiB", name, len(picture)>>10)
	}
	if err := os.WriteFile(filepath.Join("..", "docs", name), picture, 0o644); err != nil {
		t.Fatal(err)
	}
}

// smaller is a picture with the 256 colours that it has most of.
func smaller(t *testing.T, picture []byte) []byte {
	t.Helper()
	full, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	area := full.Bounds()
	count := make(map[color.Color]int)
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for x := area.Min.X; x < area.Max.X; x++ {
			count[full.At(x, y)]++
		}
	}
	colours := slices.SortedFunc(maps.Keys(count), func(a, b color.Color) int { return count[b] - count[a] })
	few := image.NewPaletted(area, colours[:min(256, len(colours))])
	draw.Draw(few, area, full, area.Min, draw.Src)
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, few); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// The measures of a letter of a drawing.
const (
	letterWidth = 8.4
	lineHeight  = 18
)

var (
	escape  = regexp.MustCompile(`\x1b\[([0-9;]*)m`)
	fillFor = map[string]string{"31": "#ff8a80", "32": "#58b377", "33": "#e0a33a", "34": "#5aa9e6", "35": "#b98be0"}
)

// drawing is a screen as SVG.
func drawing(screen string) []byte {
	lines := strings.Split(strings.TrimRight(screen, "\n"), "\n")
	var body strings.Builder
	columns := 0
	for row, text := range lines {
		columns = max(columns, len([]rune(escape.ReplaceAllString(text, ""))))
		drawLine(&body, text, row)
	}
	width, height := float64(columns)*letterWidth+24, len(lines)*lineHeight+24
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %d" width="%.0f" height="%d" font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="14" fill="#d5dade">
<rect width="100%%" height="100%%" rx="6" fill="#12161a"/>
%s</svg>
`, width, height, width, height, &body)
}

// drawLine draws each piece of a line where it stands.
func drawLine(to *strings.Builder, text string, row int) {
	fill, bold, reverse, faint := "", false, false, false
	column, y := 0, 12+row*lineHeight
	for text != "" {
		at := escape.FindStringSubmatchIndex(text)
		piece := text
		if at != nil {
			piece = text[:at[0]]
		}
		n := len([]rune(piece))
		x := 12 + float64(column)*letterWidth
		attributes := ""
		if fill != "" {
			attributes += ` fill="` + fill + `"`
		}
		if bold {
			attributes += ` font-weight="bold"`
		}
		if faint {
			attributes += ` opacity=".6"`
		}
		if reverse && n > 0 {
			fmt.Fprintf(to, "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"#d5dade\"/>", x, y, float64(n)*letterWidth, lineHeight)
			attributes = ` fill="#12161a"`
		}
		if strings.TrimSpace(piece) != "" {
			fmt.Fprintf(to, `<text x="%.1f" y="%d" textLength="%.1f" xml:space="preserve"%s>`, x, y+13, float64(n)*letterWidth, attributes)
			xml.EscapeText(to, []byte(piece))
			to.WriteString("</text>\n")
		}
		column += n
		if at == nil {
			return
		}
		for _, code := range strings.Split(text[at[2]:at[3]], ";") {
			switch code {
			case "", "0":
				fill, bold, reverse, faint = "", false, false, false
			case "1":
				bold = true
			case "2":
				faint = true
			case "7":
				reverse = true
			case "39":
				fill = ""
			default:
				fill = fillFor[code]
			}
		}
		text = text[at[1]:]
	}
}

package harness

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// A Browser is a Chromium without a screen, driven over its DevTools pipe
// (https://chromedevtools.github.io/devtools-protocol/). It is for one goroutine.
type Browser struct {
	t       testing.TB
	in      *os.File
	out     *bufio.Reader
	session string
	last    int
	// Events are those that came with what was asked, by their method and parameters.
	Events []string
}

// A Screen is what a browser shows its pages on.
type Screen struct {
	Width, Height int
	Dark, Phone   bool
}

// NewBrowser starts a browser, with one page that is empty.
func NewBrowser(t testing.TB) *Browser {
	t.Helper()
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(Need(t, "chromium-headless-shell"), "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
		"--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run", "--user-data-dir="+t.TempDir())
	cmd.ExtraFiles = []*os.File{theirIn, theirOut} // 3 and 4
	p := Start(t, cmd)
	theirIn.Close()
	theirOut.Close()
	b := &Browser{t: t, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		in.Close() // by which it ends
		select {
		case <-p.Done:
		case <-time.After(10 * time.Second):
		}
		out.Close()
	})
	out.SetReadDeadline(time.Now().Add(2 * time.Minute))
	var target struct{ TargetID string }
	b.ask("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.ask("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		b.ask(domain+".enable", nil, nil)
	}
	return b
}

// ask calls a method, and waits for its result.
func (b *Browser) ask(method string, params map[string]any, result any) {
	b.t.Helper()
	b.last++
	message, err := json.Marshal(map[string]any{"id": b.last, "method": method, "params": params, "sessionId": b.session})
	if b.session == "" {
		message, err = json.Marshal(map[string]any{"id": b.last, "method": method, "params": params})
	}
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in.Write(append(message, 0)); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	for {
		text, err := b.out.ReadBytes(0)
		if err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
		text = bytes.TrimSuffix(text, []byte{0})
		var reply struct {
			ID             int
			Result, Params json.RawMessage
			Method         string
			Error          *struct{ Message string }
		}
		if err := json.Unmarshal(text, &reply); err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
		switch {
		case reply.ID == 0:
			b.Events = append(b.Events, reply.Method+" "+string(reply.Params))
			continue
		case reply.ID != b.last:
			continue
		case reply.Error != nil:
			b.t.Fatalf("%s: %s", method, reply.Error.Message)
		}
		if result != nil {
			if err := json.Unmarshal(reply.Result, result); err != nil {
				b.t.Fatalf("%s: %v", method, err)
			}
		}
		return
	}
}

// Show has the page on such a screen.
func (b *Browser) Show(s Screen) {
	b.t.Helper()
	scheme := "light"
	if s.Dark {
		scheme = "dark"
	}
	b.ask("Emulation.setDeviceMetricsOverride", map[string]any{"width": s.Width, "height": s.Height, "deviceScaleFactor": 1, "mobile": s.Phone}, nil)
	b.ask("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// Open goes to an address, on such a screen.
func (b *Browser) Open(url string, s Screen) {
	b.t.Helper()
	b.Show(s)
	var went struct{ ErrorText string }
	b.ask("Page.navigate", map[string]any{"url": url}, &went)
	if went.ErrorText != "" {
		b.t.Fatalf("%s: %s", url, went.ErrorText)
	}
}

// Eval is the value of an expression in the page, as fmt prints it.
func (b *Browser) Eval(expression string) string {
	b.t.Helper()
	var got struct {
		Result           struct{ Value any }
		ExceptionDetails any
	}
	b.ask("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &got)
	if got.ExceptionDetails != nil {
		b.t.Fatalf("%s: %v", expression, got.ExceptionDetails)
	}
	return fmt.Sprint(got.Result.Value)
}

// Await waits until an expression of the page is true.
func (b *Browser) Await(what, expression string) {
	b.t.Helper()
	Await(b.t, what, func() bool { return b.Eval(expression) == "true" })
}

// Screenshot is a PNG of what the screen shows.
func (b *Browser) Screenshot() []byte {
	b.t.Helper()
	var got struct{ Data string }
	b.ask("Page.captureScreenshot", map[string]any{"format": "png"}, &got)
	png, err := base64.StdEncoding.DecodeString(got.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	return png
}

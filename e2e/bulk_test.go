//go:build e2e

package e2e

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"
)

// randomBytes are n of them, always the same, and their sum.
func randomBytes(n int) (b []byte, sum string) {
	b = make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(b)
	s := sha256.Sum256(b)
	return b, hex.EncodeToString(s[:])
}

const bulk = 80_000_000

// bulkFile is a file of that size, and its sum.
func bulkFile(t testing.TB) (name, sum string) {
	t.Helper()
	name = folder(t) + "/bulk"
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// A prime number of bytes, so that no block of 64 KiB equals another.
	block, _ := randomBytes(999983)
	h := sha256.New()
	for left := bulk; left > 0; left -= len(block) {
		block = block[:min(left, len(block))]
		f.Write(block)
		h.Write(block)
	}
	return name, hex.EncodeToString(h.Sum(nil))
}

// 80 MB down and up, each byte of them.
func TestBulk(t *testing.T) {
	file, sum := bulkFile(t)
	for _, test := range []struct{ network, directives string }{
		{"unix", "fastcgi_max_temp_file_size 0;"},
		{"tcp", keepAlive + unbuffered + "fastcgi_buffering off;"},
	} {
		t.Run(test.network+" "+test.directives, func(t *testing.T) {
			s := newSite(t, test.network, simple)
			s.script("down.sh", "#!/bin/sh\nprintf 'Content-Type: application/octet-stream\\n\\n'\nexec cat "+file+"\n")
			s.script("up.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%s ' \"$CONTENT_LENGTH\"\nexec sha256sum\n")
			s.nginx(test.directives)
			client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
			defer client.CloseIdleConnections()

			res, err := client.Do(s.request("GET", "/down.sh", nil))
			if err != nil {
				t.Fatal(err)
			}
			h := sha256.New()
			n, err := io.Copy(h, res.Body)
			res.Body.Close()
			if got := hex.EncodeToString(h.Sum(nil)); err != nil || n != bulk || got != sum {
				t.Errorf("download: %d bytes, sum %s, error %v; want %d, %s", n, got, err, bulk, sum)
			}

			for _, length := range []int64{bulk, -1} { // -1 sends chunks
				f, err := os.Open(file)
				if err != nil {
					t.Fatal(err)
				}
				req := s.request("POST", "/up.sh", f)
				req.ContentLength = length
				res, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if want := fmt.Sprintf("%d %s  -\n", bulk, sum); err != nil || string(body) != want {
					t.Errorf("upload: %d %q %v, want %q", res.StatusCode, body, err, want)
				}
			}
			s.awaitIdle()
		})
	}
}

// Each line reaches the browser before the program may write the next.
func TestStreaming(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		for _, directives := range []string{"fastcgi_buffering off;", "fastcgi_buffering off;" + unbuffered + keepAlive} {
			t.Run(network+" "+directives, func(t *testing.T) {
				s := newSite(t, network, simple)
				g := newGate(t, s.dir)
				s.script("stream.sh", `#!/bin/sh
printf 'Content-Type: text/event-stream\n\n'
for i in 1 2 3 4 5 6 7 8 9 10; do
	echo "data: $i"
	read x <DIR/go
done
`)
				s.nginx(directives)
				for _, method := range []string{"GET", "POST"} {
					req := s.request(method, "/stream.sh", strings.NewReader("body"))
					res, err := http.DefaultClient.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					lines := make(chan string)
					go func() {
						defer close(lines)
						scanner := bufio.NewScanner(res.Body)
						for scanner.Scan() {
							lines <- scanner.Text()
						}
					}()
					for i := 1; i <= 10; i++ {
						if got, want := wait(t, "a line", lines), fmt.Sprintf("data: %d", i); got != want {
							t.Fatalf("got %q, want %q", got, want)
						}
						g.release(1)
					}
					if rest, more := <-lines; more {
						t.Errorf("more: %q", rest)
					}
					res.Body.Close()
				}
			})
		}
	}
}

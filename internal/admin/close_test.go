package admin

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// A socket that another daemon has too loses nobody when this one ends: who was accepted is
// answered, and who was not is the other's.
func TestCloseAnswersWhoWasAccepted(t *testing.T) {
	s, _ := newTestServer(t)
	for i := range 10 {
		path := filepath.Join(t.TempDir(), "s")
		s.change(t, "unix:"+path)
		spare := share(t, s)
		var asking sync.WaitGroup
		for range 8 {
			asking.Go(func() {
				for range 4 {
					if _, err := FetchStatus(t.Context(), "unix", path); err != nil {
						t.Errorf("round %d: %v", i, err)
					}
				}
			})
		}
		s.Close()
		next := &http.Server{Handler: s.handler(t.Context())}
		var serving sync.WaitGroup
		serving.Go(func() { next.Serve(spare) })
		asking.Wait()
		next.Close()
		serving.Wait()
		if t.Failed() {
			return
		}
	}
}

// share is the server's socket, as another process has it.
func share(t *testing.T, s *Server) net.Listener {
	t.Helper()
	s.Listener().Disown()
	_, fd, err := s.Listener().Hand()
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "shared")
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

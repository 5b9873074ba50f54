package logs

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Of each message ten records a minute are logged, whatever is in them.
func TestSampled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := Sampled(slog.New(slog.NewTextHandler(&out, nil)))
		for i := range 100 {
			log.Warn("refused", "client", i)
			log.With("pool", "p").Warn("refused", "client", i)
		}
		log.Warn("other")
		if n := strings.Count(out.String(), "refused"); n != 10 || !strings.Contains(out.String(), "other") {
			t.Errorf("%d of a message were logged, want 10, and another:\n%s", n, &out)
		}
		time.Sleep(time.Minute)
		out.Reset()
		log.Warn("refused", "client", "again")
		if !strings.Contains(out.String(), "again") {
			t.Error("a minute later nothing is logged")
		}
	})
}

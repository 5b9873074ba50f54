package pool

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/logtest"
)

// So much at once, and so much a second after that; of the rest it is told how much there
// was, also when the program has fallen silent.
func TestStderrLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logs := logtest.New()
		counted := 0
		l := &stderrLimit{log: log, count: func(n int) { counted += n }}
		if !l.Admit(1 << 30) {
			t.Error("there is no limit, and it was dropped")
		}
		l.set(1000)
		admitted := func(entries int) (n int) {
			for range entries {
				if l.Admit(100) {
					n++
				}
			}
			return n
		}
		if n := admitted(500); n != 160 {
			t.Errorf("%d entries at once", n)
		}
		time.Sleep(2 * time.Second)
		l.set(1000) // by a reload, which gives nothing
		if n := admitted(100); n != 20 {
			t.Errorf("%d entries after two seconds", n)
		}
		if logs.Len() != 0 || counted != (340+80)*100 {
			t.Errorf("counted %d, logged %v", counted, logs.All())
		}
		time.Sleep(stderrTell)
		synctest.Wait()
		all := logs.All()
		if len(all) != 1 || all[0].Fields["entries"] != int64(420) || all[0].Fields["bytes"] != int64(42000) {
			t.Errorf("logged %v", all)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := admitted(161); n != 160 {
			t.Errorf("%d entries after an hour", n)
		}
		l.tell() // at the end of the pool
		l.tell()
		if all := logs.All(); len(all) != 2 || all[1].Fields["entries"] != int64(1) {
			t.Errorf("logged %v", all)
		}
		l.set(0)
		if n := admitted(1000); n != 1000 {
			t.Errorf("%d entries without a limit", n)
		}
	})
}

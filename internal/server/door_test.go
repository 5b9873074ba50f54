package server

import (
	"sync"
	"testing"
	"time"
)

// One is in at a time, and nobody waits for ever, however many give up.
func TestDoor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var d door
		d.init()
		var all sync.WaitGroup
		in, gaveUp := 0, 0 // guarded by the door
		for i := range 20 {
			all.Go(func() {
				for n := range 200 {
					var over <-chan time.Time
					if (i+n)%3 == 0 {
						over = time.After(time.Duration(n) * time.Microsecond)
					}
					if !d.enterBefore(over, nil) {
						d.enter()
						gaveUp++
					}
					if in++; in != 1 {
						t.Error("two are in")
					}
					if n%5 == 0 {
						time.Sleep(time.Microsecond)
					}
					in--
					d.leave()
				}
			})
		}
		all.Wait()
		if gaveUp == 0 || gaveUp == 20*200 {
			t.Errorf("%d gave up", gaveUp)
		}
	})
}

// Who waits comes in when the door is free, and not before.
func TestDoorThatIsTaken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var d door
		d.init()
		d.enter()
		done := make(chan struct{})
		if d.tryEnter() || d.enterBefore(time.After(time.Second), done) {
			t.Fatal("two are in")
		}
		time.AfterFunc(time.Minute, d.leave)
		began := time.Now()
		if !d.enterBefore(time.After(time.Hour), done) {
			t.Fatal("the door stays shut")
		}
		took(t, began, time.Minute)
		close(done)
		if d.enterBefore(nil, done) {
			t.Fatal("two are in")
		}
		d.leave()
		if !d.enterBefore(nil, done) {
			t.Error("a free door is shut")
		}
	})
}

// Who is always back at once does not keep out who waits.
func TestDoorIsFair(t *testing.T) {
	var d door
	d.init()
	stop := make(chan struct{})
	var greedy sync.WaitGroup
	for range 2 {
		greedy.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				d.enter()
				for began := time.Now(); time.Since(began) < 100*time.Microsecond; {
				}
				d.leave()
			}
		})
	}
	for range 50 {
		if !d.enterBefore(time.After(10*time.Second), nil) {
			t.Fatal("who waits does not come in")
		}
		d.leave()
	}
	close(stop)
	greedy.Wait()
}

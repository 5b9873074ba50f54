package main

import (
	"syscall"
	"unsafe"
)

// timerIndex marks the timer's events among those of connections.
const timerIndex = -1

// newTimer makes a timerfd that the epoll reports with timerIndex. It does not run.
func newTimer(epoll int) (int, error) {
	const monotonic = 1
	fd, _, errno := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, monotonic, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errno != 0 {
		return -1, errno
	}
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: timerIndex}
	if err := syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, int(fd), &event); err != nil {
		syscall.Close(int(fd))
		return -1, err
	}
	return int(fd), nil
}

// setTimer lets the timer fire once, so many nanoseconds from now. Setting it
// also takes back what it has fired.
func setTimer(fd int, nanoseconds int64) error {
	spec := [2]syscall.Timespec{{}, syscall.NsecToTimespec(max(1, nanoseconds))} // struct itimerspec: interval, value
	_, _, errno := syscall.Syscall6(syscall.SYS_TIMERFD_SETTIME, uintptr(fd), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// arrivals sends the requests that are due, and sets the timer for the next.
// Their latency counts from when they were due, so that a server cannot hide
// behind the requests that it kept from being sent.
func (l *loop) arrivals() error {
	for l.next <= l.now && l.next < l.until {
		l.waiting = append(l.waiting, l.next)
		l.next += l.interval
	}
	l.dispatch()
	if l.next >= l.until {
		return setTimer(l.timer, l.until+int64(drainTime))
	}
	return setTimer(l.timer, l.next-l.now)
}

// dispatch gives waiting requests to free connections.
func (l *loop) dispatch() {
	for l.head < len(l.waiting) && len(l.free) > 0 {
		c := l.free[len(l.free)-1]
		l.free = l.free[:len(l.free)-1]
		c.streams[0].due = l.waiting[l.head]
		l.head++
		if err := c.renew(); err != nil {
			l.fail(c, err)
			return
		}
	}
}

// release makes a connection free and gives it the next request that waits.
func (l *loop) release(c *conn) {
	l.free = append(l.free, c)
	l.dispatch()
}

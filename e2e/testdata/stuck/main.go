// Stuck is a CGI program that begins its answer and then writes from memory that
// never comes: whoever shares a lock with it in the kernel waits until it is killed.
package main

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What linux/userfaultfd.h has and x/sys has not.
const (
	uffdAPI         = 0xaa
	uffdioAPI       = 0xc018aa3f
	uffdioRegister  = 0xc020aa00
	registerMissing = 1
)

type apiArgument struct{ api, features, ioctls uint64 }

type registerArgument struct{ start, length, mode, ioctls uint64 }

func main() {
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	check(errno)
	api := apiArgument{api: uffdAPI}
	_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, uffdioAPI, uintptr(unsafe.Pointer(&api)))
	check(errno)
	memory, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		panic(err)
	}
	start := unsafe.Pointer(unsafe.SliceData(memory))
	register := registerArgument{uint64(uintptr(start)), uint64(len(memory)), registerMissing, 0}
	_, _, errno = unix.Syscall(unix.SYS_IOCTL, fd, uffdioRegister, uintptr(unsafe.Pointer(&register)))
	check(errno)
	os.Stdout.WriteString("Content-Type: text/plain\r\n\r\n")
	unix.RawSyscall(unix.SYS_WRITE, 1, uintptr(start), uintptr(len(memory)))
}

func check(errno unix.Errno) {
	if errno != 0 {
		panic(errno)
	}
}

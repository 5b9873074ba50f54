package spawn

import "golang.org/x/sys/unix"

// forks are other names of clone.
var forks = []uint32{unix.SYS_FORK, unix.SYS_VFORK}

// ofThisArch are calls that other architectures do not have.
var ofThisArch = []uint32{
	unix.SYS_KEXEC_FILE_LOAD, unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_MODIFY_LDT, unix.SYS_USELIB, unix.SYS_SYSFS, unix.SYS_USTAT,
	unix.SYS__SYSCTL, unix.SYS_CREATE_MODULE, unix.SYS_GET_KERNEL_SYMS, unix.SYS_QUERY_MODULE, unix.SYS_NFSSERVCTL, unix.SYS_LOOKUP_DCOOKIE,
}

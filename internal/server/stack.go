package server

// A goroutine's stack grows when it is too small, to twice the size, and each
// growth looks at all the frames that there are by then: in a program with a
// request on every stack, a fifth of the time. These functions make it as large
// as it is going to be while there is one frame. They do nothing else: the room is made
// when a function begins, and not cleared before it is used.

// growStack is for a goroutine that runs a request.
//
//go:noinline
func growStack(use bool) byte {
	if !use {
		return 0
	}
	var frame [10 << 10]byte
	return touch(frame[:])
}

// growReadStack is for a read loop, of which there are many that wait: it takes
// what they have in any case, 4 KiB.
//
//go:noinline
func growReadStack(use bool) byte {
	if !use {
		return 0
	}
	var frame [1500]byte
	return touch(frame[:])
}

//go:noinline
func touch(frame []byte) byte { return frame[len(frame)/2] }

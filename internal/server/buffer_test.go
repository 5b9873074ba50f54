package server

import "testing"

// A buffer that has grown is given out for what it holds, or not at all.
func TestBuffersThatHaveGrown(t *testing.T) {
	for size := smallestBuffer / 2; size <= 4*largestBuffer; size += size/3 + 1 {
		for _, size := range []int{size, size &^ (size - 1), 1 << 16, largestBuffer - 1, largestBuffer} {
			(&buffer{b: make([]byte, 0, size)}).free()
		}
	}
	for n := largestBuffer; n > 0; n -= n/7 + 1 {
		for range 40 {
			if b := getBufferFor(n); cap(b.b) < n {
				t.Fatalf("a buffer for %d bytes has room for %d", n, cap(b.b))
			}
		}
	}
}

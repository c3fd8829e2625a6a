//go:build race

package socket

import "syscall"

// The race detector learns from package syscall that what one end writes comes before
// what the other does once it has read it.

func read(fd uintptr, p []byte) (int, syscall.Errno) { return syscallRead(fd, p) }

func write(fd uintptr, p []byte) (int, syscall.Errno) {
	n, err := syscall.Write(int(fd), p)
	return max(n, 0), errnoOf(err)
}

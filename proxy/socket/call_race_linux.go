//go:build race

package socket

import (
	"errors"
	"syscall"
)

// The race detector learns from package syscall that what one end writes comes before
// what the other does once it has read it.

func read(fd uintptr, p []byte) (int, syscall.Errno) {
	n, err := syscall.Read(int(fd), p)
	return n, errnoOf(err)
}

func write(fd uintptr, p []byte) (int, syscall.Errno) {
	n, err := syscall.Write(int(fd), p)
	return n, errnoOf(err)
}

func errnoOf(err error) (errno syscall.Errno) {
	errors.As(err, &errno) // an error of package syscall is nothing else
	return errno
}

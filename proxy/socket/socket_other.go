//go:build !linux || 386

package socket

import (
	"net"
	"syscall"
)

// Direct returns c as it is: only Linux promises what its system calls are.
func Direct(c *net.TCPConn) net.Conn { return c }

type conn struct{ net.Conn }

func (c *conn) tcp() *net.TCPConn { return c.Conn.(*net.TCPConn) }

// Pending reports whether a socket has something to be read, be it its end.
func Pending(fd uintptr) bool {
	var b [1]byte
	_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err == nil
}

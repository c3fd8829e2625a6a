package socket

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

// Direct returns a connection that is c, but for how it is read and written. All that
// net.Conn promises still holds. c is not to be used beside it.
func Direct(c *net.TCPConn) net.Conn {
	raw, err := c.SyscallConn()
	if err != nil {
		return c // closed, which whoever uses it is told
	}
	d := &conn{Conn: c}
	d.in = half{op: "read", call: read, wait: raw.Read}
	d.out = half{op: "write", call: write, wait: raw.Write}
	d.in.try, d.out.try = d.in.once, d.out.once
	return d
}

// conn is a connection that is read and written directly. *net.TCPConn is not embedded,
// so that its ReadFrom and WriteTo do not go round that.
type conn struct {
	net.Conn // a *net.TCPConn
	in, out  half
}

// half is one direction of a connection.
type half struct {
	op   string
	call func(fd uintptr, p []byte) (int, syscall.Errno)
	wait func(func(fd uintptr) bool) error // until the direction is ready, or its deadline has passed
	try  func(fd uintptr) bool             // once, made once

	mu    sync.Mutex // guards what follows, which is of the call under way
	p     []byte
	n     int
	errno syscall.Errno
}

func (c *conn) tcp() *net.TCPConn { return c.Conn.(*net.TCPConn) }

// CloseWrite ends the sending side.
func (c *conn) CloseWrite() error { return c.tcp().CloseWrite() }

// SyscallConn implements syscall.Conn.
func (c *conn) SyscallConn() (syscall.RawConn, error) { return c.tcp().SyscallConn() }

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.in.take(p)
	if err != nil {
		return 0, opError(c.Conn, c.in.op, err)
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (written int, err error) {
	for written < len(p) {
		n, err := c.out.take(p[written:])
		written += n
		if err != nil {
			return written, opError(c.Conn, c.out.op, err)
		}
	}
	return written, nil
}

// take has the kernel fill p, or take of it what it will.
func (h *half) take(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.p, h.n, h.errno = p, 0, 0
	err := h.wait(h.try)
	h.p = nil
	if err == nil && h.errno != 0 {
		err = os.NewSyscallError(h.op, h.errno)
	}
	return h.n, err
}

// once calls the kernel, and reports whether that was all there is to do: false has it
// called again when the direction is ready.
func (h *half) once(fd uintptr) bool {
	for {
		n, errno := h.call(fd, h.p)
		switch errno {
		case 0:
			h.n = n
			return true
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			h.errno = errno
			return true
		}
	}
}

// Pending reports whether a socket has something to be read, be it its end.
func Pending(fd uintptr) bool {
	var b [1]byte
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b)), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	return errno == 0
}

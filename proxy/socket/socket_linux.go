//go:build !386

package socket

import (
	"errors"
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
		return c // none, which whoever uses it is told
	}
	d := &conn{Conn: c}
	d.in = half{op: "read", wait: raw.Read}
	d.out = half{op: "write", wait: raw.Write}
	d.in.try, d.out.try = d.in.read, d.out.write
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
	wait func(func(fd uintptr) bool) error // calls again and again, whenever the direction is ready, up to the deadline
	try  func(fd uintptr) bool             // read or write, as a value that is made once

	mu    sync.Mutex // guards what follows, which is of the call under way
	p     []byte
	n     int
	errno syscall.Errno
	full  bool // the last read has filled what it was given
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
	n, err := c.in.do(p)
	if err != nil {
		return 0, opError(c.Conn, c.in.op, err)
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.out.do(p)
	if err != nil {
		err = opError(c.Conn, c.out.op, err)
	}
	return n, err
}

// do reads into p, or writes all of it.
func (h *half) do(p []byte) (int, error) {
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

// read reads once, and reports whether there was something to be read, be it the end.
func (h *half) read(fd uintptr) bool {
	// Who sends much gives much to do, and what takes long must not keep everybody else
	// from the only processor there may be: the monitor has to be awake for it.
	call := read
	if h.full {
		call = syscallRead
	}
	n, errno := call(fd, h.p)
	for errno == syscall.EINTR {
		n, errno = call(fd, h.p)
	}
	if errno == syscall.EAGAIN {
		return false
	}
	if h.errno = errno; errno == 0 {
		h.n, h.full = n, n == len(h.p)
	}
	return true
}

// write writes as much as is taken, and reports whether that was all, or no more will be.
func (h *half) write(fd uintptr) bool {
	for h.n < len(h.p) {
		n, errno := write(fd, h.p[h.n:])
		switch errno {
		case 0:
			h.n += n
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			h.errno = errno
			return true
		}
	}
	return true
}

// syscallRead reads by a call that the scheduler is told of.
func syscallRead(fd uintptr, p []byte) (int, syscall.Errno) {
	n, err := syscall.Read(int(fd), p)
	return max(n, 0), errnoOf(err)
}

// errnoOf returns what an error of package syscall is.
func errnoOf(err error) (errno syscall.Errno) {
	errors.As(err, &errno)
	return errno
}

// Pending reports whether a socket has something to be read, be it its end.
func Pending(fd uintptr) bool {
	var b [1]byte
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b)), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
	return errno == 0
}

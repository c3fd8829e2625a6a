package pace

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// Loop watches connections, for a thread that has nothing else to do.
type Loop struct {
	address syscall.SockaddrInet4
	epoll   int
	owners  map[int]any // of the connections, by descriptor
	events  [256]syscall.EpollEvent
	found   []any
}

func newLoop(address string) (*Loop, error) {
	at, err := ParseAddress(address)
	if err != nil {
		return nil, err
	}
	l := &Loop{address: at, owners: map[int]any{}}
	l.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	return l, os.NewSyscallError("epoll_create1", err)
}

// ParseAddress returns an address as the system takes it.
func ParseAddress(address string) (syscall.SockaddrInet4, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return syscall.SockaddrInet4{}, err
	}
	return syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}, nil
}

// Server is the address that requests go to.
func (l *Loop) Server() *syscall.SockaddrInet4 { return &l.address }

// Open connects, for an owner that is told when something comes.
func (l *Loop) Open(owner any, to *syscall.SockaddrInet4) (fd int, err error) {
	fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	l.owners[fd] = owner
	timeout := syscall.NsecToTimeval(patience.Nanoseconds())
	if err := errors.Join(
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &timeout),
		syscall.Connect(fd, to),
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1),
		syscall.SetNonblock(fd, true),
		syscall.EpollCtl(l.epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP, Fd: int32(fd)}),
	); err != nil {
		return 0, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

// Drop closes a connection, and leaves no trace in the kernel: many turns of many
// connections would use up the ports.
func (l *Loop) Drop(fd int) {
	delete(l.owners, fd)
	_ = syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1}) // no more than a favour
	syscall.Close(fd)                                                                                  // whatever it says, the descriptor is gone
}

// ready is the owners of those connections on which something has come by now. It
// does not wait, and its answer is good until it is asked again.
func (l *Loop) ready() ([]any, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)), 0, 0, 0)
	if errno == syscall.EINTR {
		n, errno = 0, 0
	}
	if errno != 0 {
		return nil, os.NewSyscallError("epoll_wait", errno)
	}
	l.found = l.found[:0]
	for _, event := range l.events[:n] {
		l.found = append(l.found, l.owners[int(event.Fd)])
	}
	return l.found, nil
}

// wait is ready, but returns when something has come, and takes no longer than patience.
// It does not sleep, since the server would have to wake it, but lets others have the
// processor that need it.
func (l *Loop) wait(patience time.Duration) ([]any, error) {
	for began := time.Now(); ; {
		found, err := l.ready()
		if len(found) > 0 || err != nil {
			return found, err
		}
		if time.Since(began) > patience {
			return nil, fmt.Errorf("nothing has come for %v", patience)
		}
		_, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0) // it does not fail
	}
}

// These calls do not tell the scheduler, since they never wait.

func read(fd int, p []byte) (int, error) { return call(syscall.SYS_READ, fd, p) }

func write(fd int, p []byte) (int, error) { return call(syscall.SYS_WRITE, fd, p) }

func call(number uintptr, fd int, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(number, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// close ends all connections.
func (l *Loop) close() error {
	for fd := range l.owners {
		l.Drop(fd)
	}
	return os.NewSyscallError("close", syscall.Close(l.epoll))
}

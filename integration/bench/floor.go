package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"edge/integration/bench/process"
)

// floorArgument, instead of all flags, has this program be a floor on the address that
// follows, with bodies of as many bytes as the number behind it.
const floorArgument = "floor"

// startFloor starts a floor: a server of one thread that does nothing, and does not
// sleep while it has clients. Whatever comes on a connection is a request, and has the
// same answer, which was made before. What it takes under a load is what the machine,
// the kernel and the load generator take, and hardly a server on them is faster.
func startFloor(ctx context.Context, size int) (*Server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	address, err := process.FreePort(ctx)
	if err != nil {
		return nil, err
	}
	command := process.Pinned(serverCore, self, floorArgument, address, fmt.Sprint(size))
	p, err := process.Start(ctx, process.Command{Path: command[0], Args: command[1:], Env: []string{"GOMAXPROCS=1", "GOGC=off"}})
	if err != nil {
		return nil, err
	}
	server := &Server{Process: p, Address: address}
	return server, answering(ctx, server)
}

// beFloor is the program as a floor. It returns when it cannot go on.
func beFloor(arguments []string) error {
	var address string
	var size int
	if _, err := fmt.Sscan(strings.Join(arguments, " "), &address, &size); err != nil {
		return fmt.Errorf("%s ADDRESS SIZE: %w", floorArgument, err)
	}
	listener, err := net.Listen("tcp4", address)
	if err != nil {
		return err
	}
	defer listener.Close()
	return floor(listener.(*net.TCPListener), size)
}

// floor serves until connections can no longer be accepted.
func floor(listener *net.TCPListener, size int) error {
	file, err := listener.File() // blocking or not as the listener is, which is not
	if err != nil {
		return err
	}
	defer file.Close()
	door := int(file.Fd())
	if err := syscall.SetNonblock(door, true); err != nil { // Fd has undone it
		return err
	}
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	defer syscall.Close(epoll)
	watch := func(fd int) error {
		return syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)})
	}
	if err := watch(door); err != nil {
		return err
	}
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nCache-Control: public, max-age=86400\r\nCache-Status: floor; hit; ttl=86400\r\nContent-Type: text/plain\r\n"+
		"Date: Mon, 02 Jan 2006 15:04:05 GMT\r\nEtag: \"%d\"\r\nAge: 1\r\nContent-Length: %d\r\n\r\n", size, size)
	answer = append(answer, zeros[:size]...)
	var events [256]syscall.EpollEvent
	var in [64 << 10]byte
	for clients := 0; ; {
		wait := 0 // who sleeps has to be woken, which takes longer than to answer
		if clients == 0 {
			wait = -1
		}
		n, err := syscall.EpollWait(epoll, events[:], wait)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return err
		}
		for _, event := range events[:max(n, 0)] {
			fd := int(event.Fd)
			if fd == door {
				if fd, _, err = syscall.Accept4(door, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC); err == nil {
					err = watch(fd)
					clients++
				}
				if err != nil && !errors.Is(err, syscall.EAGAIN) {
					return err
				}
				continue
			}
			n, _ := syscall.Read(fd, in[:]) // it was ready: nothing is its end
			if n > 0 {
				n, _ = syscall.Write(fd, answer) // to somebody who waits for it, so that there is room
			}
			if n <= 0 {
				syscall.Close(fd)
				clients--
			}
		}
	}
}

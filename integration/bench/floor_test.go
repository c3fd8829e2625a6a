package main

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

// TestFloor: a floor answers request by request on each connection, and ends with its
// listener.
func TestFloor(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- floor(listener.(*net.TCPListener), kib) }()
	o := Objects{size: kib, keys: 1}
	address := listener.Addr().String()
	for range 2 {
		conn, err := dial(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := conn.ask([]byte(o.before()+"0"+o.after(address)), 1, o.size); err != nil {
				t.Error(err)
			}
		}
		conn.close()
	}
	raw, err := listener.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) { err = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, syscall.EINVAL) {
		t.Errorf("the floor ended with %v", err)
	}
	listener.Close()
}

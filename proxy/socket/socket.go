// Package socket has TCP connections read and written without word to the scheduler.
//
// The runtime takes any system call for one that may last, and has its monitor thread
// woken by the first of them after the program has had nothing to do. That thread then
// looks around for a while, many thousand times a second, on the core that is to
// answer. For a call that never waits, as those on a socket of the runtime's, that is in
// vain: it took a fourth of what a node spends on a request that is alone.
//
// The monitor is also what has one goroutine give way to others after ten milliseconds.
// So the scheduler is told when a peer sends more than one read takes.
package socket

import (
	"errors"
	"net"
)

// Listener makes what a TCP listener accepts Direct.
type Listener struct{ *net.TCPListener }

// Accept implements net.Listener.
func (l Listener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return Direct(c), nil
}

// TCP returns the TCP connection that c is, or that Direct made c of, and nil for any
// other.
func TCP(c net.Conn) *net.TCPConn {
	switch c := c.(type) {
	case *net.TCPConn:
		return c
	case *conn:
		return c.tcp()
	}
	return nil
}

// opError tells of a call that has failed as package net does.
func opError(c net.Conn, op string, err error) error {
	if wrapped := (*net.OpError)(nil); errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

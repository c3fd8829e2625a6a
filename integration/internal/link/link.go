// Package link puts a wire between a node and what it talks to, so that a test can
// cut the one without harming the other.
package link

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Link carries TCP connections to a target.
type Link struct {
	Addr string // host:port to connect to

	target   string
	listener net.Listener
	running  sync.WaitGroup

	mu    sync.Mutex // guards what follows
	cut   bool
	conns map[net.Conn]struct{} // both ends of all that it carries
}

// Start opens a link until the test ends.
func Start(tb testing.TB, target string) *Link {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("link: %v", err)
	}
	l := &Link{Addr: listener.Addr().String(), target: target, listener: listener, conns: make(map[net.Conn]struct{})}
	l.running.Go(l.accept)
	tb.Cleanup(func() {
		listener.Close()
		l.Cut()
		l.running.Wait()
	})
	return l
}

// Cut ends every connection and lets no new one through.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for c := range l.conns {
		c.Close()
	}
}

// Mend lets connections through again.
func (l *Link) Mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
}

func (l *Link) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return // closed
		}
		l.running.Go(func() { l.carry(near) })
	}
}

// hold notes a connection, or closes it when the link is cut.
func (l *Link) hold(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		c.Close()
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *Link) release(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	c.Close()
}

func (l *Link) carry(near net.Conn) {
	if !l.hold(near) {
		return
	}
	defer l.release(near)
	far, err := net.Dial("tcp", l.target)
	if err != nil || !l.hold(far) {
		return
	}
	defer l.release(far)
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(near, far) // ends with either side, or with a cut
		near.Close()
	})
	_, _ = io.Copy(far, near)
	far.Close()
	back.Wait()
}

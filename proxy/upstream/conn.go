package upstream

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"edge/proxy/socket"
)

// conn is a connection to an origin from which net/http reads only what a framing
// has found sound. Heads are held back until they are whole; bodies pass as they
// come, in the reader's own memory.
type conn struct {
	net.Conn
	raw syscall.RawConn // below TLS there is none to look at

	mu      sync.Mutex // guards all below; not held while the network is waited for
	framing framing
	held    []byte // of a head or trailer section that is not whole yet; nil for none
	ready   []byte // sound, and to be read next
	err     error  // what reading ends with once ready is read; nil while it goes on
	fault   error  // why a response is none, or broke off in its head; nil otherwise
	unfit   bool   // no request may be sent any more
}

func newConn(inner net.Conn, limit int64) *conn {
	c := &conn{Conn: inner, framing: framing{limit: int(limit)}}
	if s, ok := inner.(syscall.Conn); ok {
		c.raw, _ = s.SyscallConn() // fails for what is no connection only, and then so will all else
	}
	return c
}

// begin says that a request is about to be written. On a connection that has said
// something since the last response, or has ended, nothing will be, and begin
// returns false.
func (c *conn) begin(method string, reused bool) bool {
	spoken := reused && c.pending()
	c.mu.Lock()
	defer c.mu.Unlock()
	if spoken || !c.framing.expect(method) {
		c.retireLocked()
	}
	return !c.unfit
}

// pending reports whether something is there to be read before anything was asked.
// The reading goroutine would find out in a moment; by then the bytes might pass for
// the answer to the request that we are about to send.
func (c *conn) pending() bool {
	if c.raw == nil {
		return false
	}
	found := false
	err := c.raw.Control(func(fd uintptr) { found = socket.Pending(fd) })
	return found || err != nil
}

// retireLocked ends the use of a connection between two responses: it looks as if
// the origin had closed it.
func (c *conn) retireLocked() {
	c.unfit = true
	if c.err == nil {
		c.err = io.EOF
	}
}

func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	unfit := c.unfit
	c.mu.Unlock()
	if unfit {
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

func (c *conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if len(c.ready) > 0 {
			n := copy(p, c.ready)
			c.ready = c.ready[n:]
			return n, nil
		}
		c.ready = nil // lets go of the memory
		if c.err != nil || len(p) == 0 {
			return 0, c.err
		}
		holding := c.held != nil
		into := p
		if holding {
			into = c.roomLocked()
		}
		c.mu.Unlock()
		n, err := c.Conn.Read(into)
		c.mu.Lock()

		switch {
		case c.framing.phase == tunnelled && !holding:
			return n, err
		case holding:
			c.ready = c.takeLocked(c.held[:len(c.held)+n])
			n = 0
		default:
			n = len(c.takeLocked(p[:n]))
		}
		if err != nil {
			c.endLocked(err)
		}
		if n > 0 {
			return n, nil
		}
	}
}

// takeLocked puts received bytes through the framing and returns those that may be
// read now. Those of a section that is not whole are held, in memory of their own.
func (c *conn) takeLocked(b []byte) []byte {
	before := c.held
	c.held = nil
	sound, err := c.framing.follow(b)
	rest := b[sound:]
	idle := c.framing.phase == between || c.framing.phase == spent
	switch {
	case err != nil && !idle:
		c.err, c.fault, c.unfit = err, err, true
		if sound == 0 && c.framing.phase == inHead {
			sound = 1 // see endLocked
		}
	case err != nil || c.framing.phase == spent:
		c.retireLocked() // the response itself was sound
	case len(rest) > 0 && sound == 0 && before != nil:
		c.held = b
	case len(rest) > 0:
		c.held = append(make([]byte, 0, max(2*len(rest), firstRoom)), rest...)
	}
	return b[:sound]
}

// endLocked notes that the network has no more, or no more sound bytes. Of a
// response that broke off in its head, net/http gets the first byte: it would send
// the request again if the connection had ended without any.
func (c *conn) endLocked(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	if c.held == nil {
		return
	}
	if c.fault = err; err == io.EOF {
		c.fault = io.ErrUnexpectedEOF
	}
	if c.framing.phase == inHead && len(c.ready) == 0 {
		c.ready = c.held[:1]
	}
	c.held = nil
}

const firstRoom = 4 << 10

// roomLocked returns memory to read more of the held section into.
func (c *conn) roomLocked() []byte {
	if len(c.held) == cap(c.held) {
		c.held = append(make([]byte, 0, 2*cap(c.held)), c.held...)
	}
	return c.held[len(c.held):cap(c.held)]
}

// broken returns why the response that was last read is none, or nil.
func (c *conn) broken() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fault
}

// CloseWrite ends our side of a tunnel.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

package node

import (
	"errors"
	"net"
	"os"
	"time"
)

// listener hands out connections whose writes are bounded by silence.
type listener struct {
	net.Listener
	silence time.Duration // zero is no bound
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, silence: l.silence}, nil
}

// conn ends a write once the client has taken nothing at all for the length of
// silence. A client that takes little by little lives on, however large the
// answer: time is counted from the last byte that went, not from the start.
//
// net.Conn is embedded, and not *net.TCPConn, so that its ReadFrom cannot go
// round Write.
type conn struct {
	net.Conn
	silence time.Duration
	until   time.Time // the write deadline that is set; only Write uses it, and one goroutine at a time writes
}

func (c *conn) Write(p []byte) (int, error) {
	if c.silence <= 0 {
		return c.Conn.Write(p)
	}
	written := 0
	for {
		if err := c.renew(time.Now()); err != nil {
			return written, err
		}
		n, err := c.Conn.Write(p[written:])
		written += n
		if err == nil || n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return written, err
		}
		// The deadline passed, but some bytes went: not silent.
	}
}

// renew puts the deadline off when less than the whole silence is left of it. It
// is set a quarter further than need be, so that most writes need not set it: that
// costs as much as the rest of a small answer.
func (c *conn) renew(now time.Time) error {
	if c.until.Sub(now) >= c.silence {
		return nil
	}
	c.until = now.Add(c.silence + c.silence/4)
	return c.SetWriteDeadline(c.until)
}

// CloseWrite lets net/http and tunnels end one direction, so that a last answer
// is not lost to a reset.
func (c *conn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

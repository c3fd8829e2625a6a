// Package wire is the front door on an HTTP/1 connection. It reads each request
// head as bytes, before net/http does, and lets the plain ones be answered on the
// spot, in one write, without waking the rest of the machine. Everything else goes
// on to net/http as it came, and the connection comes back for its next request.
//
// A Conn is the net.Conn that an http.Server serves. When net/http reads and no
// request is under way, the next head is due: that Read answers as many requests
// as it can by itself, and returns with the first that it cannot. So a connection
// has one owner, one goroutine and one buffer, whoever answers.
package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// Options say how connections are served. The zero value passes everything on,
// without any bound.
type Options struct {
	// Answer answers the request and returns true, or returns false and has
	// neither written anything nor left a trace. Neither the request nor any string
	// in it may be kept. Nil answers none.
	Answer func(http.ResponseWriter, *http.Request) bool

	// Context is that of the requests given to Answer; nil is the background.
	Context context.Context

	Head    time.Duration // for a head to arrive once its first byte has; zero is no bound
	Idle    time.Duration // between requests, as long as none goes on to net/http, which has its own; zero is no bound
	Silence time.Duration // for a write of which the client takes nothing; zero is no bound
}

// Listener hands out Conns. Whoever shuts down their server calls Drain after it.
type Listener struct {
	net.Listener
	options Options
	answers answerPool

	late      sync.WaitGroup     // one for each of lingering
	mu        sync.Mutex         // after the mu of a Conn
	lingering map[*Conn]struct{} // guarded by mu: closed but for an answer of ours that is under way
}

// NewListener wraps l.
func NewListener(l net.Listener, o Options) *Listener {
	if o.Context == nil {
		o.Context = context.Background()
	}
	return &Listener{Listener: l, options: o, answers: newAnswerPool(o.Context), lingering: make(map[*Conn]struct{})}
}

// Drain waits for the answers that are under way on connections that were closed,
// which a server that shuts down knows nothing of. It cuts off those that have not
// ended when ctx has, and then returns the context's error.
func (l *Listener) Drain(ctx context.Context) error {
	cut := false
	stop := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for c := range l.lingering {
			cut = true
			c.Conn.Close() // the answer ends with the error of its write
		}
	})
	l.late.Wait()
	if !stop() {
		l.mu.Lock() // until the cutting has ended
		defer l.mu.Unlock()
	}
	if cut {
		return ctx.Err()
	}
	return nil
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: c, listener: l}, nil
}

// Conn is one client's connection. Reads come from one goroutine at a time, as
// those of net/http do, and so do writes; Close may come from anywhere.
//
// net.Conn is embedded, and not *net.TCPConn, so that its ReadFrom cannot go
// round Write.
type Conn struct {
	net.Conn
	listener *Listener
	peer     string // RemoteAddr as text, once it was asked for

	state state
	rest  []byte // read from the client and not yet handed on

	mu         sync.Mutex    // guards what follows
	readUntil  time.Time     // the read deadline that is set
	writeUntil time.Time     // the write deadline that is set
	calledOff  chan struct{} // closed when a watch is to end; nil when none waits
	ending     ending        // see Close
}

// state is whose the bytes are that come next.
type state uint8

const (
	between state = iota // the next request's
	busy                 // the next request's, but the one before is still being answered
	raw                  // not ours to judge: of a body, a tunnel, or a head that is not plain
)

// Idle says that net/http has answered the request under way, and waits for the
// next: http.ConnState's StateIdle.
func (c *Conn) Idle() {
	if c.state == busy {
		c.state = between
	}
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	switch {
	case c.state == between && c.listener.options.Answer != nil && len(p) > 0:
		return c.serve(p)
	case c.state == busy && len(p) > 0:
		return 0, c.watch()
	default:
		return c.pass(p)
	}
}

// pass reads what is not looked at.
func (c *Conn) pass(p []byte) (int, error) {
	if len(c.rest) > 0 {
		n := copy(p, c.rest)
		c.took(n)
		return n, nil
	}
	return c.Conn.Read(p)
}

func (c *Conn) took(n int) {
	if c.rest = c.rest[n:]; len(c.rest) == 0 {
		c.rest = nil
	}
}

// watch reads for net/http while it answers a request without a body: it wants to
// know whether the client leaves. What the client sends instead is kept for
// later, unseen by net/http, so that the next head can be judged whole. From then
// on the client's leaving is no concern: it may have said all it will say. net/http
// calls a watch off by a deadline in the past.
func (c *Conn) watch() error {
	if len(c.rest) == 0 {
		first := make([]byte, 512)
		n, err := c.Conn.Read(first)
		if n == 0 {
			return err
		}
		c.rest = first[:n]
	}
	c.mu.Lock()
	until, calledOff := c.readUntil, make(chan struct{})
	c.calledOff = calledOff
	c.mu.Unlock()
	var late <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-calledOff:
	case <-late:
	}
	return os.ErrDeadlineExceeded
}

// callOff ends a watch that waits.
func (c *Conn) callOff() {
	if c.calledOff != nil {
		close(c.calledOff)
		c.calledOff = nil
	}
}

// serve reads heads into p and answers those that can be answered here. It returns
// with the first that cannot.
func (c *Conn) serve(p []byte) (int, error) {
	n := copy(p, c.rest)
	c.took(n)
	for wait := idle; ; {
		end := headEnd(p[:n])
		if end == 0 {
			if n == len(p) || strange(p[:n]) { // longer than we care to read, or not for us
				c.state = raw
				return n, nil
			}
			if n > 0 && wait != inHead {
				wait = headBegun
			}
			if err := c.await(wait); err != nil {
				return 0, err
			}
			if wait == headBegun {
				wait = inHead
			}
			m, err := c.Conn.Read(p[n:])
			if n += m; err != nil {
				return c.broken(n, err)
			}
			continue
		}
		switch answered, kind, err := c.judge(p[:end]); {
		case err != nil:
			return 0, io.EOF // to anything else net/http would add an answer of its own
		case answered:
			n = copy(p, p[end:n])
			m := copy(p[n:], c.rest)
			c.took(m)
			n, wait = n+m, afterAnswer
		case kind == bodiless:
			if end < n {
				c.rest = append(bytes.Clone(p[end:n]), c.rest...)
			}
			c.state = busy
			return end, nil
		default:
			c.state = raw
			return n, nil
		}
	}
}

// wait is what the next bytes are waited for.
type wait uint8

const (
	idle        wait = iota // a head, under the deadline that net/http has set
	afterAnswer             // the head after a request that was answered here
	headBegun               // the rest of a head, from now on
	inHead                  // the rest of a head, still
)

// await sets the deadline of a wait, or takes away the one before where the wait has
// no bound. A head that has begun gets its time once. Between requests the time is
// put off only when a quarter of it is gone, since that costs as much as a good part
// of an answer.
func (c *Conn) await(w wait) error {
	o := &c.listener.options
	switch w {
	case headBegun:
		return c.SetReadDeadline(after(o.Head))
	case afterAnswer:
		until := after(o.Idle)
		if o.Idle > 0 && until.Sub(c.readDeadline()) < o.Idle/4 {
			return nil
		}
		return c.SetReadDeadline(until)
	}
	return nil
}

// after returns the time when d has passed; there is none for no d.
func after(d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	return time.Now().Add(d)
}

// broken ends a connection, or an unfinished head of which net/http is to say what
// it thinks.
func (c *Conn) broken(n int, err error) (int, error) {
	c.state = raw
	if errors.Is(err, os.ErrDeadlineExceeded) {
		n = 0 // or net/http would give it its time all over again
	}
	return n, err
}

// judge reads a head, and answers the request if it can be answered here.
func (c *Conn) judge(head []byte) (answered bool, kind kind, err error) {
	a := c.listener.answers.get()
	defer c.listener.answers.put(a)
	target, kind := parse(string(head), a)
	if kind != bodiless || target == "" || !a.aim(target) {
		return false, kind, nil
	}
	if !c.answering() {
		return false, kind, net.ErrClosed
	}
	defer c.answered()
	a.request.RemoteAddr = c.remote()
	a.conn = c
	if !c.listener.options.Answer(a, &a.request) {
		return false, kind, nil
	}
	return true, kind, a.finish()
}

func (c *Conn) remote() string {
	if c.peer == "" {
		c.peer = c.RemoteAddr().String()
	}
	return c.peer
}

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	c.readUntil = t
	c.callOff()
	c.mu.Unlock()
	return c.Conn.SetReadDeadline(t)
}

func (c *Conn) readDeadline() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.readUntil
}

// SetWriteDeadline implements net.Conn. Where silence is bounded, it holds for as
// long as the next write leaves it: net/http takes its deadline off after each
// answer.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeUntil = t
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// Write implements net.Conn. It ends once the client has taken nothing at all for
// the length of Options.Silence. A client that takes little by little lives on,
// however large the answer: time is counted from the last byte that went, not from
// the start.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.writeAll(net.Buffers{p})
	return int(n), err
}

// writeAll writes the buffers, with one system call if the client takes them.
func (c *Conn) writeAll(buffers net.Buffers) (written int64, err error) {
	for {
		if err := c.renew(time.Now()); err != nil {
			return written, err
		}
		n, err := c.writeOnce(&buffers)
		written += n
		if err == nil || n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return written, err
		}
		// The deadline passed, but some bytes went: not silent.
	}
}

func (c *Conn) writeOnce(buffers *net.Buffers) (int64, error) {
	if len(*buffers) > 1 {
		return buffers.WriteTo(c.Conn)
	}
	n, err := c.Conn.Write((*buffers)[0])
	(*buffers)[0] = (*buffers)[0][n:]
	return int64(n), err
}

// renew puts the write deadline off when less than the whole silence is left of
// it. It is set a quarter further than need be, so that most writes need not set
// it.
func (c *Conn) renew(now time.Time) error {
	silence := c.listener.options.Silence
	if silence <= 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writeUntil.Sub(now) >= silence {
		return nil
	}
	c.writeUntil = now.Add(silence + silence/4)
	return c.Conn.SetWriteDeadline(c.writeUntil)
}

// ending is how far a connection is from its end.
type ending uint8

const (
	open      ending = iota
	answering        // an answer of ours is under way
	closing          // as answering, and to be closed after it
	closed
)

// Close implements net.Conn. To net/http a connection on which we answer is idle,
// and a server that shuts down closes those: the answer under way may still be
// finished, as long as Listener.Drain allows. To close once more cuts it off.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.callOff()
	if c.ending == answering {
		c.ending = closing
		c.listener.linger(c)
		c.mu.Unlock()
		return nil
	}
	if c.ending == open {
		c.ending = closed
	}
	c.mu.Unlock()
	return c.Conn.Close()
}

// answering begins an answer of ours, unless the connection is closed.
func (c *Conn) answering() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending != open {
		return false
	}
	c.ending = answering
	return true
}

// answered ends an answer of ours.
func (c *Conn) answered() {
	c.mu.Lock()
	last := c.ending == closing
	c.ending = open
	if last {
		c.ending = closed
	}
	c.mu.Unlock()
	if last {
		c.Conn.Close() // by now nobody is left to tell
		c.listener.left(c)
	}
}

func (l *Listener) linger(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lingering[c] = struct{}{}
	l.late.Add(1)
}

func (l *Listener) left(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.lingering, c)
	l.late.Done()
}

// CloseWrite lets net/http and tunnels end one direction, so that a last answer
// is not lost to a reset. A connection that wraps another may name it by Raw, as
// those with a PROXY header do.
func (c *Conn) CloseWrite() error {
	inner := c.Conn
	for {
		if half, ok := inner.(interface{ CloseWrite() error }); ok {
			return half.CloseWrite()
		}
		wrapper, ok := inner.(interface{ Raw() net.Conn })
		if !ok {
			return errors.ErrUnsupported
		}
		inner = wrapper.Raw()
	}
}

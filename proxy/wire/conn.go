// Package wire is the front door of HTTP/1 connections. It reads every request head
// as bytes, before net/http does, and follows the bodies between them: what could be
// read in two ways is refused, and the plain requests are answered on the spot, in
// one write, without waking the rest of the machine. Everything else goes on to
// net/http as it came, and the connection comes back for its next request.
//
// Between requests a TCP connection is served by a loop (see poll_linux.go): it is
// then a descriptor and a few words of memory. When a request is for net/http, the
// connection becomes a Conn, which Listener.Accept hands out; a while after net/http
// has answered and nothing came, it goes back to its loop. Other connections are
// Conns from the start.
//
// A Conn is the net.Conn that an http.Server serves. When net/http reads and no
// request is under way, the next head is due: that Read answers as many requests
// as it can by itself, and returns with the first that it cannot.
package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"edge/proxy/socket"
)

// Conn is one client's connection. Reads come from one goroutine at a time, as
// those of net/http do, and so do writes; Close may come from anywhere.
//
// net.Conn is embedded, and not *net.TCPConn, so that its ReadFrom cannot go
// round Write.
type Conn struct {
	net.Conn
	listener *Listener
	client   netip.Addr     // as the listener counts it
	home     *loop          // where it goes back to when it is idle; nil: nowhere
	address  netip.AddrPort // of the peer of one that has a home
	peer     string         // RemoteAddr as text, once it was asked for

	state   state
	in      []byte  // read from the client and not yet handed on
	passing int     // bytes of in that are the rest of a head
	framing framing // of the body under way
	quick   int     // requests answered here in a row

	mu         sync.Mutex    // guards what follows
	readUntil  time.Time     // the read deadline that is set
	writeUntil time.Time     // the write deadline that is set
	calledOff  chan struct{} // closed when a watch is to look at the deadline again; nil when none waits
	ending     ending        // see Close
	goingHome  bool          // Close takes it back to its loop
}

// state is whose the bytes are that come next.
type state uint8

const (
	between state = iota // the next request's
	inHead               // of a head that net/http is to have
	inBody               // of a body, likewise
	busy                 // the next request's, but the one before is still being answered
	tunnel               // nobody's to judge: the connection has left HTTP
	ended                // of nobody: a request was refused
)

// Idle says that net/http has answered the request under way, and waits for the
// next: http.ConnState's StateIdle.
func (c *Conn) Idle() {
	if c.state == busy {
		c.state = between
	}
}

// Hijacked says that whoever answered has taken the connection over:
// http.ConnState's StateHijacked.
func (c *Conn) Hijacked() { c.state = tunnel }

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if c.state == between {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	switch c.state {
	case inHead:
		n := copy(p, c.in[:c.passing])
		c.took(n)
		if c.passing -= n; c.passing > 0 {
			return n, nil
		}
		if c.state = busy; c.framing.body != noBody {
			c.state = inBody
		}
		return n, nil
	case inBody:
		return c.readBody(p)
	case busy:
		return 0, c.watch()
	case tunnel:
		if len(c.in) > 0 {
			n := copy(p, c.in)
			c.took(n)
			return n, nil
		}
		return c.Conn.Read(p)
	default:
		return 0, io.EOF
	}
}

func (c *Conn) took(n int) { c.in = c.in[n:] }

// readBody passes on bytes of a body, and nothing that comes after it.
func (c *Conn) readBody(p []byte) (n int, err error) {
	fresh := len(c.in) == 0
	if fresh {
		if c.framing.body == lengthy {
			p = p[:min(int64(len(p)), c.framing.left)]
		}
		if n, err = c.Conn.Read(p); n == 0 {
			return 0, err
		}
	} else {
		n = copy(p, c.in)
	}
	of, whole, no := c.framing.take(p[:n])
	if no != nil {
		c.state = ended
		c.listener.refused(c.remote(), no)
		return 0, errMalformed
	}
	switch {
	case !fresh:
		c.took(of)
	case of < n:
		c.in = bytes.Clone(p[of:n])
	}
	if whole {
		c.state, err = busy, nil
	}
	return of, err
}

// watch reads for net/http while it answers a request that is whole: it wants to
// know whether the client leaves. What the client sends instead is kept for
// later, unseen by net/http, so that the next head can be judged whole. From then
// on the client's leaving is no concern: it may have said all it will say. net/http
// calls a watch off by a deadline in the past.
func (c *Conn) watch() error {
	if len(c.in) == 0 {
		first := make([]byte, 512)
		n, err := c.Conn.Read(first)
		if n == 0 {
			return err
		}
		c.in = first[:n]
	}
	for c.patient() {
	}
	return os.ErrDeadlineExceeded
}

// patient waits until the read deadline passes, or something happens to it. It returns
// false when the deadline has passed, or the connection is closed. That it was only
// moved, as it is when a body has ended, is no reason to call a watch off.
func (c *Conn) patient() bool {
	c.mu.Lock()
	until, moved := c.readUntil, make(chan struct{})
	if c.ending != open || !until.IsZero() && !time.Now().Before(until) {
		c.mu.Unlock()
		return false
	}
	c.calledOff = moved
	c.mu.Unlock()
	var late <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-moved:
	case <-late:
	}
	return true
}

// callOffLocked wakes a watch that waits.
func (c *Conn) callOffLocked() {
	if c.calledOff != nil {
		close(c.calledOff)
		c.calledOff = nil
	}
}

// next reads heads, and answers those that can be answered here. It returns with the
// first that cannot, which then is to be passed on, or with what ends the
// connection: to net/http always its plain end, since to anything else it would add
// an answer of its own.
func (c *Conn) next() error {
	a := c.listener.answers.get()
	defer c.listener.answers.put(a)
	a.peer = c
	for wait := idle; ; {
		n, no := a.Request.read(c.in, &c.listener.options.Limits)
		switch {
		case no != nil:
			c.refuse(no)
			return io.EOF
		case n == 0:
			if len(c.in) > 0 && wait != headUnderWay {
				wait = headBegun
			}
			if err := c.more(wait); err != nil {
				return err
			}
			if wait == headBegun {
				wait = headUnderWay
			}
			continue
		}
		if answered, err := c.answer(a); err != nil {
			return io.EOF
		} else if answered {
			c.took(n)
			c.quick++
			wait = afterAnswer
			continue
		}
		c.took(a.empty)
		n -= a.empty
		c.framing = follow(&a.Request)
		if no := c.framing.foresee(c.in[n:]); no != nil {
			c.refuse(no)
			return io.EOF
		}
		if err := c.hold(n + a.heldBack(c.listener.options.Hold)); err != nil {
			return err
		}
		c.state, c.passing, c.quick = inHead, n, 0
		return nil
	}
}

// hold waits until so many bytes have come of a request, unless its listener is
// hushed. It may end the connection, as next does.
func (c *Conn) hold(need int) error {
	if len(c.in) >= need {
		return nil
	}
	// Before the listener knows of it, which may call the wait off, and after that.
	if c.SetReadDeadline(after(c.listener.options.Body)) != nil {
		return io.EOF
	}
	if c.listener.holds(c) {
		err := c.fillTo(need)
		hushed := c.listener.lets(c)
		switch late := errors.Is(err, os.ErrDeadlineExceeded); {
		case late && !hushed:
			c.refuse(lateBody)
			return io.EOF
		case err != nil && !late:
			return io.EOF
		}
	}
	return c.SetReadDeadline(time.Time{}) // net/http sets its own for what comes now
}

// fillTo reads until so many bytes are there.
func (c *Conn) fillTo(need int) error {
	for len(c.in) < need {
		if err := c.fill(); err != nil {
			return err
		}
	}
	return nil
}

// wait is what the next bytes are waited for.
type wait uint8

const (
	idle         wait = iota // a head, under the deadline that net/http has set
	afterAnswer              // the head after a request that was answered here
	headBegun                // the rest of a head, from now on
	headUnderWay             // the rest of a head, still
)

const (
	// homing is how long a connection waits with net/http for its next request
	// before it goes back to its loop, which takes a few system calls.
	homing = time.Second

	// crowd is how many connections may be away from their loops before none waits
	// there: with net/http each takes some 20 KiB.
	crowd = 1024

	// settled is the number of requests answered here in a row after which the next
	// are expected to be like them, and the connection goes back to its loop.
	settled = 8
)

// more reads what comes next, up to a deadline.
func (c *Conn) more(w wait) error {
	if c.home != nil && w <= afterAnswer && (c.quick >= settled || c.listener.away.Load() > crowd) {
		return c.goHome()
	}
	if err := c.await(w); err != nil {
		return io.EOF
	}
	err := c.fill()
	if err == nil {
		return nil
	}
	late := errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case late && w >= headBegun:
		c.listener.refused(c.remote(), lateHead)
	case late && c.home != nil && !c.isClosed():
		return c.goHome()
	}
	if late || len(c.in) > 0 {
		err = io.EOF // whatever it had begun to say, it cannot be answered
	}
	return err
}

// fill reads once. Without an error something has come.
func (c *Conn) fill() error {
	if cap(c.in)-len(c.in) < 512 {
		c.in = append(make([]byte, 0, max(2048, 2*len(c.in))), c.in...)
	}
	n, err := c.Conn.Read(c.in[len(c.in):cap(c.in)])
	if n > 0 {
		c.in = c.in[:len(c.in)+n]
		return nil
	}
	return err
}

// await sets the deadline of a wait. A head that has begun gets its time once.
// Between requests the time is put off only when a quarter of it is gone, since that
// costs as much as a good part of an answer.
func (c *Conn) await(w wait) error {
	o := &c.listener.options
	switch {
	case w == headBegun:
		return c.SetReadDeadline(after(o.Head))
	case w == headUnderWay:
		return nil
	case c.home != nil:
		return c.SetReadDeadline(after(homing))
	case w == afterAnswer:
		until := after(o.Idle)
		if gone := until.Sub(c.readDeadline()); o.Idle > 0 && 0 <= gone && gone < o.Idle/4 {
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

// goHome ends net/http's part in a connection that waits for a request. To net/http
// that looks like its end, and what it does then is to Close.
func (c *Conn) goHome() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goingHome = c.ending == open
	return io.EOF
}

// answer answers the request if that can be done here.
func (c *Conn) answer(a *Answer) (answered bool, err error) {
	o := &c.listener.options
	if o.Answer == nil || !a.plain() {
		return false, nil
	}
	if !c.answering() {
		return false, net.ErrClosed
	}
	defer c.answered()
	a.Started = time.Now()
	if !o.Answer(a) {
		return false, nil
	}
	a.measure()
	if a.size <= copied {
		// As net/http does it, whose handlers have ended when a small answer goes: who
		// has the answer finds it counted.
		a.sent = a.size
		c.listener.answered(a)
		_, err = c.writeAll(append(net.Buffers{a.Head}, a.Body...))
	} else {
		a.sent, err = c.writeAll(append(net.Buffers{a.Head}, a.Body...))
		c.listener.answered(a)
	}
	a.reset()
	return true, err
}

// refuse says why a request is not taken, and ends the connection.
func (c *Conn) refuse(no *Refusal) {
	c.state = ended
	c.listener.refused(c.remote(), no)
	if no.Status == 0 {
		return
	}
	if _, err := c.Write(no.problem(time.Now(), c.in)); err == nil {
		c.linger()
	}
}

// linger ends the sending side, and reads the other a while longer: what has come
// and was not read would have the client's answer thrown away with the connection
// (RFC 9112 section 9.6).
func (c *Conn) linger() {
	if c.CloseWrite() == nil && c.SetReadDeadline(time.Now().Add(lingering)) == nil {
		_, _ = io.CopyN(io.Discard, c.Conn, lingeringBytes) // how it ends makes no difference
	}
}

// How long, and for how many bytes, a connection is read after its last answer.
const (
	lingering      = 500 * time.Millisecond
	lingeringBytes = 256 << 10
)

// RemoteAddr implements net.Conn. A connection of a loop knows its peer from the
// start: the system forgets it when the peer resets the connection.
func (c *Conn) RemoteAddr() net.Addr {
	if c.home != nil {
		return net.TCPAddrFromAddrPort(c.address)
	}
	return c.Conn.RemoteAddr()
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
	c.callOffLocked()
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
	silence := c.listener.options.Silence
	now := time.Now()
	last := now // when the client is known to have taken something
	for ; ; now = time.Now() {
		if err := c.renew(now); err != nil {
			return written, err
		}
		n, err := c.writeOnce(&buffers)
		written += n
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return written, err
		}
		switch {
		case len(buffers) == 0: // only empty ones were left
			return written, nil
		case n > 0:
			last = time.Now()
		case time.Since(last) >= silence:
			return written, err
		}
	}
}

func (c *Conn) writeOnce(buffers *net.Buffers) (int64, error) {
	if len(*buffers) > 1 {
		if tcp := socket.TCP(c.Conn); tcp != nil { // which does it with one system call
			return buffers.WriteTo(tcp)
		}
		return buffers.WriteTo(c.Conn)
	}
	n, err := c.Conn.Write((*buffers)[0])
	(*buffers)[0] = (*buffers)[0][n:]
	return int64(n), err
}

// renew has the next write end within a quarter of the silence, however little the
// client takes: only then is it seen that it takes anything. The deadline is not put off
// by each write, since that costs as much as a good part of an answer.
func (c *Conn) renew(now time.Time) error {
	silence := c.listener.options.Silence
	if silence <= 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writeUntil.Sub(now) >= silence/8 {
		return nil
	}
	c.writeUntil = now.Add(silence / 4)
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
	c.callOffLocked()
	if c.ending == answering {
		c.ending = closing
		c.listener.linger(c)
		c.mu.Unlock()
		return nil
	}
	first, home := c.ending == open, c.goingHome
	if first {
		c.ending = closed
	}
	c.mu.Unlock()
	if first && home {
		return c.home.takeBack(c)
	}
	return c.close(first)
}

// close closes the connection itself. Only the first time is it counted out.
func (c *Conn) close(first bool) error {
	if first {
		c.listener.clients.leave(c.client)
		if c.home != nil {
			c.listener.away.Add(-1)
		}
	}
	return c.Conn.Close()
}

func (c *Conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending != open
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
		c.linger()
		_ = c.close(true) // by now nobody is left to tell
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

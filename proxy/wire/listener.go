package wire

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Options say how connections are served. The zero value answers nothing by itself,
// and bounds nothing but the head.
type Options struct {
	// Answer answers the request and returns true, or returns false and has left no
	// trace. It must not wait for anything. Nil answers none.
	Answer func(*Answer) bool

	// Prefetch is told of requests that Answer is asked about next, each once and in this
	// order, so that it can find for many at once what they take from memory. It may leave
	// in State what Answer then finds there. Not every request is told of. Nil is not told.
	Prefetch func([]*Answer)

	// Answered is told of every answer: of a small one as it goes, of another when it
	// has gone, or as much of it as the client took. Written is the bytes of its body.
	// Nil is not told.
	Answered func(a *Answer, written int64)

	// Refused is told of every request, or connection, that is refused. Nil is not
	// told.
	Refused func(remote string, no *Refusal)

	Limits Limits // of each head; a zero Head is 1 MiB

	Head    time.Duration // for a head to arrive once its first byte has; zero is no bound
	Body    time.Duration // for the bytes of a body that are held to arrive, once its head has; zero is no bound
	Idle    time.Duration // between requests, as long as none goes on to net/http, which has its own; zero is no bound
	Silence time.Duration // for a write of which the client takes nothing; zero is no bound

	// Hold is how many bytes of a body must have come before its request goes on to
	// net/http, or all of it, if it is shorter. Until then nobody further on hears of
	// it, and a client that sends them one by one costs little. Bodies of unknown
	// length are not held, since they may be streams, nor those whose client expects to
	// be told to go on. Zero holds none.
	Hold int

	PerClient int                   // connections of one client's address, IPv6 addresses by /64; zero is no bound
	Exempt    func(netip.Addr) bool // peers that speak for many clients; nil is none
}

// Listener takes connections and hands out those with a request that is for
// net/http. Whoever serves them calls Hush when no more are wanted, and after its
// server has shut down, Drain.
type Listener struct {
	net.Listener
	options Options
	answers answerPool
	loops   loops // serve connections between requests; none where that is not possible
	clients clients
	away    atomic.Int64 // connections of loops that are with net/http

	mu       sync.Mutex
	offered  []*Conn            // guarded by mu: with a request for net/http, and not accepted yet
	offers   chan struct{}      // holds a token when there are some
	closed   chan struct{}      // closed by Close
	isClosed bool               // guarded by mu
	hushed   bool               // guarded by mu
	holding  map[*Conn]struct{} // guarded by mu: with net/http, which has not heard yet of the request under way

	late      sync.WaitGroup     // one for each of lingering
	lingering map[*Conn]struct{} // guarded by mu, which comes after the mu of a Conn: closed but for an answer of ours that is under way
}

const defaultHead = 1 << 20

// NewListener wraps l. Connections of a TCP listener are served between requests by
// loops of its own, as many as the program may use processors; Drain waits for them.
func NewListener(l net.Listener, o Options) (*Listener, error) {
	if o.Limits.Head == 0 {
		o.Limits.Head = defaultHead
	}
	wl := &Listener{Listener: l, options: o, offers: make(chan struct{}, 1), closed: make(chan struct{}),
		clients: clients{most: o.PerClient}, lingering: make(map[*Conn]struct{}), holding: make(map[*Conn]struct{})}
	if err := wl.loops.open(wl); err != nil {
		return nil, err
	}
	return wl, nil
}

// Accept implements net.Listener: it waits for a connection that net/http is to
// serve.
func (l *Listener) Accept() (net.Conn, error) {
	if !l.loops.running() {
		return l.acceptInner()
	}
	for {
		l.mu.Lock()
		if l.isClosed {
			l.mu.Unlock()
			return nil, net.ErrClosed
		}
		if len(l.offered) > 0 {
			c := l.offered[0]
			l.offered = l.offered[1:]
			if len(l.offered) > 0 {
				l.offerToken()
			}
			l.mu.Unlock()
			return c, nil
		}
		l.mu.Unlock()
		select {
		case <-l.offers:
		case <-l.closed:
		}
	}
}

func (l *Listener) acceptInner() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		var peer netip.Addr
		if _, wrapper := c.(interface{ Raw() net.Conn }); !wrapper {
			// One with a PROXY header is from a balancer, which speaks for many, and would
			// have the next wait until that header has come.
			peer = addrOf(c.RemoteAddr())
		}
		client, ok := l.admit(peer)
		if !ok {
			c.Close()
			continue
		}
		return &Conn{Conn: c, listener: l, client: client}, nil
	}
}

// addrOf returns the address of a TCP peer, or the zero Addr.
func addrOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// offer hands a connection to Accept. It returns false when nobody accepts any
// more.
func (l *Listener) offer(c *Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed {
		return false
	}
	l.offered = append(l.offered, c)
	l.offerToken()
	return true
}

func (l *Listener) offerToken() {
	select {
	case l.offers <- struct{}{}:
	default: // whoever takes the token there is sees this one too
	}
}

// Hush stops taking new connections. Those that are open are served as before, but
// bodies are not held any more: a server that is going to end waits for requests that
// it has heard of, and for no others. What was held is with Accept when Hush returns.
// Whoever shuts net/http down gives it a moment first: a request that it has not read
// by then is lost.
func (l *Listener) Hush() {
	l.loops.hush()
	l.mu.Lock()
	l.hushed = true
	for c := range l.holding {
		_ = c.Conn.SetReadDeadline(time.Unix(1, 0)) // it fails where the connection is gone
	}
	l.mu.Unlock()
	l.Listener.Close() // a second time it has no effect but an error
}

// holds notes a connection that holds a body, unless that is over.
func (l *Listener) holds(c *Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.hushed {
		l.holding[c] = struct{}{}
	}
	return !l.hushed
}

// lets is the end of holds. It reports whether the listener was hushed meanwhile.
func (l *Listener) lets(c *Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.holding, c)
	return l.hushed
}

// Close implements net.Listener: it ends Accept, and closes all connections that
// wait for a request. Answers under way go on; see Drain.
func (l *Listener) Close() error {
	l.mu.Lock()
	first := !l.isClosed
	l.isClosed = true
	offered := l.offered
	l.offered = nil
	l.mu.Unlock()
	if !first {
		return net.ErrClosed
	}
	close(l.closed)
	for _, c := range offered {
		c.Close()
	}
	err := l.Listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil // hushed before
	}
	l.loops.close()
	return err
}

// Drain waits for the answers that are under way and not net/http's. It cuts off
// those that have not ended when ctx has, and then returns the context's error. It
// is for after Close.
func (l *Listener) Drain(ctx context.Context) error {
	cut := l.loops.drain(ctx)
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

// Connections returns how many connections are open, whoever serves them.
func (l *Listener) Connections() int { return l.clients.open() }

// admit counts a new connection in, unless its client has too many. It returns what
// is to be given to clients.leave when the connection ends.
func (l *Listener) admit(peer netip.Addr) (client netip.Addr, ok bool) {
	if peer.IsValid() && (l.options.Exempt == nil || !l.options.Exempt(peer)) {
		client = groupOf(peer)
	}
	if l.clients.enter(client) {
		return client, true
	}
	l.refused(peer.String(), tooMany)
	return client, false
}

func (l *Listener) answered(a *Answer) {
	if l.options.Answered != nil {
		l.options.Answered(a, a.written())
	}
}

func (l *Listener) refused(remote string, no *Refusal) {
	if l.options.Refused != nil {
		l.options.Refused(remote, no)
	}
}

// clients counts open connections, and bounds those of each client.
type clients struct {
	most int // of one client; zero is no bound

	mu    sync.Mutex
	total int
	each  map[netip.Addr]int // what is counted; clients without connections are not in it
}

// enter counts a connection in, and returns false when it would be one too many. The
// zero address is nobody's, and not bounded.
func (c *clients) enter(client netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most > 0 && client.IsValid() {
		if c.each[client] >= c.most {
			return false
		}
		if c.each == nil {
			c.each = make(map[netip.Addr]int)
		}
		c.each[client]++
	}
	c.total++
	return true
}

func (c *clients) leave(client netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	switch n := c.each[client]; {
	case n > 1:
		c.each[client] = n - 1
	case n == 1:
		delete(c.each, client)
	}
}

func (c *clients) open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

// groupOf returns the address that stands for a client: of an IPv6 one the network
// that is given to one customer.
func groupOf(peer netip.Addr) netip.Addr {
	if peer.Is6() {
		if network, err := peer.Prefix(64); err == nil {
			return network.Addr()
		}
	}
	return peer
}

package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"

	"edge/config"
	"edge/proxy"
	"edge/proxy/socket"
	"edge/proxy/wire"
)

// bind opens every listener of the configuration, so that a port in use is known
// before anything else is started.
func (n *Node) bind() error {
	for _, address := range n.config.Listen {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("public listener: %w", err)
		}
		if l, err = announced(l, &n.config.Server); err != nil {
			return fmt.Errorf("public listener: %w", err)
		}
		door, err := wire.NewListener(l, n.doorOptions())
		if err != nil {
			l.Close()
			return fmt.Errorf("public listener: %w", err)
		}
		n.doors = append(n.doors, door)
	}
	if n.config.Admin.Listen == "off" {
		return nil
	}
	l, err := net.Listen("tcp", n.config.Admin.Listen)
	if err != nil {
		return fmt.Errorf("admin listener: %w", err)
	}
	n.adminAt = l
	return nil
}

// announced has balancers say, by the PROXY protocol, whom their connections are
// from. They must, and from all others such a header is just a malformed request.
func announced(l net.Listener, server *config.Server) (net.Listener, error) {
	if len(server.ProxyProtocol) == 0 {
		return l, nil
	}
	policy, err := proxyproto.PolicyFromRanges(server.ProxyProtocol, proxyproto.REQUIRE, proxyproto.SKIP)
	if err != nil {
		l.Close()
		return nil, err
	}
	return &proxyproto.Listener{Listener: socket.Listener{TCPListener: l.(*net.TCPListener)}, ConnPolicy: policy, ReadHeaderTimeout: server.HeaderTimeout}, nil
}

// closeListeners closes what bind has opened, when nothing serves it yet.
func (n *Node) closeListeners() {
	for _, door := range n.doors {
		door.Close()
		_ = door.Drain(context.Background()) // nothing was answered yet
	}
	if n.adminAt != nil {
		n.adminAt.Close()
	}
}

// doorOptions say how connections are served before and between requests for
// net/http.
func (n *Node) doorOptions() wire.Options {
	limits := &n.config.Server
	o := wire.Options{
		Refused: func(remote string, no *wire.Refusal) { n.refused(remote, no.Status, no.Reason) },
		Limits: wire.Limits{
			Head:   int(limits.MaxHeaderBytes),
			Target: int(limits.MaxTargetBytes),
			Field:  int(limits.MaxFieldBytes),
			Fields: limits.MaxFields,
		},
		Head:      limits.HeaderTimeout,
		Idle:      limits.IdleTimeout,
		Body:      limits.BodyTimeout,
		Hold:      int(min(bodyQuota(limits.BodyTimeout, limits.MinBodyRate), mostHeld)),
		Silence:   limits.WriteTimeout,
		PerClient: limits.ConnectionsPerClient,
		Exempt:    func(peer netip.Addr) bool { return contains(n.trusted, peer) },
	}
	if limits.Quick {
		o.Prefetch, o.Answer, o.Answered = n.prefetch, n.quick, n.door.Answered
	}
	return o
}

// mostHeld bounds what a body that is held may take of memory. It is what a large body
// brings with its first packets.
const mostHeld = 16 << 10

// serve starts the accept loops.
func (n *Node) serve() {
	quiet := slog.NewLogLogger(n.log.Handler(), slog.LevelWarn)
	http1 := new(http.Protocols)
	http1.SetHTTP1(true)

	limits := &n.config.Server
	n.server = &http.Server{
		Handler:           n.public(),
		ReadHeaderTimeout: limits.HeaderTimeout,
		IdleTimeout:       limits.IdleTimeout,
		// No ReadTimeout and no WriteTimeout: they bound the whole, and would
		// end long streams. boundBodies and wire.Conn bound silence instead.
		MaxHeaderBytes:               int(limits.MaxHeaderBytes), // the door has looked already, with net/http's bytes for itself
		Protocols:                    http1,
		DisableGeneralOptionsHandler: true, // OPTIONS * is for the origin to answer
		ErrorLog:                     quiet,
		ConnState:                    n.connState,
		BaseContext:                  func(net.Listener) context.Context { return n.ctx },
	}
	for _, door := range n.doors {
		n.serving.Go(func() { n.fail(n.server.Serve(door)) })
	}
	if n.adminAt == nil {
		return
	}
	n.backstage = &http.Server{
		Handler:                      n.admin(),
		ReadHeaderTimeout:            10 * time.Second,
		IdleTimeout:                  time.Minute,
		MaxHeaderBytes:               32 << 10, // surrogate keys may stand in a field
		Protocols:                    http1,
		DisableGeneralOptionsHandler: true, // it would answer before the guard is asked
		ErrorLog:                     quiet,
		BaseContext:                  func(net.Listener) context.Context { return n.ctx },
	}
	n.tending.Go(func() { n.fail(n.backstage.Serve(socket.Listener{TCPListener: n.adminAt.(*net.TCPListener)})) })
}

// closeBackstage ends the admin listener, last of all, so that a draining node can
// be watched.
func (n *Node) closeBackstage(ctx context.Context) {
	if n.backstage == nil {
		return
	}
	if err := n.backstage.Shutdown(ctx); err != nil {
		n.backstage.Close() // a profile or the like that takes too long
	}
	n.tending.Wait()
}

// connState tells connections when they may look at the next request, and when there
// will be none.
func (n *Node) connState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateIdle:
		c.(*wire.Conn).Idle()
	case http.StateHijacked:
		c.(*wire.Conn).Hijacked()
	}
}

// connections returns how many public connections are open.
func (n *Node) connections() int {
	open := 0
	for _, door := range n.doors {
		open += door.Connections()
	}
	return open
}

// observer tells the counters and the access log of every public request.
func (n *Node) observer() *proxy.Observer {
	log := func(*proxy.Record) {}
	if n.config.Log.Access {
		log = accessLog(n.log)
	}
	return &proxy.Observer{Done: func(rec *proxy.Record) {
		n.tally.add(rec)
		n.refusals.note(rec)
		log(rec)
	}}
}

// openDoor prepares what answers requests on their connections.
func (n *Node) openDoor() {
	n.observed = n.observer()
	n.door = &proxy.Door{Router: n.router, Observer: n.observed}
	if n.config.Log.Access {
		n.door.Client = func(a *wire.Answer) string { return clientOf(a, n.trusted) }
	}
}

// public is what every request on a public listener passes, in this order, unless
// it is answered at the door.
func (n *Node) public() http.Handler {
	h := n.observed.Observe(n.router)
	h = boundBodies(h, n.config.Server.BodyTimeout, n.config.Server.MinBodyRate)
	h = resolveClients(h, n.trusted)
	return n.attend(h)
}

// quick answers at the door what public would answer from memory alone, in the same
// way. What it declines has left no trace. That goes for what panics, too: on the long
// way that ends one request, and here it would end the node.
func (n *Node) quick(a *wire.Answer) (answered bool) {
	if n.phase() != phaseReady {
		return false
	}
	defer func() {
		if problem := recover(); problem != nil {
			a.Head, a.Body, a.State = a.Head[:0], a.Body[:0], nil
			n.log.Error("an answer at the door panicked", "problem", fmt.Sprint(problem), "url", a.Target)
		}
	}()
	return n.door.Answer(a)
}

// prefetch begins to answer requests. When that panics all of them are begun anew by
// quick, each by itself.
func (n *Node) prefetch(coming []*wire.Answer) {
	if n.phase() != phaseReady {
		return
	}
	defer func() {
		if problem := recover(); problem != nil {
			for _, a := range coming {
				a.State = nil
			}
			n.log.Error("looking ahead at the door panicked", "problem", fmt.Sprint(problem))
		}
	}()
	n.door.Prefetch(coming)
}

// attend counts the requests under way, and tells clients of a draining node not
// to come back on the same connection.
func (n *Node) attend(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.tally.active.Add(1)
		defer n.tally.active.Add(-1)
		if n.phase() == phaseDraining {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

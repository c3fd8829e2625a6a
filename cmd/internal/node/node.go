// Package node builds one node from a configuration and owns its life: origins,
// cache, sites, listeners, and their end in reverse order. Several nodes may live
// in one process.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"edge/cachestore/memory"
	"edge/config"
	"edge/proxy"
	"edge/proxy/upstream"
	"edge/proxy/wire"
	"edge/purge"
	"edge/ratelimit"
)

// Node is one running node. Make it with New, then Open and Close it, or Run it.
type Node struct {
	config  *config.Config
	log     *slog.Logger
	trusted []netip.Prefix

	origins []*origin
	ledger  *purge.Ledger
	fleet   *fleet // nil: this node is alone
	gates   []*gate
	limiter *ratelimit.Limiter
	store   *memory.Store
	cache   *proxy.Cache
	router  *proxy.Router
	purges  *purge.Handler
	tokens  tokens
	tally   *tally

	refusals *refusals
	observed *proxy.Observer

	server    *http.Server     // public
	door      *proxy.Door      // answers at the doors
	doors     []*wire.Listener // public listeners
	backstage *http.Server     // admin; nil when it is off
	adminAt   net.Listener

	opened time.Time
	state  atomic.Int32 // a phase
	failed chan error   // a listener that broke; holds one

	ctx     context.Context // of everything that the node does; ends when it closes
	end     context.CancelFunc
	serving sync.WaitGroup // accept loops of the public listeners
	tending sync.WaitGroup // accept loop of the admin listener
	knocks  sync.WaitGroup // see knock
}

// origin is an origin of the configuration with its connections.
type origin struct {
	name     string
	url      *url.URL
	patience time.Duration // for connecting
	pool     *upstream.Pool
}

// phase is where in its life a node is.
type phase int32

const (
	phaseStarting phase = iota
	phaseReady
	phaseDraining
	phaseClosed
)

func (p phase) String() string {
	switch p {
	case phaseStarting:
		return "starting"
	case phaseReady:
		return "ready"
	case phaseDraining:
		return "draining"
	case phaseClosed:
		return "closed"
	default:
		panic(fmt.Sprintf("node: phase %d", int32(p)))
	}
}

func (n *Node) phase() phase { return phase(n.state.Load()) }

// New builds a node from a configuration that package config has checked. It
// opens and starts nothing, but reads the files that the configuration names. A nil
// log discards.
func New(cfg *config.Config, log *slog.Logger) (*Node, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	n := &Node{config: cfg, log: log, refusals: newRefusals(log), failed: make(chan error, 1)}
	var err error
	if n.trusted, err = parseProxies(cfg.Server.TrustedProxies); err != nil {
		return nil, err
	}
	if err := n.buildOrigins(); err != nil {
		return nil, err
	}
	n.ledger = purge.New(purge.Options{})
	n.cache = &proxy.Cache{
		Node:            cfg.Node,
		Ledger:          n.ledger,
		Tag:             purge.HashKey,
		Log:             log,
		FillBudget:      cfg.Fill.Budget,
		FillWindow:      cfg.Fill.Window,
		FillWait:        cfg.Fill.Wait,
		FillStall:       cfg.Fill.Stall,
		RefreshWorkers:  cfg.Refresh.Workers,
		RefreshQueue:    cfg.Refresh.Queue,
		RefreshAttempts: cfg.Refresh.Attempts,
		RefreshBackoff:  cfg.Refresh.Backoff,
	}
	if err := n.buildSites(); err != nil {
		return nil, err
	}
	n.openDoor()
	if err := n.checkLimits(); err != nil {
		return nil, err
	}
	n.tokens = newTokens(cfg.Admin.Tokens)
	var recorder purge.Recorder = purge.NewLocal(n.ledger, cfg.Node)
	if cfg.Redis != nil {
		if n.fleet, err = newFleet(cfg.Redis, cfg.Node, n.ledger, log); err != nil {
			return nil, err
		}
		n.cache.Ledger, n.cache.Fleet = n.fleet.log, true
		recorder = n.fleet.log
	}
	n.purges = n.newPurgeHandler(recorder)
	return n, nil
}

func (n *Node) buildOrigins() error {
	for i := range n.config.Origins {
		o := &n.config.Origins[i]
		u, err := url.Parse(o.URL)
		if err != nil {
			return fmt.Errorf("origin %q: %w", o.Name, err)
		}
		n.origins = append(n.origins, &origin{name: o.Name, url: u, patience: o.ConnectTimeout, pool: upstream.New(upstream.Options{
			URL:            u,
			ConnectTimeout: o.ConnectTimeout,
			FirstByte:      o.FirstByte,
			BetweenBytes:   o.BetweenBytes,
			IdleTimeout:    o.IdleTimeout,
			MaxConnections: o.MaxConnections,
			MaxHeaderBytes: o.MaxHeaderBytes,
		})})
	}
	return nil
}

func (n *Node) buildSites() error {
	var sites []proxy.Site
	var names []string
	for i := range n.config.Sites {
		site := &n.config.Sites[i]
		names = append(names, site.Name)
		routes := make([]proxy.Route, 0, len(site.Routes))
		for j := range site.Routes {
			route, err := n.buildRoute(site, &site.Routes[j])
			if err != nil {
				return fmt.Errorf("site %q, route %q: %w", site.Name, site.Routes[j].Name, err)
			}
			routes = append(routes, route)
		}
		sites = append(sites, proxy.Site{Name: site.Name, Hosts: site.Hosts, Routes: routes})
	}
	n.tally = newTally(names)
	router, err := proxy.NewRouter(n.config.Node, sites)
	if err != nil {
		return fmt.Errorf("sites: %w", err)
	}
	n.router = router
	return nil
}

func (n *Node) buildRoute(site *config.Site, route *config.Route) (proxy.Route, error) {
	for i, o := range n.origins {
		if o.name != route.Origin {
			continue
		}
		handler := &proxy.Handler{
			Cache:     n.cache,
			Site:      site.Name,
			Route:     route.Name,
			OriginURL: o.url,
			Origin:    o.pool,
			Rules:     rules(route, &n.config.Origins[i]),

			OriginGate: n.gateOf(route, ratelimit.CountMisses),
		}
		handler.Rules.Underscores = n.config.Server.Underscores == "pass"
		if err := handler.Open(); err != nil {
			return proxy.Route{}, err
		}
		return proxy.Route{
			Name:    route.Name,
			Path:    route.Path,
			Methods: route.Methods,
			When:    route.When,
			Query:   handler.Query,
			Gate:    n.gateOf(route, ratelimit.CountAll),
			Handler: handler,
		}, nil
	}
	return proxy.Route{}, fmt.Errorf("no origin is named %q", route.Origin)
}

// Open binds every listener and begins to serve. When it fails, nothing is left
// open.
func (n *Node) Open() error {
	n.opened = time.Now()
	n.ctx, n.end = context.WithCancel(context.Background())
	err := n.bind()
	if err == nil {
		err = n.openStores()
	}
	if err != nil {
		n.end()
		n.closeListeners()
		return err
	}
	n.cache.Open()
	n.serve()
	n.state.Store(int32(phaseReady))
	for _, o := range n.origins {
		n.knocks.Go(func() { n.knock(o) })
	}
	return nil
}

// openStores opens the tiers of the cache, and the counts of the limits.
func (n *Node) openStores() error {
	store, err := memory.New(memory.Options{
		Size:        n.config.Memory.Size,
		MaxObject:   n.config.Memory.MaxObject,
		MaxVariants: n.config.Memory.MaxVariants,
	})
	if err != nil {
		return fmt.Errorf("memory tier: %w", err)
	}
	n.store = store
	n.cache.Store, n.cache.Memory = store, store
	if n.fleet != nil {
		if err := n.fleet.open(store); err != nil {
			store.Close()
			return err
		}
		n.cache.Store = n.fleet.tiers
	}
	if err := n.openLimits(); err != nil {
		if n.fleet != nil {
			_ = n.fleet.close(context.Background()) // nothing was written yet
		}
		store.Close()
		return err
	}
	return nil
}

// knock warns about an origin that nobody answers for. It is no error: the origin
// may come later.
func (n *Node) knock(o *origin) {
	address := o.url.Host
	if o.url.Port() == "" {
		address = net.JoinHostPort(o.url.Hostname(), o.url.Scheme)
	}
	dialer := net.Dialer{Timeout: o.patience}
	c, err := dialer.DialContext(n.ctx, "tcp", address)
	if err != nil {
		if n.ctx.Err() == nil {
			n.log.Warn("origin does not answer yet", "origin", o.name, "url", o.url.String(), "error", err)
		}
		return
	}
	c.Close()
}

// Run opens the node, calls ready, and serves until ctx ends or a listener
// breaks. Then it drains within the configured grace and closes. Only a node that
// could not open or lost a listener gives an error.
func (n *Node) Run(ctx context.Context, ready func()) error {
	if err := n.Open(); err != nil {
		return err
	}
	ready()
	if n.adminAt != nil && len(n.tokens) == 0 {
		n.log.Info("the admin listener has no token: whoever is on this machine may purge and read, and nobody else", "admin", n.Admin())
	}
	var broken error
	select {
	case <-ctx.Done():
	case broken = <-n.failed:
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.config.Server.ShutdownGrace)
	defer cancel()
	n.Close(drain)
	return broken
}

const (
	// lull is how long a draining node lets clients find out, by an answer that
	// says "Connection: close", before it closes connections that are idle. A
	// client that sends a request on a connection at the moment of its closing
	// sees an error that is no fault of its own.
	lull = 500 * time.Millisecond

	// aftermath bounds the end of what was told to end.
	aftermath = 5 * time.Second
)

// Close drains the node and ends everything it has started: it takes no new
// connections, lets the requests under way finish until ctx ends, cuts off the
// rest, and closes its parts in reverse order. It is for one call, after Open.
func (n *Node) Close(ctx context.Context) {
	n.state.Store(int32(phaseDraining))
	n.log.Info("draining", "active", n.tally.active.Load())
	for _, door := range n.doors {
		door.Hush()
	}
	n.linger(ctx)
	if err := n.server.Shutdown(ctx); err != nil {
		n.log.Warn("requests cut off at the end of the grace", "active", n.tally.active.Load())
		n.server.Close() // what it says about listeners is known: they are closed
	}
	n.serving.Wait()
	for _, door := range n.doors {
		if err := door.Drain(ctx); err != nil {
			n.log.Warn("answers cut off at the end of the grace", "listen", door.Addr().String())
		}
	}
	n.end() // tunnels, and whatever else would not end by itself

	rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), aftermath)
	defer cancel()
	if err := n.cache.Close(rest); err != nil {
		n.log.Error("fetches did not end", "error", err)
	}
	if !until(rest, func() bool { return n.tally.active.Load() == 0 }) {
		n.log.Error("requests did not end", "active", n.tally.active.Load())
	}
	n.knocks.Wait()
	for _, o := range n.origins {
		o.pool.Close()
	}
	n.state.Store(int32(phaseClosed))
	n.closeBackstage(rest) // before the log, which its purges are written to
	if n.fleet != nil {
		if err := n.fleet.close(rest); err != nil {
			n.log.Warn("the fleet was not told of everything", "error", err)
		}
	}
	n.limiter.Close()
	n.store.Close()
	n.log.Info("stopped", "after", time.Since(n.opened).Round(time.Second).String())
}

// linger waits for the lull to pass, or until no connection is left.
func (n *Node) linger(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lull)
	defer cancel()
	until(ctx, func() bool { return n.connections() == 0 })
}

// until asks again and again whether something is so, and returns false when ctx
// ends first. Nothing signals the ends of connections and requests: a count is
// all that serving them should cost.
func until(ctx context.Context, so func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return so()
		}
	}
	return true
}

// Listen returns the addresses that the public listeners are bound to.
func (n *Node) Listen() []string {
	var addresses []string
	for _, door := range n.doors {
		addresses = append(addresses, door.Addr().String())
	}
	return addresses
}

// Admin returns the address that the admin listener is bound to, or "" when it is
// off.
func (n *Node) Admin() string {
	if n.adminAt == nil {
		return ""
	}
	return n.adminAt.Addr().String()
}

// fail reports a listener that broke. Only the first counts.
func (n *Node) fail(err error) {
	if n.phase() != phaseReady && n.phase() != phaseStarting || errors.Is(err, http.ErrServerClosed) {
		return // closed on purpose
	}
	select {
	case n.failed <- err:
	default:
	}
}

// Package conn owns the one client of Redis that all parts of a node share: how it
// connects, how long it waits, and when it gives up.
//
// Redis may be slow, gone, or lie. So every call has a deadline, no call is tried
// again where the answer may have been lost, and after a few failures in a row no
// call is made at all until a probe in the background has had an answer.
//
// What go-redis does by itself, and must be told not to: it dials five times with
// pauses, tries each command four times, ignores deadlines of contexts, and asks for
// notices that only Redis Enterprise knows. Even so, a context that is cancelled
// does not interrupt it; only a deadline does.
package conn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// ErrUnavailable says that Redis was not asked: it is down, or the Conn is closed.
var ErrUnavailable = errors.New("conn: Redis is unavailable")

// Options configure a Conn. Only URL is required.
type Options struct {
	// URL names the servers:
	//
	//	redis://[[user]:password@]host[:port][/database]  one server
	//	redis://host:port,host:port?cluster=true          a Cluster, by some of its nodes
	//	redis://host:port,host:port?sentinel=NAME         the master of that name, by its Sentinels
	//
	// rediss:// is the same with TLS.
	URL string

	// TLS is how to speak it, and needs rediss://. Nil trusts what the system
	// trusts. Sentinels are spoken to in the same way.
	TLS *tls.Config

	Username, Password                 string // in place of those in URL, unless both are empty
	SentinelUsername, SentinelPassword string

	Timeout     time.Duration // of a call that names no deadline; zero means 50ms
	DialTimeout time.Duration // of connecting; zero means 200ms
	PoolSize    int           // connections to each server at most; zero means 10 for each processor

	Log *slog.Logger     // nil discards
	Now func() time.Time // nil is time.Now
}

// longest bounds every wait for a reply, whatever the deadline; blocking reads have
// their own.
const longest = 2 * time.Second

// Conn is a node's connection to Redis. All methods may be called by any number of
// goroutines.
type Conn struct {
	options  Options
	client   redis.UniversalClient
	single   *redis.Client        // one of these is nil, the other is client
	cluster  *redis.ClusterClient // likewise
	breaker  breaker
	commands atomic.Uint64

	wake    chan struct{} // holds one: there is something for the watcher to do
	ctx     context.Context
	end     context.CancelFunc
	watcher sync.WaitGroup
}

// Open returns a Conn that connects when it is first used. Close it. The error names
// the option that is wrong, and shows no password.
func Open(o Options) (*Conn, error) {
	a, err := parseAddress(o.URL)
	if err != nil {
		return nil, fmt.Errorf("conn: %w", err)
	}
	if o.TLS != nil && !a.tls {
		return nil, errors.New("conn: TLS settings need a URL with rediss://")
	}
	if o.Timeout < 0 || o.DialTimeout < 0 || o.PoolSize < 0 {
		return nil, errors.New("conn: a negative timeout or pool size")
	}
	if o.Timeout == 0 {
		o.Timeout = 50 * time.Millisecond
	}
	if o.DialTimeout == 0 {
		o.DialTimeout = 200 * time.Millisecond
	}
	if o.PoolSize == 0 {
		o.PoolSize = 10 * runtime.GOMAXPROCS(0)
	}
	if o.Username == "" && o.Password == "" {
		o.Username, o.Password = a.username, a.password
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	// The library's log has a line for each connection that fails, and belongs to
	// the whole process. Ours has one when Redis goes and one when it is back.
	logging.Disable()

	c := &Conn{options: o, wake: make(chan struct{}, 1)}
	c.breaker.state = State{Up: true, Since: o.Now()}
	c.ctx, c.end = context.WithCancel(context.Background())
	c.connect(a)
	c.watcher.Go(c.watch)
	return c, nil
}

// connect makes the client that fits the address. Nothing is dialled.
func (c *Conn) connect(a *address) {
	o := &c.options
	all := redis.UniversalOptions{
		Addrs: a.hosts, DB: a.database, Username: o.Username, Password: o.Password,
		MasterName: a.sentinel, SentinelUsername: o.SentinelUsername, SentinelPassword: o.SentinelPassword,
		Dialer:          dialer(a.tls, o.TLS, o.DialTimeout),
		DisableIdentity: true,
		// The pool tries once to connect, and a command is tried once. In a Cluster
		// commands must be able to follow what has moved; the pauses are short.
		DialTimeout: o.DialTimeout, DialerRetries: 1, MaxRetries: -1,
		MaxRedirects: 3, MinRetryBackoff: time.Millisecond, MaxRetryBackoff: 8 * time.Millisecond,
		ReadTimeout: longest, WriteTimeout: longest, PoolTimeout: longest, ContextTimeoutEnabled: true,
		PoolSize: o.PoolSize, PipelinePoolSize: -1, ConnMaxIdleTime: 5 * time.Minute,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	switch {
	case a.cluster:
		options := all.Cluster()
		options.DisableRoutingPolicies = true // they ask the server about each command first
		c.cluster = redis.NewClusterClient(options)
		c.cluster.OnNewNode(func(node *redis.Client) { node.AddHook(c.hook()) })
		c.client = c.cluster
		return
	case a.sentinel != "":
		c.single = redis.NewFailoverClient(all.Failover())
	default:
		c.single = redis.NewClient(all.Simple())
	}
	c.single.AddHook(c.hook())
	c.client = c.single
}

// dialer returns how to connect. That of go-redis does not heed the context while
// TLS is agreed on.
func dialer(secure bool, config *tls.Config, timeout time.Duration) func(context.Context, string, string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: timeout}
	if !secure {
		return plain.DialContext
	}
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return (&tls.Dialer{NetDialer: plain, Config: config}).DialContext
}

// Do runs fn with the client and a context that ends after the deadline; zero means
// Options.Timeout, and no single reply is waited for longer than two seconds. The
// error is fn's, or ErrUnavailable when fn was not called, or that of a ctx that has
// ended before.
//
// fn must use the context and return the client's error: what is not a reply of
// Redis counts as a failure of Redis, unless ctx has ended before the deadline. A
// server that says that it can serve nobody now, or not this user, has failed too.
func (c *Conn) Do(ctx context.Context, deadline time.Duration, fn func(context.Context, redis.UniversalClient) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	trips, ok := c.breaker.allow()
	if !ok || c.ctx.Err() != nil {
		return ErrUnavailable
	}
	if deadline <= 0 {
		deadline = c.options.Timeout
	}
	end := time.Now().Add(deadline)
	bounded, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	err := fn(bounded, c.client)
	if err != nil && (ctx.Err() != nil && time.Now().Before(end) || c.ctx.Err() != nil) {
		return err // the caller has left, which says nothing about Redis
	}
	if first, tripped := c.breaker.report(trips, err, c.options.Now()); first || tripped {
		c.rouse()
	}
	return err
}

// Client returns the client for those who need a connection of their own, as for
// blocking reads. What they do is not counted as a success or failure of Redis, and
// goes out while Redis is down, too.
func (c *Conn) Client() redis.UniversalClient { return c.client }

// Master returns the client of the master that holds the key. Without a Cluster that
// is the one there is; it finds the new master by itself when Sentinels have made
// another the master.
func (c *Conn) Master(ctx context.Context, key string) (*redis.Client, error) {
	if c.cluster == nil {
		return c.single, nil
	}
	master, err := c.cluster.MasterForKey(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("conn: finding the master of a key: %w", err)
	}
	return master, nil
}

// State is what is known about Redis.
type State struct {
	Up        bool      // it is asked; false after a run of failures until a probe was answered
	Contacted bool      // it has answered at least once
	Since     time.Time // when Up became what it is
	Fault     Fault     // class of the last failure, also when it is past; "" is none so far
	Err       error     // the last failure itself, for people

	Skew   time.Duration // by how much its clock is ahead of ours, as last seen; the largest of a Cluster
	Evicts string        // an eviction policy that can drop keys without a time to live; "" is none
}

// State returns what is known about Redis. It asks nothing.
func (c *Conn) State() State { return c.breaker.now() }

// Commands returns the number of commands sent so far, those of this package
// included.
func (c *Conn) Commands() uint64 { return c.commands.Load() }

// Close ends the background work and the client, under the calls that are still
// running. Later calls return ErrUnavailable. It may be called more than once.
func (c *Conn) Close() error {
	c.end()
	err := c.client.Close() // which interrupts the watcher's reads
	c.watcher.Wait()
	if errors.Is(err, redis.ErrClosed) {
		return nil
	}
	return err
}

// rouse tells the watcher that there is something to do.
func (c *Conn) rouse() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// hook counts commands, and marks what fails before there is a connection.
func (c *Conn) hook() redis.Hook { return hook{&c.commands} }

type hook struct{ commands *atomic.Uint64 }

func (h hook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			return nil, &dialError{err}
		}
		return conn, nil
	}
}

func (h hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.commands.Add(1)
		return next(ctx, cmd)
	}
}

func (h hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.commands.Add(uint64(len(cmds)))
		return next(ctx, cmds)
	}
}

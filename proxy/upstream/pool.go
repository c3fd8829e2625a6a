// Package upstream talks to origins. A Pool is the one way to one origin: it owns
// the connections, bounds every wait, says in one typed error what went wrong, and
// lets no response through that the request did not ask for, or that could be read
// in two ways.
//
// Towards origins it speaks HTTP/1.1, over TCP or TLS.
//
// Retries. net/http sends a request a second time in one case only: the request
// went out on a connection that had been used before, the connection died before
// the first byte of a response, and the request may be repeated (a safe method, or
// one with an Idempotency-Key, and no body). That is the race between the origin
// closing an idle connection and this node using it, and it ends at the latest on
// a connection made anew, whose failure is final. A connection that is found ended, or
// with something said on it, before a byte of the request is written, is passed over
// for another. Nothing here retries beyond that.
package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"edge/proxy/socket"
)

// Options describe one origin. Every zero is an origin that may take for ever or
// send without bound, except where a field says otherwise.
type Options struct {
	URL            *url.URL      // scheme (http or https) and host; required
	ConnectTimeout time.Duration // for the TCP connection, and again for the TLS handshake
	FirstByte      time.Duration // from the request sent to the response head; also bounds the wait for a free connection
	BetweenBytes   time.Duration // silence in the middle of a body while a reader waits; event streams are exempt
	IdleTimeout    time.Duration // an unused connection is closed after it
	MaxConnections int           // at a time; zero is no bound
	MaxHeaderBytes int64         // response head; zero is net/http's 10 MiB
}

// Pool is the way to one origin. It is an http.RoundTripper for requests to that
// origin; all methods may be called by any number of goroutines.
type Pool struct {
	options   Options
	transport *http.Transport
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	tls       *tls.Config
	count     counters
}

type counters struct {
	requests, active, dials, reused atomic.Int64
	failed                          [kinds]atomic.Int64
}

// Stats are a Pool's counters since it was made.
type Stats struct {
	Requests int64 `json:"requests"` // exchanges begun
	Active   int64 `json:"active"`   // exchanges under way, bodies included
	Dials    int64 `json:"dials"`    // connections attempted
	Reused   int64 `json:"reused"`   // requests sent on a connection used before

	Refused  int64 `json:"refused"`  // nobody listens, or no route or name
	Reset    int64 `json:"reset"`    // connections that ended in the middle
	Timeout  int64 `json:"timeout"`  // waits that grew too long
	TLS      int64 `json:"tls"`      // handshakes and certificates that failed
	Protocol int64 `json:"protocol"` // what was not HTTP, or not an answer to the request

	Canceled   int64 `json:"canceled"`    // given up by the caller
	ClientBody int64 `json:"client_body"` // request bodies that broke on the client's side
}

// idlePerOrigin bounds the unused connections kept. They live for IdleTimeout
// only, so that this is a bound on a burst's leftovers and not on throughput.
const idlePerOrigin = 512

// New returns the Pool for an origin. It panics when o.URL is not an absolute http
// or https URL: the caller has checked it.
func New(o Options) *Pool {
	if o.URL == nil || o.URL.Host == "" || (o.URL.Scheme != "http" && o.URL.Scheme != "https") {
		panic("upstream: an origin needs a URL with http or https and a host")
	}
	p := &Pool{
		options: o,
		dial:    (&net.Dialer{Timeout: o.ConnectTimeout}).DialContext,
		tls:     &tls.Config{ServerName: o.URL.Hostname(), NextProtos: []string{"http/1.1"}},
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	p.transport = &http.Transport{
		// No Proxy: the environment must not redirect what the file says.
		DialContext:    p.connect,
		DialTLSContext: p.connectTLS,
		// Otherwise net/http asks for gzip itself and unpacks it, which changes
		// validators, lengths and variants.
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idlePerOrigin,
		MaxConnsPerHost:        o.MaxConnections,
		IdleConnTimeout:        o.IdleTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: o.MaxHeaderBytes,
		Protocols:              protocols,
	}
	return p
}

// connect opens a connection.
func (p *Pool) connect(ctx context.Context, network, address string) (net.Conn, error) {
	raw, err := p.open(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return newConn(raw, p.headLimit()), nil
}

// connectTLS opens a connection and makes it secure. net/http would do the same, but
// would put TLS above the strict reading, where there is nothing to be read.
func (p *Pool) connectTLS(ctx context.Context, network, address string) (net.Conn, error) {
	raw, err := p.open(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if p.options.ConnectTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.options.ConnectTimeout)
		defer cancel()
	}
	secure := tls.Client(raw, p.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return newConn(secure, p.headLimit()), nil
}

func (p *Pool) open(ctx context.Context, network, address string) (net.Conn, error) {
	p.count.dials.Add(1)
	c, err := p.dial(ctx, network, address)
	if tcp, ok := c.(*net.TCPConn); ok {
		c = socket.Direct(tcp)
	}
	return c, err
}

func (p *Pool) headLimit() int64 { return cmp.Or(p.options.MaxHeaderBytes, 10<<20) }

// RoundTrip sends the request and returns the origin's response. Its errors, and
// those of reading the response's body, are of type *Error (io.EOF apart). It
// panics when the request is for another origin than the pool's: origins come
// from the configuration, and nothing in a request can choose one.
func (p *Pool) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != p.options.URL.Scheme || req.URL.Host != p.options.URL.Host {
		panic("upstream: request for another origin than the pool's")
	}
	p.count.requests.Add(1)
	p.count.active.Add(1)

	x := newExchange(p, req)
	res, err := x.send()
	if err != nil {
		return nil, x.fail(err)
	}
	if reason := unasked(req, res); reason != nil {
		res.Body.Close()
		return nil, x.fail(reason)
	}
	x.deliver(res)
	return res, nil
}

// Stats returns the counters as they stand. They are read one by one, so sums
// may be off by what happens meanwhile.
func (p *Pool) Stats() Stats {
	t := &p.count
	return Stats{
		Requests:   t.requests.Load(),
		Active:     t.active.Load(),
		Dials:      t.dials.Load(),
		Reused:     t.reused.Load(),
		Refused:    t.failed[Refused].Load(),
		Reset:      t.failed[Reset].Load(),
		Timeout:    t.failed[Timeout].Load(),
		TLS:        t.failed[TLS].Load(),
		Protocol:   t.failed[Protocol].Load(),
		Canceled:   t.failed[Canceled].Load(),
		ClientBody: t.failed[ClientBody].Load(),
	}
}

// Close closes the connections that are not in use. Exchanges under way end by
// their own requests' contexts.
func (p *Pool) Close() { p.transport.CloseIdleConnections() }

// hooks returns what the pool wants to hear of an exchange's connection. The
// caller's own trace (for 1xx responses) stays in force beside it.
func (p *Pool) hooks(x *exchange) *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn: func(c httptrace.GotConnInfo) {
			if c.Reused {
				p.count.reused.Add(1)
			}
			x.use(c.Conn.(*conn), c.Reused)
			x.await(FirstByte, p.options.FirstByte)
		},
	}
}

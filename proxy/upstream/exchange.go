package upstream

import (
	"cmp"
	"context"
	"io"
	"mime"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"
)

// exchange is one request and its response. It runs under a context of its own,
// which a timer cancels when the origin keeps it waiting: one timer, armed again
// for each wait in turn, so that no goroutine stands by. A wait is counted only
// while the origin is the one waited for: not while the client is slow to send
// the request's body, and not while nobody reads the response's.
type exchange struct {
	pool   *Pool
	parent context.Context // the caller's
	ctx    context.Context
	cancel context.CancelCauseFunc
	out    *http.Request

	mu       sync.Mutex // guards the fields below
	timer    *time.Timer
	phase    Phase
	armed    bool
	answered bool // the response head is there: the request's side no longer arms the timer
	ended    bool
	conn     *conn // the one that was last taken for the request; nil before
	unsent   bool  // it was unfit: nothing was written on it
	client   error // why the request's body could not be read
}

// newExchange prepares req to be sent: a shallow copy, since a RoundTripper must
// not change its request.
func newExchange(p *Pool, req *http.Request) *exchange {
	x := &exchange{pool: p, parent: req.Context()}
	x.ctx, x.cancel = context.WithCancelCause(req.Context())
	x.timer = time.AfterFunc(time.Hour, x.expire)
	x.timer.Stop()
	x.out = req.WithContext(httptrace.WithClientTrace(x.ctx, p.hooks(x)))
	if req.Body != nil && req.Body != http.NoBody {
		x.out.Body = &requestBody{src: req.Body, x: x}
	}
	if req.Method == http.MethodHead {
		// An origin that sends a body all the same would have it taken for the
		// next response.
		x.out.Close = true
	}
	x.await(Connect, p.options.FirstByte)
	return x
}

// use notes the connection that was taken for the request.
func (x *exchange) use(c *conn, reused bool) {
	fit := c.begin(x.out.Method, reused)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.conn, x.unsent = c, !fit
}

// send sends the request. Where the connection that was taken for it proved unfit
// before a byte was written, another is: net/http does that itself unless it learns
// of the end while it reads.
func (x *exchange) send() (*http.Response, error) {
	for {
		res, err := x.pool.transport.RoundTrip(x.out)
		x.mu.Lock()
		again := err != nil && x.unsent && (x.out.Body == nil || x.out.Body == http.NoBody) && x.ctx.Err() == nil
		x.unsent = false
		x.mu.Unlock()
		if !again {
			return res, err
		}
		x.await(Connect, x.pool.options.FirstByte)
	}
}

// await starts to count a wait for the origin on the request's side. Zero is a
// wait without end.
func (x *exchange) await(phase Phase, limit time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.answered {
		x.armLocked(phase, limit)
	}
}

// hold stops the count on the request's side: it is the client's turn.
func (x *exchange) hold() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.answered {
		x.disarmLocked()
	}
}

func (x *exchange) armLocked(phase Phase, limit time.Duration) {
	if limit <= 0 || x.ended {
		return
	}
	x.phase, x.armed = phase, true
	x.timer.Reset(limit)
}

func (x *exchange) disarmLocked() {
	x.armed = false
	x.timer.Stop()
}

// expire is the timer's end.
func (x *exchange) expire() {
	x.mu.Lock()
	late := x.armed
	phase := x.phase
	x.armed = false
	x.mu.Unlock()
	if late {
		x.cancel(&waited{phase})
	}
}

// deliver hands the response over: from here on waits are counted while its body
// is read, and the exchange ends with the body.
func (x *exchange) deliver(res *http.Response) {
	res.Request = x.out.WithContext(x.parent)
	if lengths := res.Header["Content-Length"]; len(lengths) > 0 && len(lengths[0]) > 1 && lengths[0][0] == '0' {
		// Zeros in front make it an octal number to some.
		lengths[0] = cmp.Or(strings.TrimLeft(lengths[0], "0"), "0")
	}
	x.mu.Lock()
	x.answered = true
	x.disarmLocked()
	x.mu.Unlock()

	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		// The body is the connection now; net/http has let go of it and of
		// the context, and the caller ends it.
		x.end()
	case res.Body == http.NoBody:
		x.end()
	default:
		limit := x.pool.options.BetweenBytes
		if eventStream(res.Header) {
			// Silence is what an event stream is made of. A dead peer is
			// found by TCP keep-alive, a client that left by its request.
			limit = 0
		}
		res.Body = &responseBody{src: res.Body, x: x, silence: limit}
	}
}

func eventStream(h http.Header) bool {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && kind == "text/event-stream"
}

// fail ends the exchange with an error, classified and counted.
func (x *exchange) fail(err error) *Error {
	x.mu.Lock()
	client, conn := x.client, x.conn
	x.mu.Unlock()

	if conn != nil {
		if fault := conn.broken(); fault != nil {
			err = fault // net/http has seen but its consequence
		}
	}
	e := classify(err, client, context.Cause(x.ctx), x.parent.Err())
	if x.end() {
		x.pool.count.failed[e.Kind].Add(1)
	}
	return e
}

// end releases the timer and the context. It returns false when that was done
// before.
func (x *exchange) end() bool {
	x.mu.Lock()
	first := !x.ended
	x.ended = true
	x.answered = true
	x.disarmLocked()
	x.mu.Unlock()
	if first {
		x.pool.count.active.Add(-1)
		x.cancel(nil)
	}
	return first
}

// requestBody is the client's body on its way to the origin. Between two reads
// net/http writes to the origin, and that is the wait that counts.
type requestBody struct {
	src io.ReadCloser
	x   *exchange
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.x.hold()
	n, err := b.src.Read(p)
	if err != nil && err != io.EOF {
		// The client's doing: malformed chunks, too long, too slow, gone.
		// Remembered here, since by the time that net/http reports it the
		// torn connection may have a louder error.
		b.x.mu.Lock()
		b.x.client = err
		b.x.mu.Unlock()
		return n, err
	}
	b.x.await(FirstByte, b.x.pool.options.FirstByte)
	return n, err
}

func (b *requestBody) Close() error { return b.src.Close() }

// responseBody is the origin's body. It is for one reader at a time, as net/http's
// own; Close may come at any time, from any goroutine.
type responseBody struct {
	src     io.ReadCloser
	x       *exchange
	silence time.Duration
	err     error // the first error, repeated to whoever reads on
}

func (b *responseBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	b.x.mu.Lock()
	b.x.armLocked(BetweenBytes, b.silence)
	b.x.mu.Unlock()
	n, err := b.src.Read(p)
	b.x.mu.Lock()
	b.x.disarmLocked()
	b.x.mu.Unlock()

	switch err {
	case nil:
		return n, nil
	case io.EOF:
		b.x.end()
		b.err = io.EOF
	default:
		b.err = b.x.fail(err)
	}
	return n, b.err
}

func (b *responseBody) Close() error {
	err := b.src.Close()
	b.x.end()
	return err
}

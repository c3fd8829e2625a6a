package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Load asks for objects at a fixed rate, whether or not the answers keep up: an open
// loop, as the public is one. Requests go out in steps of about a millisecond, those
// that are due by then together.
type Load struct {
	Addresses   []string
	Rate        int            // requests per second, all addresses together
	Connections int            // to each address
	Next        func() Request // the next request; called by one goroutine
}

// Request is one of a Load.
type Request struct {
	Address int // index
	Class   uint8
	Raw     []byte
	Floor   int64 // versions below this are old: a purge was answered before the request was made
}

// Sample is how one request went.
type Sample struct {
	At    time.Duration // since the Load began, when it was sent
	Took  time.Duration // from there to the end of the answer, the wait for a free connection included
	Class uint8
	Hit   bool
	Fault Fault
}

// Fault is what was wrong with an answer.
type Fault uint8

const (
	Fine   Fault = iota
	Failed       // no answer, or no 200 with a whole body
	Old          // content from before a purge that was answered
)

// loadConn is a connection of a Load. Its fields belong to the sender while it is
// idle, and to its own goroutine from sent to idle.
type loadConn struct {
	*Conn   // nil after a failure
	dial    func() (*Conn, error)
	address int
	request Request
	start   time.Duration
	sent    chan struct{} // closed at the end
	samples []Sample
}

// Run is a Load under way.
type Run struct {
	began   time.Time
	conns   []*loadConn
	working sync.WaitGroup
	failure firstError
}

// start connects, and sends requests until ctx ends.
func (l *Load) start(ctx context.Context) *Run {
	r := &Run{conns: l.connect(ctx)}
	idle := make([]chan *loadConn, len(l.Addresses))
	for i := range idle {
		idle[i] = make(chan *loadConn, l.Connections)
	}
	r.began = time.Now()
	for _, c := range r.conns {
		idle[c.address] <- c
		r.working.Go(func() {
			for range c.sent {
				r.failure.note(c.finish(r.began))
				idle[c.address] <- c
			}
		})
	}
	r.working.Go(func() {
		l.send(ctx, r.began, idle)
		for _, c := range r.conns {
			close(c.sent)
		}
	})
	return r
}

// since is the time since the Load began, as samples count it.
func (r *Run) since() time.Duration { return time.Since(r.began) }

// wait returns all samples, in no order, when ctx has ended and every answer is
// there. The error is that of the first request that failed: the samples say how many
// did.
func (r *Run) wait() ([]Sample, error) {
	r.working.Wait()
	var samples []Sample
	for _, c := range r.conns {
		samples = append(samples, c.samples...)
		if c.Conn != nil {
			c.close()
		}
	}
	return samples, r.failure.err
}

// connect makes all connections, so that no request has to wait for one. What fails
// now is tried again, and told, with the first request.
func (l *Load) connect(ctx context.Context) (all []*loadConn) {
	ctx = context.WithoutCancel(ctx) // what is under way at the end is waited for
	for i, address := range l.Addresses {
		for range l.Connections {
			c := &loadConn{address: i, sent: make(chan struct{}, 1)}
			c.dial = func() (*Conn, error) { return dial(ctx, address) }
			if conn, err := c.dial(); err == nil {
				c.Conn = conn
			}
			all = append(all, c)
		}
	}
	return all
}

// send is the sender. What it sends late because no connection was free counts from
// when it was due; its own lateness, which is not the node's, counts for nobody.
func (l *Load) send(ctx context.Context, began time.Time, idle []chan *loadConn) {
	due := func(n int) time.Duration { return time.Duration(n) * time.Second / time.Duration(l.Rate) }
	held := time.Duration(0) // until then no connection was free
	for n := 0; ctx.Err() == nil; {
		now := time.Since(began)
		for ; due(n) <= now && ctx.Err() == nil; n++ {
			request := l.Next()
			var c *loadConn
			select {
			case c = <-idle[request.Address]:
			default:
				select {
				case c = <-idle[request.Address]:
				case <-ctx.Done():
					return
				}
				held = time.Since(began)
			}
			c.request, c.start = request, now
			if due(n) < held {
				c.start = due(n)
			}
			c.begin()
			c.sent <- struct{}{}
		}
		time.Sleep(due(n) - time.Since(began)) // the system makes it a millisecond at least
	}
}

// begin sends the request. What fails here fails again when the answer is read.
func (c *loadConn) begin() {
	if c.Conn != nil {
		_ = c.send(c.request.Raw)
	}
}

// finish reads the answer and notes how it went.
func (c *loadConn) finish(began time.Time) error {
	sample := Sample{At: c.start, Class: c.request.Class}
	answer, err := c.end()
	sample.Took = time.Since(began) - c.start
	sample.Hit = answer.Hit
	if err != nil {
		sample.Fault = Failed
	} else if version, _ := versionOf(answer.Body); version < c.request.Floor {
		sample.Fault = Old
	}
	c.samples = append(c.samples, sample)
	return err
}

// end reads the answer to what was sent. A connection that has failed before is made
// anew, and one that fails now is given up.
func (c *loadConn) end() (answer Answer, err error) {
	if c.Conn == nil {
		if c.Conn, err = c.dial(); err != nil {
			return Answer{}, err
		}
		c.begin()
	}
	if answer, err = c.receive(); err == nil {
		err = proper(answer)
	}
	if err != nil {
		c.close()
		c.Conn = nil
	}
	return answer, err
}

// proper says what is wrong with an answer of the public listener.
func proper(a Answer) error {
	if a.Status != 200 {
		return fmt.Errorf("status %d: %.200q", a.Status, a.Body)
	}
	if _, ok := versionOf(a.Body); !ok {
		return fmt.Errorf("no such body is served: %.200q", a.Body)
	}
	return nil
}

// firstError keeps the first error it is given.
type firstError struct {
	mu  sync.Mutex // guards err
	err error
}

func (f *firstError) note(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

// Figures are what some samples amount to.
type Figures struct {
	Requests, Hits, Failed, Old int
	P50, P99, Max               time.Duration // of those that did not fail
}

// figures sums up the samples of a kind that begin within a span.
func figures(samples []Sample, from, to time.Duration, of func(*Sample) bool) Figures {
	var f Figures
	var times []time.Duration
	for i := range samples {
		s := &samples[i]
		if s.At < from || s.At >= to || !of(s) {
			continue
		}
		f.Requests++
		if s.Fault == Failed {
			f.Failed++
			continue
		}
		if s.Fault == Old {
			f.Old++
		}
		if s.Hit {
			f.Hits++
		}
		times = append(times, s.Took)
	}
	f.P50, f.P99, f.Max = quantile(times, 0.50), quantile(times, 0.99), quantile(times, 1)
	return f
}

// hitShare is the hits among the answers, in percent.
func (f Figures) hitShare() float64 { return 100 * float64(f.Hits) / float64(max(f.Requests, 1)) }

func isAny(*Sample) bool   { return true }
func isHit(s *Sample) bool { return s.Hit }

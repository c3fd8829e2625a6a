package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// Pace is an open loop: requests are due at random moments, so many a second in the
// mean, whether or not answers keep up, as those of the public are.
//
// It runs on one thread that never sleeps: a client that must be woken for each
// answer would show its own delays.
type Pace struct {
	address     string
	objects     Objects // of a single key
	connections int
	rate        float64 // requests a second
	span        time.Duration
	settle      time.Duration // requests that are due earlier do not count

	// drips, when not nil, are kept up beside the requests.
	drips *Drips
}

// run returns how long each request took, from when it was due, whether or not a
// connection was free then, to the end of its answer.
func (p Pace) run(ctx context.Context) (took []time.Duration, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	loop, err := newLoop(p.address)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, loop.close()) }()
	request := []byte(p.objects.before() + "0" + p.objects.after(p.address))
	var idle []*paced // the one that has been idle for longest is first
	for range p.connections {
		c := &paced{}
		if c.fd, err = loop.open(c); err != nil {
			return nil, err
		}
		idle = append(idle, c)
	}
	if p.drips != nil {
		if err := p.drips.begin(loop); err != nil {
			return nil, err
		}
		defer p.drips.end()
	}
	random := rand.New(rand.NewPCG(1, 2))
	gap := func() time.Duration { return time.Duration(random.ExpFloat64() / p.rate * float64(time.Second)) }
	took = make([]time.Duration, 0, int(p.rate*p.span.Seconds()*1.1)+100)
	var waiting []time.Duration // when those were due that have no connection yet
	began := time.Now()
	for due := gap(); ; {
		now := time.Since(began)
		if ctx.Err() != nil {
			return took, context.Cause(ctx)
		}
		if now > p.span+patience {
			return took, fmt.Errorf("%d requests are not answered", len(waiting)+p.connections-len(idle))
		}
		for ; due <= now && due < p.span; due += gap() {
			waiting = append(waiting, due)
		}
		for len(waiting) > 0 && len(idle) > 0 {
			c := idle[0]
			c.due = waiting[0]
			idle, waiting = idle[1:], waiting[1:]
			if n, err := syscall.Write(c.fd, request); err != nil || n != len(request) {
				return took, fmt.Errorf("send a request: %d bytes, %w", n, err)
			}
		}
		if due >= p.span && len(waiting) == 0 && len(idle) == p.connections {
			return took, nil
		}
		if p.drips != nil {
			if err := p.drips.send(); err != nil {
				return took, err
			}
		}
		ready, err := loop.ready()
		if err != nil {
			return took, err
		}
		for _, who := range ready {
			switch c := who.(type) {
			case *paced:
				whole, err := c.read(p.objects.size)
				if err != nil {
					return took, err
				}
				if whole {
					if c.due >= p.settle {
						took = append(took, time.Since(began)-c.due)
					}
					idle = append(idle, c)
				}
			case *drip:
				if err := p.drips.heard(c); err != nil {
					return took, err
				}
			}
		}
	}
}

// quantile is a quantile of times, which it sorts.
func quantile(times []time.Duration, q float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[min(int(q*float64(len(times))), len(times)-1)]
}

// paced is a connection of a Pace.
type paced struct {
	fd     int
	due    time.Duration // of the request that is under way
	answer []byte        // what has come of its answer
}

// read takes what has come, and tells whether it completes the answer.
func (c *paced) read(size int) (whole bool, err error) {
	c.answer = slices.Grow(c.answer, size+4096)
	n, err := syscall.Read(c.fd, c.answer[len(c.answer):cap(c.answer)])
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) {
		return false, nil
	}
	if n == 0 {
		err = io.EOF
	}
	if err != nil {
		return false, fmt.Errorf("the server closed a connection within %d bytes of an answer: %w", len(c.answer), err)
	}
	c.answer = c.answer[:len(c.answer)+n]
	head := bytes.Index(c.answer, []byte("\r\n\r\n"))
	if head < 0 {
		return false, nil
	}
	if !bytes.HasPrefix(c.answer, []byte("HTTP/1.1 200 ")) {
		return false, fmt.Errorf("not a 200: %.100q", c.answer)
	}
	switch body := len(c.answer) - head - 4; {
	case body < size:
		return false, nil
	case body > size:
		return false, fmt.Errorf("%d bytes beyond an answer of %d", body-size, size)
	}
	c.answer = c.answer[:0]
	return true, nil
}

// Package pace asks a server for things, at a rate or as fast as it answers, and notes
// how long each takes.
package pace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
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
	Address     string // an IPv4 address and a port
	Connections int
	Rate        float64 // requests a second
	Span        time.Duration
	Settle      time.Duration // requests that are due earlier do not count

	// Request returns the next request.
	Request func() []byte

	// Answer looks at what has come of an answer: whether it is whole, and whether it
	// counts.
	Answer func(got []byte) (whole, counts bool, err error)

	// Beside, when not nil, is kept up beside the requests.
	Beside Beside
}

// Beside is what the thread of a Pace does beside its requests. Nothing of it may wait.
type Beside interface {
	Begin(*Loop) error
	Go() error             // on with what is due; called again and again
	Heard(owner any) error // something has come on a connection that it has opened for owner
	End()
}

// patience bounds every wait for an answer. It is reached only when none comes.
const patience = 30 * time.Second

// Sample is a request that counts.
type Sample struct {
	Due  time.Duration // since the beginning
	Took time.Duration // from then, whether or not a connection was free, to the end of the answer
}

// Run returns how long requests took, in the order of their answers.
func (p Pace) Run(ctx context.Context) (took []Sample, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// A collection would hold the thread up, and show as the server's delay.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	loop, err := newLoop(p.Address)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, loop.close()) }()
	var idle []*paced // the one that has been idle for longest is first
	for range p.Connections {
		c := &paced{}
		if c.fd, err = loop.Open(c, loop.Server()); err != nil {
			return nil, err
		}
		idle = append(idle, c)
	}
	if p.Beside != nil {
		if err := p.Beside.Begin(loop); err != nil {
			return nil, err
		}
		defer p.Beside.End()
	}
	random := rand.New(rand.NewPCG(1, 2))
	gap := func() time.Duration { return time.Duration(random.ExpFloat64() / p.Rate * float64(time.Second)) }
	took = make([]Sample, 0, int(p.Rate*p.Span.Seconds()*1.1)+100)
	var waiting []time.Duration // when those were due that have no connection yet
	began := time.Now()
	for due := gap(); ; {
		now := time.Since(began)
		if ctx.Err() != nil {
			return took, context.Cause(ctx)
		}
		if now > p.Span+patience {
			return took, fmt.Errorf("%d requests are not answered", len(waiting)+p.Connections-len(idle))
		}
		for ; due <= now && due < p.Span; due += gap() {
			waiting = append(waiting, due)
		}
		for len(waiting) > 0 && len(idle) > 0 {
			c := idle[0]
			c.due = waiting[0]
			idle, waiting = idle[1:], waiting[1:]
			request := p.Request()
			if n, err := write(c.fd, request); err != nil || n != len(request) {
				return took, fmt.Errorf("send a request: %d bytes, %w", n, err)
			}
		}
		if due >= p.Span && len(waiting) == 0 && len(idle) == p.Connections {
			return took, nil
		}
		if p.Beside != nil {
			if err := p.Beside.Go(); err != nil {
				return took, err
			}
		}
		ready, err := loop.ready()
		if err != nil {
			return took, err
		}
		for _, who := range ready {
			c, ours := who.(*paced)
			if !ours {
				if err := p.Beside.Heard(who); err != nil {
					return took, err
				}
				continue
			}
			whole, counts, err := c.read(p.Answer)
			if err != nil {
				return took, err
			}
			if !whole {
				continue
			}
			if counts && c.due >= p.Settle {
				took = append(took, Sample{Due: c.due, Took: time.Since(began) - c.due})
			}
			idle = append(idle, c)
		}
	}
}

// window is short enough that many of them are spared by what else the machine does.
const window = 100 * time.Millisecond

// Windows returns how long requests took, those together that were due within the same
// tenth of a second. One that is cut short by the end is left out.
func Windows(samples []Sample) (windows [][]time.Duration) {
	last := time.Duration(0)
	for _, s := range samples {
		last = max(last, s.Due)
	}
	byTime := make([][]time.Duration, (last+window/10)/window) // requests come at random: the last of a whole one may be due a little before its end
	for _, s := range samples {
		if n := int(s.Due / window); n < len(byTime) {
			byTime[n] = append(byTime[n], s.Took)
		}
	}
	for _, w := range byTime {
		if len(w) > 0 { // not before it has settled
			windows = append(windows, w)
		}
	}
	return windows
}

// paced is a connection of a Pace.
type paced struct {
	fd     int
	due    time.Duration // of the request that is under way
	answer []byte        // what has come of its answer
}

// read takes what has come, and has it looked at.
func (c *paced) read(answer func([]byte) (whole, counts bool, err error)) (whole, counts bool, err error) {
	c.answer, err = Read(c.fd, c.answer)
	if err != nil {
		return false, false, err
	}
	if whole, counts, err = answer(c.answer); whole {
		c.answer = c.answer[:0]
	}
	return whole, counts, err
}

// Read appends what has come on a connection of a Loop. That the connection has ended
// is an error.
func Read(fd int, to []byte) ([]byte, error) {
	to = slices.Grow(to, 64<<10)
	n, err := read(fd, to[len(to):cap(to)])
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) {
		return to, nil
	}
	if n == 0 && err == nil {
		err = io.EOF
	}
	if err != nil {
		return to, fmt.Errorf("the server closed a connection within %d bytes of an answer: %w", len(to), err)
	}
	return to[:len(to)+n], nil
}

package pace

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"
)

// Closed is a closed loop: each connection asks again once it has its answer, so that
// the server always has something to do.
//
// It runs on one thread that never sleeps. Its turns have stages, all answers read before
// the next requests are sent, which takes less time than one after the other: a generator
// that is slower than the server leaves that without requests, and shows its own speed.
type Closed struct {
	Address     string // an IPv4 address and a port
	Connections int
	Span        time.Duration // nothing is asked for after it

	// Request returns the next request.
	Request func() []byte

	// Answer looks at what has come of an answer: whether it is whole.
	Answer func(got []byte) (whole bool, err error)
}

// Run returns how long each request took, to within a turn, and how long it was until
// the last of them had its answer.
func (p Closed) Run() (took []time.Duration, wall time.Duration, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	loop, err := newLoop(p.Address)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, loop.close()) }()
	var free []*paced
	for range p.Connections {
		c := &paced{}
		if c.fd, err = loop.Open(c, loop.Server()); err != nil {
			return nil, 0, err
		}
		free = append(free, c)
	}
	answer := func(got []byte) (whole, counts bool, err error) {
		whole, err = p.Answer(got)
		return whole, whole, err
	}
	began := time.Now()
	for busy := 0; ; {
		now := time.Since(began)
		if now >= p.Span {
			if busy == 0 {
				return took, now, nil
			}
			free = free[:0]
		}
		for _, c := range free {
			c.due = now
			request := p.Request()
			if n, err := write(c.fd, request); n != len(request) {
				return took, now, fmt.Errorf("send a request: %d bytes, %w", n, err)
			}
			busy++
		}
		free = free[:0]
		ready, err := loop.wait(patience)
		if err != nil {
			return took, now, err
		}
		now = time.Since(began)
		for _, who := range ready {
			c := who.(*paced)
			whole, _, err := c.read(answer)
			if err != nil {
				return took, now, err
			}
			if whole {
				took = append(took, now-c.due)
				free = append(free, c)
				busy--
			}
		}
	}
}

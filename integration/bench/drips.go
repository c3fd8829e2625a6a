package main

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"edge/integration/bench/pace"
)

// Drips are clients that send a byte now and then, and never come to an end. They
// keep to the loop of a Pace: they are beside its requests. One that is cut is not followed by another.
type Drips struct {
	kinds  []Drip
	number int           // of each kind
	every  time.Duration // how often each sends a byte
	sink   *sink         // what they are clients of, when that is not the server

	loop  *pace.Loop
	began time.Time
	open  []*drip           // in the order in which they are due
	cuts  [][]time.Duration // of each kind: how long those lasted that were cut
}

// Drip is a kind of slow client.
type Drip struct {
	name  string
	text  string // what it sends, the last byte again and again
	first int    // so much of it at once, at the start
}

// slowKinds are clients that are slow with the head of a request, and with the body.
func slowKinds(host string) []Drip {
	head := "POST /pass/1024/0 HTTP/1.1\r\nHost: " + host + "\r\nContent-Type: text/plain\r\nContent-Length: 1000000\r\n\r\n"
	return []Drip{
		{name: "slow heads", text: "GET /1024/0 HTTP/1.1\r\nHost: " + host + "\r\nX-Slow: s"},
		{name: "slow bodies", text: head + "s", first: len(head)},
	}
}

// sink lets the system take connections for it, and never looks at them. A client
// that is slow with a sink gives the load generator the same work as one that is slow
// with a server, and the server none.
type sink struct {
	listener net.Listener
	address  syscall.SockaddrInet4
}

func openSink() (*sink, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address, err := pace.ParseAddress(listener.Addr().String())
	if err != nil {
		listener.Close()
		return nil, err
	}
	return &sink{listener, address}, nil
}

func (s *sink) close() { s.listener.Close() }

// drip is one of Drips.
type drip struct {
	kind   int
	fd     int // 0 when there is none
	opened time.Duration
	due    time.Duration // the next byte
	sent   int
}

// Begin opens all. Their bytes are spread evenly over time.
func (d *Drips) Begin(loop *pace.Loop) error {
	d.loop, d.open, d.cuts = loop, nil, make([][]time.Duration, len(d.kinds))
	d.began = time.Now()
	for i := range d.number * len(d.kinds) {
		one := &drip{kind: i % len(d.kinds)}
		if err := d.start(one); err != nil {
			return err
		}
		d.open = append(d.open, one)
	}
	now := time.Since(d.began)
	for i, one := range d.open {
		one.due = now + d.every*time.Duration(i)/time.Duration(len(d.open))
	}
	return nil
}

// End closes all, and leaves what was seen.
func (d *Drips) End() {
	for _, one := range d.open {
		if one.fd != 0 {
			d.loop.Drop(one.fd)
			one.fd = 0
		}
	}
}

func (d *Drips) start(one *drip) (err error) {
	one.opened, one.sent = time.Since(d.began), d.kinds[one.kind].first
	to := d.loop.Server()
	if d.sink != nil {
		to = &d.sink.address
	}
	if one.fd, err = d.loop.Open(one, to); err != nil {
		return fmt.Errorf("open a slow connection: %w", err)
	}
	_, err = syscall.Write(one.fd, []byte(d.kinds[one.kind].text[:one.sent]))
	return err
}

// Go sends the bytes that are due.
func (d *Drips) Go() error {
	now := time.Since(d.began)
	for len(d.open) > 0 && d.open[0].due <= now {
		one := d.open[0]
		d.open = append(d.open[1:], one)
		one.due += d.every
		if one.fd == 0 {
			continue
		}
		text := d.kinds[one.kind].text
		at := min(one.sent, len(text)-1)
		one.sent++
		// A connection that was closed is reported as ready, and counted then.
		if _, err := syscall.Write(one.fd, []byte{text[at]}); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			return fmt.Errorf("send a slow byte: %w", err)
		}
	}
	return nil
}

// Heard takes what has come on a connection: an answer, which is no end yet, or the
// end, which is a cut.
func (d *Drips) Heard(owner any) error {
	one := owner.(*drip)
	if one.fd == 0 {
		return nil
	}
	var answer [4096]byte
	n, err := syscall.Read(one.fd, answer[:])
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) || err == nil && n > 0 {
		return nil
	}
	d.cuts[one.kind] = append(d.cuts[one.kind], time.Since(d.began)-one.opened)
	d.loop.Drop(one.fd)
	one.fd = 0
	return nil
}
